"""Effects of the Workflow controller besides its ControllerRevisions: the gateway's triggers."""

from __future__ import annotations

from dataclasses import dataclass

from pipewright.runner_facts import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTriggers:
    """Replace the workflow's triggers by these, all at once."""

    workflow_uid: str
    triggers: tuple[Trigger, ...]

    def __str__(self) -> str:
        revisions = ", ".join(sorted({trigger.revision for trigger in self.triggers}))
        return f"publish {len(self.triggers)} triggers at revision {revisions}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawTriggers:
    """Take the workflow's triggers away: no event starts a run any more."""

    workflow_uid: str

    def __str__(self) -> str:
        return "withdraw the triggers"


WorkflowAction = PublishTriggers | WithdrawTriggers
