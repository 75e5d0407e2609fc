"""Workflow: what to do when something happens in CI.

Owns      the kept revisions of its spec (ControllerRevisions) and the gateway's triggers.
Never     starts a run: the gateway decides, and WorkflowRun does.
Says      Ready, Understood, IntegrationsFound, Published.
"""
