"""The words of records and events: CDEvents' where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Phase = Literal["queued", "started", "finished"]
Outcome = Literal["", "success", "failure", "cancel", "error", "skip"]
Band = Literal["low", "medium", "high", "unsure"]
EventType = Literal[
    "pipelinerun.queued",
    "pipelinerun.started",
    "pipelinerun.finished",
    "taskrun.queued",
    "taskrun.started",
    "taskrun.finished",
    "artifact.published",
    "artifact.deleted",
    "artifact.scanned",
]
ArtifactChange = Literal["published", "deleted", "scanned"]

Operation = Literal["deployed", "upgraded", "rolledback", "removed", "published"]
"""What is done with a service, in the words of CDEvents."""
DetailType = Literal["step", "test", "commit", "deployment"]
"""What is kept and no workflow waits for."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
OUTCOMES: Final[tuple[Outcome, ...]] = tuple(outcome for outcome in get_args(Outcome) if outcome)
TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
ARTIFACT_CHANGES: Final[tuple[ArtifactChange, ...]] = get_args(ArtifactChange)
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
SEVERITIES: Final = ("critical", "high", "medium", "low", "unknown")
"""How grave a vulnerability is, worst first; `unknown` are also those that a scanner calls negligible."""

TEXT_LIMITS: Final[Mapping[str, int]] = {
    "project": 200,
    "pipeline": 255,
    "run": 64,
    "id": 64,
    "trigger": 64,
    "branch": 255,
    "sha": 64,
    "actor": 128,
    "name": 512,
    "runner": 255,
    "url": 2048,
    "repository": 255,
    "tag": 128,
    "digest": 135,
    "mediaType": 128,
    "job": 64,
    "suite": 255,
    "environment": 255,
    "service": 255,
    "change": 64,
}
"""The longest text of each field of a record, in characters. Longer ones are refused, never cut."""

MAX_LABELS: Final = 50
MAX_LABEL: Final = 128
MAX_PARENTS: Final = 50
MAX_NUMBER: Final = 2**53
MAX_ATTEMPT: Final = 10_000
