"""What a provider says of a run, a job or an artifact."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from datetime import datetime

from pipewright.records.words import ArtifactChange, EventType, Outcome, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One attempt of a provider's run, as far as one delivery or one line of history tells.

    A finished one has `outcome`, `started_at` and `finished_at`; a started one `started_at`; a queued one
    `queued_at`. Some providers tell the start only by a delivery of its own. No order of the three is
    promised: providers' clocks disagree by seconds.
    """

    project: str
    pipeline: str
    id: str
    attempt: int
    number: int = 0
    trigger: str = ""
    branch: str = ""
    sha: str = ""
    actor: str = ""
    """The person's login at the provider: personal data; the store turns it into a surrogate."""
    phase: Phase
    outcome: Outcome = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    url: str = ""

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"pipelinerun.{self.phase}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job of an attempt of a run, as far as one delivery or one line of history tells."""

    project: str
    pipeline: str = ""
    """Empty where the provider does not name it with the job: the run, found by its id, knows."""
    run: str
    """The provider's id of the run."""
    attempt: int
    """The attempt of the run that this job belongs to."""
    id: str
    name: str
    branch: str = ""
    sha: str = ""
    phase: Phase
    outcome: Outcome = ""
    runner: str = ""
    labels: tuple[str, ...] = ()
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"taskrun.{self.phase}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """What a registry says about a container image, or another artifact, in one of its repositories.

    It has a tag, a digest or both: some registries tell only one. The counts are of vulnerabilities that a
    scan found; a scan that did not come to its end has the outcome `error` and no counts.
    """

    event: ArtifactChange
    project: str
    """What an Integration's `projects` name; registries differ in what belongs to it."""
    repository: str
    """As the registry's API takes it, without the registry's address."""
    tag: str = ""
    digest: str = ""
    """Such as sha256:…"""
    media_type: str = ""
    actor: str = ""
    """The person's login at the registry: personal data; the store turns it into a surrogate."""
    at: datetime | None = None
    """None where the registry does not tell: it was received then."""
    outcome: Outcome = ""
    """Of a scan."""
    critical: int = 0
    high: int = 0
    medium: int = 0
    low: int = 0
    unknown: int = 0
    url: str = ""

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"artifact.{self.event}")
