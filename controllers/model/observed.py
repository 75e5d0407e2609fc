"""What one look at a Model finds. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ml import contract
from pipewright import errors
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import JobStatus, Pointer, RunCount, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A server did not answer, so nothing is known and nothing is done about its part."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job left in the artifact store."""

    report: contract.Report | None = None
    problem: str = ""
    """Why there is no report although its file is there."""
    artifact_sha256: str | None = None
    """Digest of the model file as it lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of a Model, at one look."""

    tenant: TenantRef | None
    pointer: Pointer | None = None
    other_default: str | None = None
    """Another model that is the namespace's default for this task."""
    integrations: Mapping[str, str | None] = field(default_factory=dict)
    """Name in the spec → UID."""
    trainings: Sequence[Training] | Unknown = ()
    """The newest first."""
    job: JobStatus | Unknown | None = None
    unusable: errors.Stalled | None = None
    """Why no training can run where the spec wants it."""
    result: Result | Unknown | None = None
    runs: RunCount | Unknown | None = None
    """How many the window has to learn from; None: not counted."""
    drift: float | Unknown | None = None
    """The population stability index of what the active version said; None: not asked, or not known."""
    is_lost: bool = False
    """The active version's file has left the artifact store; a store that does not answer lost none."""
    spoiled: str | Unknown | None = None
    """Why the version that is next to be promoted cannot be: its file is gone, or another."""
    has_files: bool = False
    """Looked at for a teardown only."""

    @property
    def running(self) -> Training | None:
        """The attempt that is under way, if that is known."""
        if isinstance(self.trainings, Unknown) or not self.trainings or not self.trainings[0].running:
            return None
        return self.trainings[0]
