"""The REST routes' bodies: what OpenAPI says of them is made from these sentences."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Item = TypeVar("Item")


class Body(BaseModel):
    """What a route takes or gives."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Answer(Body):
    """What a route gives, made from a value with the same fields."""

    model_config = ConfigDict(from_attributes=True)


class ProblemBody(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    reason: str = Field(description="One word for programs.")
    detail: str = Field(description="A sentence that says what to do.")


class RunToScore(Body):
    """A run of a CI system, as far as it is known before it starts."""

    project: Annotated[str, Field(min_length=1, max_length=200, description="Such as owner/name.")]
    pipeline: Annotated[str, Field(min_length=1, max_length=255, description="As the history has it.")]
    branch: Annotated[str, Field(max_length=255)] = ""
    trigger: Annotated[str, Field(max_length=64, description="Such as push or pull_request.")] = ""
    sha: Annotated[str, Field(max_length=64)] = ""
    actor: Annotated[str, Field(max_length=64, description="The surrogate that the history shows.")] = ""
    integration: Annotated[
        str, Field(max_length=253, description="Its Integration's name; needed where there are several.")
    ] = ""
    run: Annotated[str, Field(max_length=64, description="The provider's run id, for later attempts.")] = ""
    attempt: Annotated[int, Field(ge=1, le=10_000)] = 1
    failed_jobs: Annotated[
        tuple[Annotated[str, Field(max_length=255)], ...],
        Field(
            max_length=200,
            description="For the task FailureCause: names of the failed jobs.",
        ),
    ] = ()
    log: Annotated[
        str,
        Field(
            max_length=200_000,
            description="For the task FailureCause: the end of its log, of which the last 20,000 characters "
            "are read. It is not kept.",
        ),
    ] = ""


class ModelRef(Body):
    """A model and its version."""

    name: str
    version: str


class PredictionBody(Body):
    """Whether the run will fail."""

    probability: float = Field(description="That it fails, calibrated.")
    band: Literal["low", "medium", "high", "unsure"]
    reasons: tuple[str, ...] = Field(description="The facts that moved the answer most.")
    model: ModelRef


class RecordedPrediction(Body):
    """A prediction that was made and kept."""

    integration: str
    run: str = Field(description="The provider's run id.")
    attempt: int
    kind: Literal["run", "retry"] = Field(
        description="run: will this attempt fail? retry, made when it failed: would another attempt fail?"
    )
    probability: float = Field(description="That it fails, calibrated.")
    band: str
    reasons: tuple[str, ...]
    model: ModelRef
    scored_at: datetime


class DecisionBody(Body):
    """Whether a workflow fired on an event, and why or why not."""

    fired: bool
    reason: str
    event: dict[str, Any] = Field(description="As the condition saw it; people are surrogates.")
    prediction: dict[str, Any] | None = Field(description="As the condition saw it.")
    revision: str
    workflow_run: str | None = Field(description="Name of the WorkflowRun, when it fired.")
    decided_at: datetime


class DeliveryBody(Body):
    """A webhook delivery that was taken."""

    id: str = Field(description="The provider's id of the delivery.")
    event: str = Field(description="The provider's name of the event.")
    received_at: datetime
    outcome: Literal["stored", "ignored", "refused"] = Field(
        description="ignored: there was nothing in it to keep. refused: it is not understood."
    )
    reason: str = Field(description="Why it was ignored or refused; empty when it was stored.")


class ArtifactBody(Body):
    """A change of an artifact, as its registry told it."""

    event: Literal["published", "deleted", "scanned"]
    project: str
    repository: str = Field(description="As the registry's API takes it, without the registry's address.")
    tag: str
    digest: str = Field(description="Empty where the registry does not tell.")
    media_type: str
    actor: str = Field(description="A surrogate, or empty.")
    at: datetime = Field(description="When it happened; when it was received if the registry tells none.")
    outcome: str = Field(description="Of a scan: success, or error if it came to no end.")
    vulnerabilities: dict[str, int] = Field(description="What a scan found, by severity; else empty.")
    url: str
    delivery: str = Field(description="The provider's id of the delivery.")


class ImportedBody(Body):
    """How much was imported."""

    runs: int = Field(description="Runs in the body, stored before or not.")
    jobs: int
    steps: int = 0
    tests: int = 0
    commits: int = 0
    deployments: int = 0
    passed_over: int = Field(
        0, description="Steps and tests that finished more than 400 days ago: they are not kept."
    )
    lines: int = Field(description="Lines of work (branches, pipelines, …) that got an outcome.")


class DeliveryAnswer(Body):
    """What became of a delivery."""

    accepted: bool = False
    duplicate: bool = Field(False, description="It was taken before; nothing changed.")
    ignored: str = Field("", description="Why there is nothing to keep in it.")
    refused: str = Field("", description="What of it is not understood; it is kept as a dead letter.")
    parked: bool = Field(False, description="The tenant is suspended: it is kept until it is resumed.")
    batch: dict[str, int] | None = Field(
        None, description="Of a body with several events: how many are stored, duplicate, ignored or parked."
    )


class Page(Body, Generic[Item]):
    """A part of a list, newest first."""

    items: tuple[Item, ...]
    next: str | None = Field(description="The cursor of the next page; null on the last.")
