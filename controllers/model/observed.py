"""What one look at a Model finds. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

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
class Member:
    """Another tenant's Model that gives its runs to the pool now."""

    key: str
    """Names it to this model alone; see `pooling.key`."""
    tenant: TenantRef = field(repr=False)
    since: datetime
    """Where its window begins: neither further back than its own spec says, nor than this model's."""
    integrations: tuple[str, ...] | None = field(repr=False)
    """UIDs; None: all."""
    runs: RunCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What was seen of a Model's pool."""

    is_allowed: bool
    """Its own Tenant has the pool among its modelPools."""
    consenting: frozenset[str] | None = None
    """Keys of all other Models in it that both sides let share; None: not looked at."""
    members: tuple[Member, ...] = ()
    """Those that have something to give now, one of each tenant; looked at where a training may need them."""


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
    pool: Pool | Unknown | None = None
    """None: the spec names none."""
    has_files: bool = False
    """Looked at for a teardown only."""
    has_lent: bool = False
    """Windows that a pool lent lie there; looked at for a teardown only."""

    @property
    def running(self) -> Training | None:
        """The attempt that is under way, if that is known."""
        if isinstance(self.trainings, Unknown) or not self.trainings or not self.trainings[0].running:
            return None
        return self.trainings[0]
