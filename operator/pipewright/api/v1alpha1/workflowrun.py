"""WorkflowRun: one execution of a Workflow, pinned to the revision and the event that started it."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import (
    AGE,
    Base,
    Column,
    Count,
    DnsLabel,
    Resource,
    Status,
    Time,
    condition_columns,
    immutable,
    rules,
)
from pipewright.api.v1alpha1.workflow import EventType

StepPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Skipped", "Unknown"]


class WorkflowRef(Base):
    """The workflow that runs."""

    name: DnsLabel
    """The Workflow's name."""
    revision: DnsLabel
    """The name of the spec that the run is pinned to, as in the Workflow's status.revision."""


class EventRef(Base):
    """The event that started the run; its content lies in the tenant's database."""

    integration: DnsLabel
    """The Integration that received it."""
    delivery_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The provider's id of the delivery."""
    type: EventType
    """What happened, e.g. pipelinerun.finished."""
    project: Annotated[str, Field(max_length=255)] | None = None
    """The project in which it happened, e.g. owner/name."""
    run_id: Annotated[str, Field(max_length=128)] | None = None
    """The provider's id of the run that the event is about."""
    attempt: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Which attempt of that run the event is about."""


class WorkflowRunSpec(Base):
    """What runs, and why; cannot be changed."""

    model_config = ConfigDict(json_schema_extra=rules(immutable("spec")))

    workflow: WorkflowRef
    """The workflow that runs, and its revision."""
    event: EventRef
    """The event that started the run."""


class StepStatus(Base):
    """How far one step is."""

    name: DnsLabel
    """The step's name."""
    phase: StepPhase
    """Where the step is: Pending, Running, Succeeded, Failed, Skipped or Unknown."""
    attempt: Count = 0
    """How often it was tried, this time included; 0 before the first."""
    started_at: Time | None = None
    """When the first try began."""
    finished_at: Time | None = None
    """When the last try ended."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """Why it is so, for people."""


class WorkflowRunStatus(Status):
    """How far the run is; a bounded view of the journal."""

    started_at: Time | None = None
    """When the run began."""
    finished_at: Time | None = None
    """When the run ended."""
    steps: Annotated[
        tuple[StepStatus, ...],
        Field(
            max_length=30,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """How far each step is, in the workflow's order."""


class WorkflowRun(Resource):
    """One execution of a Workflow; Pipewright creates it when an event fires a trigger."""

    kind: ClassVar[str] = "WorkflowRun"
    plural: ClassVar[str] = "workflowruns"
    singular: ClassVar[str] = "workflowrun"
    short_names: ClassVar[tuple[str, ...]] = ("pwr",)
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    printer_columns: ClassVar[tuple[Column, ...]] = (
        *condition_columns("Succeeded"),
        Column(name="Workflow", path=".spec.workflow.name", description="The workflow that runs."),
        AGE,
        Column(name="Event", path=".spec.event.type", description="What started the run.", priority=1),
        Column(
            name="Message",
            path='.status.conditions[?(@.type=="Succeeded")].message',
            description="Message of the Succeeded condition.",
            priority=1,
        ),
    )

    selectable_fields: ClassVar[tuple[str, ...]] = (".spec.workflow.name",)

    spec: WorkflowRunSpec
    """What runs, and why; cannot be changed."""
    status: WorkflowRunStatus = WorkflowRunStatus()
    """How far the run is; written by Pipewright."""
