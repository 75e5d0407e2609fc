"""What a provider says of steps, tests, commits and deployments. No workflow waits for them.

Steps and tests are told when they have finished: there are many of them, and before that they say little.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipewright.records.words import DetailType, Operation, Outcome, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a job, finished."""

    project: str
    run: str
    """The provider's id of the run."""
    attempt: int
    """Of the run."""
    job: str
    """The provider's id of the job."""
    number: int
    """Its place in the job; with the job's id it is the step's key."""
    name: str
    outcome: Outcome
    started_at: datetime | None = None
    finished_at: datetime

    @property
    def type(self) -> DetailType:
        """What kind of record it is."""
        return "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRecord:
    """One execution of a test, finished; without a name, of a whole suite."""

    __test__ = False  # pytest collects classes that are called so

    project: str
    id: str
    """The provider's id of the execution: its key. Where it has none, one that is made of run, attempt, job,
    suite and name: of those that are told alike within a job, the last one counts."""
    suite: str = ""
    name: str = ""
    pipeline: str = ""
    run: str = ""
    """The provider's id of the run; empty where it tells none."""
    attempt: int = 1
    """Of the run."""
    job: str = ""
    """The provider's id of the job."""
    branch: str = ""
    sha: str = ""
    outcome: Outcome
    started_at: datetime | None = None
    finished_at: datetime
    url: str = ""

    @property
    def type(self) -> DetailType:
        """What kind of record it is."""
        return "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """A commit on a branch, as a push or a merged change told it. Its message is not kept."""

    project: str
    sha: str
    branch: str = ""
    change: str = ""
    """The number of the pull or merge request that brought it to the branch."""
    actor: str = ""
    """The author's login at the provider: personal data; the store turns it into a surrogate."""
    parents: tuple[str, ...] = ()
    """Where the provider tells them."""
    at: datetime
    """When it was made, by its author's clock; when the change was merged."""
    url: str = ""

    @property
    def type(self) -> DetailType:
        """What kind of record it is."""
        return "commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """A deployment to an environment, as far as one delivery or one line of history tells."""

    operation: Operation = "deployed"
    project: str
    id: str
    environment: str
    service: str = ""
    pipeline: str = ""
    run: str = ""
    """The provider's id of the run that deploys."""
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
    def type(self) -> DetailType:
        """What kind of record it is."""
        return "deployment"
