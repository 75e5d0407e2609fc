"""What is recorded of a Model's trainings in a registry that people compare models with, as values. No I/O.

A run stands for a training that has ended, a version for one that predicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

SUBMISSION = "pipewright.submission_id"
"""The tag by which a run is found again."""
OWNER = "pipewright.tenant_id"
"""The tag by which a registered model is known as a tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """A training that has ended."""

    submission_id: str
    """The run is known by it: recorded twice it is the same."""
    attempt: int
    group: str
    """The tenant's name: what may be read together."""
    name: str
    succeeded: bool
    """It made a version, whether that passed its gates or not."""
    started_at: datetime
    finished_at: datetime
    tags: Mapping[str, str] = field(hash=False)
    params: Mapping[str, str] = field(hash=False)
    metrics: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedVersion:
    """The version that predicts."""

    model: str
    """The registered model's name."""
    owner: str
    """The tenant's id: a registered model of anybody else is left alone."""
    attempt: int
    """The training that made it."""
    source: str
    """Where its file lies in the artifact store."""
    tags: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be recorded now."""

    runs: Sequence[TrackedRun] = ()
    """The oldest first."""
    version: TrackedVersion | None = None
    known: Mapping[int, str] = field(default_factory=dict, hash=False)
    """Attempt → id of its run, of those that are recorded."""

    @property
    def is_nothing(self) -> bool:
        """All is recorded."""
        return not self.runs and self.version is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was recorded of it, and what stood in the way of the rest."""

    runs: Mapping[int, str] = field(default_factory=dict, hash=False)
    """Attempt → id of its run."""
    registered: tuple[str, str] | None = None
    """The registered model, and the number of the version that predicts."""
    trouble: tuple[str, str] | None = None
    """Reason and sentence, as a condition has them."""
