"""Rows of the databases as values. People appear under surrogates only; UIDs are text, as in Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Json = Mapping[str, Any]
PredictionKind = Literal["run", "retry"]
DeliveryOutcome = Literal["stored", "ignored", "refused"]
Attempt = tuple[str, str, int]
"""An attempt of a run, everywhere: the Integration's UID, the provider's run id and the number."""

# --- a tenant's database --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook delivery, by the id that the provider gave it."""

    integration: str
    """UID of the Integration."""
    delivery_id: str
    event: str
    """The provider's name of the event, such as workflow_run."""
    received_at: datetime
    outcome: DeliveryOutcome = "stored"
    reason: str = ""
    """Why it was ignored or refused; at most 500 characters, and no value from its body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAttempt:
    """What belongs to one attempt of a provider's run."""

    integration: str
    provider_id: str
    attempt: int

    @property
    def key(self) -> Attempt:
        """Which attempt it is."""
        return self.integration, self.provider_id, self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(OfAttempt):
    """One attempt of a provider's run, as all deliveries so far tell."""

    project: str
    pipeline: str
    number: int
    trigger: str
    branch: str
    sha: str
    actor: str
    """A surrogate, or empty."""
    phase: str
    outcome: str
    """Empty until finished."""
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    url: str
    failed_jobs: tuple[str, ...]
    """Names, sorted, of its jobs that failed or broke."""
    jobs: int
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A change of an artifact, as its registry told it."""

    id: int
    integration: str
    event: str
    project: str
    repository: str
    tag: str
    digest: str
    media_type: str
    actor: str
    """A surrogate, or empty."""
    at: datetime
    """When it happened; when it was received if the registry tells none."""
    outcome: str
    """Of a scan."""
    critical: int
    high: int
    medium: int
    low: int
    unknown: int
    url: str
    delivery_id: str
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(OfAttempt):
    """What a model said of an attempt."""

    reasons: tuple[str, ...]
    model_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Said):
    """That it fails (`run`), or that another attempt would (`retry`)."""

    kind: PredictionKind
    probability: float
    band: str
    scored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Said):
    """How long it takes, in seconds from its start."""

    p50: float
    p90: float
    p95: float
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Said):
    """Why it failed; texts are empty where the model does not know."""

    kind: str
    """infra, flaky, code, config or unsure."""
    category: str
    owner: str
    recipe: str
    transient: float
    """The probability that another attempt passes."""
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a workflow fired on an event, and why or why not."""

    workflow_uid: str
    integration: str
    delivery_id: str
    revision: str
    namespace: str
    workflow: str
    fired: bool
    reason: str
    event: Json = field(hash=False)
    prediction: Json | None = field(default=None, hash=False)
    run_name: str | None = None
    decided_at: datetime
    id: int | None = None
    """Rises with time; the cursor of lists. None until stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A row of the outbox: a WorkflowRun that a decision wants and that is to be created."""

    id: int
    namespace: str
    run_name: str
    manifest: Json = field(hash=False)
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """The journal's line for one WorkflowRun."""

    run_uid: str
    namespace: str
    name: str
    workflow_uid: str | None
    started_at: datetime
    finished_at: datetime | None = None
    phase: str = "Running"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt of a step: its intent (phase Running), later its outcome."""

    run_uid: str
    step: str
    attempt: int
    phase: str
    idempotency_key: str
    started_at: datetime
    finished_at: datetime | None = None
    message: str = ""
    outputs: Json = field(default_factory=dict, hash=False)
    not_before: datetime | None = None
    """The provider asked to wait until then: nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One attempt to train a model, written before the job is submitted."""

    submission_id: str
    model_uid: str
    attempt: int
    phase: str
    window_sha256: str
    window_uri: str
    rows: int
    artifact_uri: str
    report_uri: str
    started_at: datetime
    compute: str = ""
    """Where the job runs; empty: on the first cluster of the settings."""
    finished_at: datetime | None = None
    outcome: str | None = None
    reason: str = ""
    report: Json | None = field(default=None, hash=False)
    pool: Json | None = field(default=None, hash=False)
    """What other tenants lent to it; None: nothing."""


# --- the platform database ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant as the runner and the gateway find it in the registry."""

    id: str
    uid: str
    name: str
    server: str
    state: str
    namespaces: Mapping[str, str] = field(hash=False)
    """Namespace name → namespace UID."""
    bundle: bytes | None = field(default=None, repr=False)
    """Sealed to the gateway; None for readers who may not see it."""
    bundle_version: int | None = None
    bundle_key: str | None = None
    resumed_at: datetime | None = None
    """End of the last suspension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a webhook's path leads."""

    hook_id: str
    tenant_id: str
    namespace: str
    integration: str
    integration_uid: str
    connector: str
    projects: tuple[str, ...] = ()
    """Empty: all."""
    config: Json = field(default_factory=dict, hash=False)
    sealed_secret: bytes | None = field(default=None, repr=False)
    """The webhook secret, sealed to the gateway's key."""
    secret_key: str | None = None
    """Fingerprint of that key."""
    enabled: bool = True
    allow_unsigned: bool = False
    """Deliveries that nobody signed are taken, where the connector has no signatures."""
    webhook_keys: tuple[int, ...] = ()
    """Numbers of the webhook's secrets that are sealed, the one that counts first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRegistration:
    """A webhook at the provider that is ours, or may be: the row is there before the first request."""

    integration_uid: str
    project: str
    tried: bool
    """It was seen there, or was to be made; otherwise only a look failed."""
    provider_id: str
    """Empty until it was seen there."""
    url: str
    """The address that it surely has; empty: none is known."""
    webhook_key: int
    """The number of the secret that it surely has; 0: none is known."""
    asked: str
    """What it was to be when it was looked at last."""
    next_look: datetime
    reason: str
    """Why it could not be looked at or changed; empty: nothing was in the way."""
    message: str
    arrived_until: datetime | None
    """What was sent before then has arrived, or is given up; None: nobody has looked."""
    next_deliveries: datetime | None
    """When to look next whether deliveries are missed; None: at once."""
    missed: int
    """Deliveries that had not arrived at the last look."""
    missed_since: datetime | None
    filled_at: datetime | None
    """When a delivery that had failed arrived last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One entry of a workflow's `on` list."""

    workflow_uid: str
    position: int
    tenant_id: str
    namespace: str
    workflow: str
    revision: str
    event: str
    integration: str | None = None
    """An Integration's name; None: any of the namespace."""
    condition: str = ""
    """CEL; empty: always."""
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPointer:
    """The active version of a model. `generation` counts promotions, for compare-and-swap."""

    model_uid: str
    tenant_id: str
    namespace: str
    model: str
    task: str
    is_default: bool
    version: str
    artifact_uri: str
    artifact_sha256: str
    metrics: Json = field(default_factory=dict, hash=False)
    promoted_at: datetime
    control_share: float = 0.0
    """The share of runs on which nothing is done by their prediction."""
    generation: int = 1


Outcomes = Sequence[Sequence[Any]]
"""A line of work as the prediction's own code encodes it: opaque here."""
