"""WorkflowRun: one execution of a Workflow, pinned to a revision and to the event that started it.

Owns      the run's lines in the journal of the tenant's database, and what its steps do at providers.
Never     keeps a credential, or repeats an action that may have happened unless its step allows it.
Says      Succeeded: Unknown while it goes on, then True or False, and never anything else again.
"""
