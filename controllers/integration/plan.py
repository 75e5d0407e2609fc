"""What an Integration needs done, from what was seen. Pure: the list of rules is the documentation.

Events can come in without valid credentials and actions can go out without a webhook, so the two are planned
apart. Nothing is told to the gateway of a config that the connector does not understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from connectors.mistakes import ConfigError
from connectors.verify.unsigned import Unsigned
from controllers.integration import objects
from pipewright import actions as act
from pipewright import conditions, plan
from pipewright.actions import RunnerAction
from pipewright.api.v1alpha1 import Integration
from pipewright.plan import chain, merge, says
from pipewright.runner_facts import (
    CredentialCheck,
    ProviderHook,
    Registered,
    Route,
    TenantRef,
    Trouble,
    WebhookKeys,
)

if TYPE_CHECKING:
    from connectors.manifest import Manifest

Plan = plan.Plan[RunnerAction]

CREDENTIALS = "CredentialsValid"
WEBHOOK = "WebhookReady"
CONDITIONS = (CREDENTIALS, WEBHOOK)

RETRY = timedelta(seconds=10)
"""When to look again at a server of ours that did not answer."""
CHECK_AGAIN = timedelta(seconds=30)
"""When to look again at credentials that were missing or refused: their Secret is not watched."""
ASK_AGAIN = timedelta(seconds=60)
"""When to ask a provider again that did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A server did not answer, so nothing is known and nothing is done about its part."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The webhook's Secret in the namespace, without its values."""

    ours: bool
    """It was made for this Integration."""
    current: bool
    """It holds what Vault has, and the gateway's present address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of an Integration, at one look."""

    gateway_key: str
    known: tuple[str, ...]
    """The names of all connectors."""
    connector: Manifest | None = None
    broken: str = ""
    """Why there is no connector of this name, although somebody brings one."""
    tenant: TenantRef | None = None
    route: Route | None = None
    keys: WebhookKeys | Unknown | None = None
    """What is kept of the webhook's path and secrets."""
    projection: Projection | None = None
    credentials: CredentialCheck | None = None
    """What the provider said; None when it could not be asked."""
    hook_url: str = ""
    """The webhook's whole address; empty while there is none."""
    registered: tuple[Registered, ...] = ()
    """What is noted of webhooks at the provider."""
    hooks: Mapping[str, tuple[ProviderHook, ...] | Trouble] = field(default_factory=dict)
    """What the provider has of ours, by project, as far as it was looked at now."""


def plan_integration(integration: Integration, observed: Observed) -> Plan:
    """What is missing or different. Empty when nothing is."""
    if observed.connector is None and observed.broken:
        message = (
            f"spec.connector: {integration.spec.connector} cannot be used: {observed.broken}; "
            "the platform team mends it, and starts runner and gateway again"
        )
        return _stalled("ConnectorBroken", message)
    if observed.connector is None:
        known = ", ".join(observed.known)
        message = f"spec.connector: there is no connector {integration.spec.connector}; there is {known}"
        return _stalled("UnknownConnector", message)
    try:
        observed.connector.configure(integration.spec.config)
    except ConfigError as refused:
        return _stalled("InvalidConfig", f"spec.config: {refused}")
    return merge(_credentials(integration, observed.credentials), _webhook(integration, observed))


def _stalled(reason: str, message: str) -> Plan:
    return merge(
        says(WEBHOOK, False, reason, message, stalled=True),
        says(CREDENTIALS, None, reason, "the credentials are checked when the spec is understood"),
    )


# --- credentials --------------------------------------------------------------------------------------


def _credentials(integration: Integration, check: CredentialCheck | None) -> Plan:
    if check is None:
        return says(CREDENTIALS, None, "NotYetChecked", "the credentials are checked next")
    fact = says(CREDENTIALS, check.accepted, check.reason, check.message)
    if check.accepted:
        return fact
    last = conditions.find(integration.status.conditions, CREDENTIALS)
    told = last is not None and last.status == "True" and last.observed_generation == integration.generation
    if check.accepted is None and last is not None and told:
        # a CI system that is down says nothing against what it accepted, as long as the spec is the same
        fact = says(CREDENTIALS, True, last.reason, last.message)
    again = ASK_AGAIN if check.accepted is None else CHECK_AGAIN
    return merge(fact, Plan(check_after=again))


# --- webhook ------------------------------------------------------------------------------------------


def _webhook(integration: Integration, observed: Observed) -> Plan:
    tenant, keys, projection = observed.tenant, observed.keys, observed.projection
    assert tenant is not None, "the reconcile waits until there is an active tenant"
    if observed.route is None and _refused(integration, observed):
        return _webhook_says(integration, observed)
    if isinstance(keys, Unknown):
        return merge(says(WEBHOOK, None, keys.reason, keys.message), Plan(check_after=RETRY))
    if projection is not None and not projection.ours:
        name = objects.webhook_secret_ref(integration).name
        message = f"the Secret {name} is not this Integration's: delete it, or name the Integration otherwise"
        return merge(says(WEBHOOK, False, "SecretOwnedByOther", message), Plan(check_after=CHECK_AGAIN))
    issue = act.IssueWebhookSecret(
        tenant_id=tenant.id, tenant_uid=tenant.uid, integration_uid=integration.uid
    )
    project = act.ProjectWebhookSecret(
        tenant_id=tenant.id,
        namespace=integration.namespace,
        integration=integration.name,
        integration_uid=integration.uid,
    )
    routed = keys is not None and observed.route == wanted_route(integration, tenant, keys, observed)
    return merge(
        chain(
            WEBHOOK,
            *(() if keys is not None else (issue,)),
            # the gateway takes what a secret signs before anybody can have the secret
            *(() if routed else (_publish(integration, tenant),)),
            *(() if _is_projected(observed) else (project,)),
        ),
        _webhook_says(integration, observed),
    )


def is_published(integration: Integration, observed: Observed) -> bool:
    """Whether the gateway and the Secret in the namespace have what is kept of the webhook."""
    tenant, keys = observed.tenant, observed.keys
    if tenant is None or keys is None or isinstance(keys, Unknown):
        return False
    return _is_projected(observed) and observed.route == wanted_route(integration, tenant, keys, observed)


def _is_projected(observed: Observed) -> bool:
    projection = observed.projection
    return observed.keys is not None and projection is not None and projection.ours and projection.current


def wanted_route(integration: Integration, tenant: TenantRef, keys: WebhookKeys, observed: Observed) -> Route:
    """The route as it ought to be."""
    return Route(
        hook_id=keys.hook,
        tenant_id=tenant.id,
        namespace=integration.namespace,
        integration=integration.name,
        integration_uid=integration.uid,
        connector=integration.spec.connector,
        projects=integration.spec.projects,
        config=integration.spec.config,
        enabled=integration.spec.webhook.enabled,
        allow_unsigned=integration.spec.webhook.allow_unsigned,
        sealed_to=observed.gateway_key,
        keys=keys.numbers,
    )


def _publish(integration: Integration, tenant: TenantRef) -> act.PublishRoute:
    return act.PublishRoute(
        tenant_id=tenant.id,
        namespace=integration.namespace,
        integration=integration.name,
        integration_uid=integration.uid,
        connector=integration.spec.connector,
        projects=integration.spec.projects,
        config=integration.spec.config,
        enabled=integration.spec.webhook.enabled,
        allow_unsigned=integration.spec.webhook.allow_unsigned,
    )


def _unsigned(integration: Integration, observed: Observed) -> bool:
    """Whether nothing signs the deliveries of this connector."""
    connector = observed.connector
    found = connector.webhook_of(connector.completed(integration.spec.config)) if connector else None
    return found is not None and isinstance(found.verify, Unsigned)


def _refused(integration: Integration, observed: Observed) -> bool:
    return _unsigned(integration, observed) and not integration.spec.webhook.allow_unsigned


def _webhook_says(integration: Integration, observed: Observed) -> Plan:
    if not integration.spec.webhook.enabled:
        return says(WEBHOOK, True, "Disabled", "spec.webhook.enabled is false: no delivery is taken")
    name = objects.webhook_secret_ref(integration).name
    if _refused(integration, observed):
        message = (
            f"spec.webhook.allowUnsigned: {integration.spec.connector} does not sign what it sends: whoever "
            "learns the path can send anything; set it to true to take that, or spec.webhook.enabled to false"
        )
        return says(WEBHOOK, False, "UnsignedNotAllowed", message, stalled=True)
    if _unsigned(integration, observed):
        message = (
            f"enter url of the Secret {name} at the provider and keep it secret: nothing signs deliveries"
        )
        return says(WEBHOOK, True, "Unsigned", message)
    if isinstance(observed.keys, WebhookKeys) and observed.keys.rotating:
        message = (
            f"the signing secret was rotated: enter secret of the Secret {name} at the provider; "
            "status.webhook.keys tells until when the old one is good"
        )
        return says(WEBHOOK, True, WEBHOOK, message)
    return says(WEBHOOK, True, WEBHOOK, f"enter url and secret of the Secret {name} at the provider")


# --- the teardown -------------------------------------------------------------------------------------


def plan_teardown(integration: Integration, observed: Observed) -> Plan:
    """Take it away, whatever became of the tenant. The route goes last: it remembers the tenant's id.

    The Secret in the namespace goes with the Integration, by its ownerReference.
    """
    if isinstance(observed.keys, Unknown):
        unknown = observed.keys
        return merge(says(WEBHOOK, None, unknown.reason, unknown.message), Plan(check_after=RETRY))
    return chain(WEBHOOK, *_forget(integration, observed), *_withdraw(integration, observed))


def _forget(integration: Integration, observed: Observed) -> tuple[RunnerAction, ...]:
    home = observed.tenant or observed.route
    if observed.keys is None or home is None:
        return ()
    tenant_id = home.id if isinstance(home, TenantRef) else home.tenant_id
    return (act.DeleteWebhookSecret(tenant_id=tenant_id, integration_uid=integration.uid),)


def _withdraw(integration: Integration, observed: Observed) -> tuple[RunnerAction, ...]:
    if observed.route is None:
        return ()
    return (act.WithdrawRoute(integration_uid=integration.uid),)
