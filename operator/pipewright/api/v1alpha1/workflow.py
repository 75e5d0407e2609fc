"""Workflow: what to do when something happens in CI, as steps with conditions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipewright.api.meta import (
    AGE,
    MESSAGE,
    Base,
    Between,
    Cel,
    Column,
    DnsLabel,
    Duration,
    Matching,
    Resource,
    Rule,
    Ruled,
    Status,
    condition_columns,
    parse_duration,
)

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
"""What can happen, in the words of CDEvents: a pipelineRun is a provider's run, a taskRun one of its jobs, an
artifact what a registry holds."""

# The message cannot say which step: the server's cost estimate refuses a text made from a list of steps.
_UNIQUE_NAMES = Rule(
    cel="self.all(i, step, !self.exists(j, other, j < i && other.name == step.name))",
    message="steps[].name must be unique within the workflow: rename one of the two steps",
)
_NEEDS_EARLIER = Rule(
    cel="self.all(i, step, !has(step.needs)"
    " || step.needs.all(need, self.exists(j, other, j < i && other.name == need)))",
    message="steps[].needs may name only earlier steps: put the needed step before the one that needs it",
)

InputName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Template = Annotated[str, Field(max_length=4096)]
"""A text with holes of the form ``${{ cel }}``."""
OutputName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class Trigger(Base):
    """One kind of event that starts a run."""

    event: EventType
    """What must happen, e.g. pipelinerun.finished."""
    integration: DnsLabel | None = None
    """The Integration of this namespace whose events count; all of them when absent."""
    if_: Cel | None = Field(None, alias="if")
    """A CEL expression over event and prediction that must be true, e.g. event.outcome == 'failure'."""


class Retry(Base):
    """How often a failed step is tried again."""

    limit: Annotated[int, Field(ge=0, le=10)] = 0
    """How many more times a failed step is tried."""
    backoff: Annotated[Duration, Between("1s", "1h")] = parse_duration("10s")
    """How long to wait before the first further try, 1s to 1h; doubles with each."""


class Step(Base):
    """One action of the workflow."""

    name: DnsLabel
    """The step's name, unique within the workflow; later steps use it in needs and steps."""
    needs: Annotated[
        tuple[DnsLabel, ...], Field(max_length=29, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """The earlier steps that must have succeeded before this one starts."""
    if_: Cel | None = Field(None, alias="if")
    """A CEL expression over event, prediction and steps; the step is skipped unless it is true."""
    uses: Annotated[
        str,
        Field(max_length=127),
        Matching(
            r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
            "uses must be an Integration's name, a slash and an action's name, e.g. github/comment",
        ),
    ]
    """The action: an Integration of this namespace, a slash, an action of its connector."""
    with_: Annotated[dict[InputName, Template], Field(max_length=20)] = Field({}, alias="with")
    """The action's inputs by name; a text may have holes of the form ${{ cel }}."""
    retry: Retry = Retry()
    """How often the step is tried again after it failed."""
    timeout: Annotated[Duration, Between("1s", "100s")] = parse_duration("60s")
    """How long one try, a request to the CI system, may take before it is given up, 1s to 100s."""
    on_unknown: Literal["Fail", "Retry"] = "Fail"
    """What to do when nobody knows whether the action happened and repeating is not safe: Fail or Retry."""
    outputs: Annotated[dict[OutputName, Cel], Field(max_length=20)] = Field({})
    """Values that later steps may use, by name, as CEL expressions over result (the action's answer)."""


class WorkflowSpec(Base):
    """What starts the workflow, and what it does."""

    triggers: Annotated[tuple[Trigger, ...], Field(min_length=1, max_length=10)]
    """The events that start a run; any one of them suffices, and one event starts at most one run."""
    suspended: bool = False
    """Whether new events start no run; runs that have started go on."""
    timeout: Annotated[Duration, Between("1s", "24h")] = parse_duration("1h")
    """How long one run may take as a whole before it is ended as failed, 1s to 24h."""
    steps: Annotated[
        tuple[Step, ...],
        Field(min_length=1, max_length=30),
        Ruled(_UNIQUE_NAMES, _NEEDS_EARLIER),
    ]
    """The actions; those that need each other run in order, the others side by side."""


class WorkflowStatus(Status):
    """Whether the workflow is understood and listening."""

    revision: DnsLabel | None = None
    """The name of the current spec among those kept; new runs are pinned to it."""


class Workflow(Resource):
    """What to do when something happens in CI, as steps with conditions."""

    kind: ClassVar[str] = "Workflow"
    plural: ClassVar[str] = "workflows"
    singular: ClassVar[str] = "workflow"
    short_names: ClassVar[tuple[str, ...]] = ("pwf",)
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    printer_columns: ClassVar[tuple[Column, ...]] = (
        *condition_columns(),
        Column(name="Suspended", type="boolean", path=".spec.suspended", description="No new runs start."),
        AGE,
        Column(
            name="Revision", path=".status.revision", description="The name of the current spec.", priority=1
        ),
        MESSAGE,
    )

    spec: WorkflowSpec
    """What starts the workflow, and what it does."""
    status: WorkflowStatus = WorkflowStatus()
    """Whether the workflow is understood and listening; written by Pipewright."""
