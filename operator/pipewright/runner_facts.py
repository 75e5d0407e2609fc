"""What the runner's ports report, as values: `facts` for Integration, Workflow and WorkflowRun. No I/O.

Here too are the few names that only the runner and the gateway must agree on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pipewright import errors, events

ACTIVE = "Active"
"""The one state of a tenant in which anything is done for it."""
SUSPENDED = "Suspended"
"""The state of a tenant that is shut out for a while: nothing begins for it, what it has stays."""
DELETING = "Deleting"
"""The state of a tenant that is being taken away, or locked: its database may not be there any more."""

NOT_A_TENANTS = timedelta(seconds=30)
"""How soon to look again at an object in a namespace that is no tenant's."""
RESUMED = timedelta(seconds=30)
"""How soon to look again whether a suspended tenant was resumed; one look costs a read of the registry."""


def webhook_path(tenant_id: str, integration_uid: str) -> str:
    """Where an Integration's webhook secret lies in Vault; the tenant cannot read it there."""
    return f"{tenant_id}/platform/integrations/{integration_uid}"


def route_context(hook_id: str) -> str:
    """What a route's sealed secret is bound to."""
    return f"pipewright/route/{hook_id}"


def hook_path(hook_id: str) -> str:
    """The path below the gateway's address to which a provider sends its events."""
    return f"/hooks/{hook_id}"


INTEGRATION_LABEL = "pipewright.dev/integration"
"""On the webhook's Secret: the Integration it belongs to."""
WORKFLOW_LABEL = "pipewright.dev/workflow"
"""On a ControllerRevision: the Workflow whose spec it keeps, bounded as a label's value is."""


def webhook_secret(integration: str) -> str:
    """The Secret in the namespace with what the provider's webhook settings want."""
    return f"{integration}-webhook"


# --- tenants ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRef:
    """The tenant of a namespace, as the registry has it."""

    id: str
    uid: str
    """The Tenant's UID: the owner's mark on what lies in Vault."""
    name: str
    state: str
    server: str
    """The name of the server that its database is on."""
    resumed_at: datetime | None = None
    """End of the last suspension."""


def require_active(tenant: TenantRef | None, *, namespace: str, or_suspended: bool = False) -> TenantRef:
    """The tenant, if anything may be done for it.

    Raises:
        Waiting: the namespace is no tenant's (yet), or the tenant is not Active.
    """
    if tenant is None:
        message = f"the namespace {namespace} belongs to no tenant: use a namespace that a Tenant lists"
        raise errors.Waiting("NoTenant", message, after=NOT_A_TENANTS)
    if tenant.state == SUSPENDED:
        if or_suspended:
            return tenant
        raise errors.Waiting("TenantSuspended", suspended(tenant), after=RESUMED)
    if tenant.state != ACTIVE:
        message = f"the tenant {tenant.name} is {tenant.state}; this goes on when it is {ACTIVE}"
        raise errors.Waiting("TenantNotActive", message)
    return tenant


def suspended(tenant: TenantRef) -> str:
    """The sentence for everything that waits for its tenant to be resumed."""
    return f"the tenant {tenant.name} is suspended; this goes on when it is resumed"


# --- what the gateway is told -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookKeys:
    """What is kept of a webhook, without the secrets: one counts, and while it is rotated two are good."""

    hook: str
    """The random part of the webhook's path."""
    version: int
    """Of all of it, as whoever keeps it counts: what check-and-set compares."""
    number: int
    """Of the secret that counts; a rotation's is the next."""
    issued_at: datetime
    """When that one was made."""
    rotating: bool = False
    """The one before is good, too."""
    overlap_since: datetime | None = None
    """Since when the new one is in everybody's hands, and the old one's time runs."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of those that are good, the one that counts first."""
        return (self.number, self.number - 1) if self.rotating else (self.number,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a webhook's path leads; the sealed secret stays in its row."""

    hook_id: str
    tenant_id: str
    namespace: str
    integration: str
    integration_uid: str
    connector: str
    projects: tuple[str, ...]
    config: Mapping[str, Any] = field(hash=False)
    enabled: bool
    allow_unsigned: bool = False
    """Deliveries that nobody signed are taken, where the connector has no signatures."""
    sealed_to: str | None = None
    """Fingerprint of the gateway's key that the webhook secret is sealed to."""
    keys: tuple[int, ...] = ()
    """Numbers of the webhook's secrets that are sealed, the one that counts first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A project's webhook at the provider that is ours, or may be: noted before the first request."""

    project: str
    next_look: datetime
    tried: bool = False
    """It was seen there, or was to be made; otherwise only a look failed."""
    id: str = ""
    """The provider's; empty until it was seen there."""
    url: str = ""
    """The address that it surely has; empty: none is known."""
    key: int = 0
    """The number of the secret that it surely has; 0: none is known."""
    asked: str = ""
    """What it was to be when it was looked at last."""
    reason: str = ""
    """Why it could not be looked at or changed; empty: nothing was in the way."""
    message: str = ""
    arrived_until: datetime | None = None
    """What was sent before then has arrived, or is given up; None: nobody has looked."""
    next_deliveries: datetime | None = None
    """When to look next whether deliveries are missed; None: at once."""
    missed: int = 0
    """Deliveries that had not arrived at the last look."""
    missed_since: datetime | None = None
    """When the first of them was sent."""
    filled_at: datetime | None = None
    """When a delivery that had failed arrived last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedDelivery:
    """A delivery that has never arrived."""

    id: str
    """What the provider is asked with for another try."""
    at: datetime
    """When it was sent first."""
    last: datetime
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLook:
    """What a provider says of the deliveries to a webhook."""

    missed: tuple[MissedDelivery, ...]
    """The oldest first."""
    filled_at: datetime | None
    """When the last of those arrived that had failed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHook:
    """A webhook of ours as the provider has it."""

    id: str
    url: str
    current: bool
    """It is on, and for the events that are used; of its secret no provider tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One event that starts runs of a workflow, at one revision."""

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


# --- providers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """What the credentials may do at the provider, and what they would have to."""

    granted: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialCheck:
    """What came of showing the credentials to the provider."""

    accepted: bool | None
    """None: the provider did not say."""
    reason: str
    message: str
    scopes: Scopes | None = None
    """None: the provider does not tell what the credentials may do."""


HISTORY_AGAIN = timedelta(minutes=5)
"""When to try again to read a history that could not be read; a person may have to do something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why something could not go on, and when to try again."""

    reason: str
    message: str
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPart:
    """A part of a project's history at the provider, as far as it was read."""

    records: tuple[events.Record, ...] = field(repr=False)
    cursor: str | None
    """Where to read on; None when all that was asked for is read."""
    trouble: Trouble | None = None
    """What ended the reading early."""
    left_out: tuple[str, ...] = ()
    """What was not understood, the first few: fields and reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What came of reading a part and storing it."""

    cursor: str | None
    """Everything before it is stored."""
    trouble: Trouble | None = None
    left_out: tuple[str, ...] = ()
    """What was not understood, the first few: fields and reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What came of an action at a provider.

    `Failed`: it surely did not happen, so trying again is safe. `Unknown`: it may have happened.
    """

    phase: Literal["Succeeded", "Failed", "Unknown"]
    message: str = ""
    result: Any = field(default=None, hash=False)
    """What the provider gave, as JSON."""
    after: timedelta | None = None
    """Of a failure: not now, but after so long. It says nothing against the action, so it counts for none."""


# --- the journal --------------------------------------------------------------------------------------

AttemptPhase = Literal["Running", "Succeeded", "Failed", "Skipped", "Unknown"]
RunPhase = Literal["Running", "Succeeded", "Failed", "Cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one step: the intent (Running), later with its outcome."""

    step: str
    number: int
    phase: AttemptPhase
    started_at: datetime
    finished_at: datetime | None = None
    message: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict, hash=False)
    not_before: datetime | None = None
    """It was put off until then: nothing was done, and it is none of the step's retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJournal:
    """What the journal knows of a run. It is the truth; the status is its bounded view."""

    phase: RunPhase
    started_at: datetime
    finished_at: datetime | None = None
    reason: str = ""
    """One word, and after a colon a sentence."""
    attempts: tuple[Attempt, ...] = ()
    """In the order of step and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Why a run is there: the event as the trigger saw it, and what the model said of it."""

    event: events.Event
    prediction: events.Prediction | None = None


def idempotency_key(run_uid: str, step: str, attempt: int) -> str:
    """The key that an action is done under: the same for every repetition of the same attempt."""
    return f"{run_uid}/{step}/{attempt}"
