"""Bodies of the routes over steps, tests, commits and deployments: OpenAPI's sentences are these."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from gateway.schemas import Body
from pipewright.records import Operation, Outcome, Phase


class StepBody(Body):
    """One step of a job that has finished."""

    run: str = Field(description="The provider's id of the run.")
    attempt: int = Field(description="Of the run.")
    job: str = Field(description="The provider's id of the job.")
    number: int = Field(description="Its place in the job.")
    project: str
    name: str
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime


class TestBody(Body):
    """One execution of a test."""

    __test__ = False

    test: str = Field(description="The provider's id of the execution.")
    run: str = Field(description="The provider's id of the run; empty where it tells none.")
    attempt: int = Field(description="Of the run.")
    job: str = Field(description="The provider's id of the job; empty where it tells none.")
    project: str
    pipeline: str
    suite: str
    name: str = Field(description="Empty: the whole suite.")
    branch: str
    sha: str
    outcome: Outcome
    started_at: datetime | None
    finished_at: datetime
    url: str


class CommitBody(Body):
    """A commit on a branch."""

    project: str
    sha: str
    branch: str
    change: str = Field(description="The pull or merge request that brought it to the branch.")
    actor: str = Field(description="Its author, as a surrogate; empty where nobody is known.")
    parents: tuple[str, ...] = Field(description="Where the provider tells them.")
    at: datetime
    url: str


class DeploymentBody(Body):
    """A deployment to an environment."""

    deployment: str = Field(description="The provider's id of the deployment.")
    operation: Operation
    project: str
    environment: str
    service: str
    pipeline: str
    run: str = Field(description="The provider's id of the run that deploys; empty where it tells none.")
    branch: str
    sha: str
    actor: str = Field(description="Who deployed, as a surrogate; empty where nobody is known.")
    phase: Phase
    outcome: Outcome = Field(description="Empty until finished.")
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    url: str
    seen_at: datetime = Field(description="When the provider last told something of it.")
