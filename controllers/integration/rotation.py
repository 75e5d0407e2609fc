"""Rotation of the webhook's secret: when another one is due, and how the old one goes. Pure.

    rotate ──► both published, the new one projected ──► the overlap begins ──► the old one is retired

The store's numbers and times decide everything. The overlap is counted from when the new secret was in
everybody's hands, so that a server that is down for a while keeps no delivery out.
"""

from __future__ import annotations

from datetime import datetime

from controllers.integration import registration
from controllers.integration.plan import WEBHOOK, Observed, Plan, is_published
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import WebhookKey
from pipewright.plan import chain
from pipewright.runner_facts import TenantRef, WebhookKeys


def plan_rotation(integration: Integration, observed: Observed, *, now: datetime) -> Plan:
    """What comes next for the secrets that there are: nothing, the old one's end, or another one."""
    tenant, keys = observed.tenant, observed.keys
    if tenant is None or not isinstance(keys, WebhookKeys) or not is_published(integration, observed):
        return Plan()
    if keys.rotating:
        return _end(integration, observed, tenant, keys, now=now)
    due = next_rotation(integration, keys)
    if due is None:
        return Plan()
    if due > now:
        return Plan(check_after=due - now)
    return chain(
        WEBHOOK,
        act.RotateWebhookSecret(
            tenant_id=tenant.id, integration_uid=integration.uid, version=keys.version, at=now
        ),
    )


def _end(
    integration: Integration, observed: Observed, tenant: TenantRef, keys: WebhookKeys, *, now: datetime
) -> Plan:
    ends = end(integration, keys)
    if ends is None:
        # a project that cannot be reached must not keep a secret alive for ever
        latest = keys.issued_at + integration.spec.webhook.rotation.overlap
        if now < latest and not registration.has_arrived(integration, observed, keys):
            return Plan(check_after=latest - now)
        begin = act.BeginWebhookOverlap(
            tenant_id=tenant.id, integration_uid=integration.uid, version=keys.version, at=now
        )
        return chain(WEBHOOK, begin)
    if ends > now:
        return Plan(check_after=ends - now)
    retire = act.RetireWebhookSecret(
        tenant_id=tenant.id, integration_uid=integration.uid, version=keys.version
    )
    return chain(WEBHOOK, retire)


def end(integration: Integration, keys: WebhookKeys) -> datetime | None:
    """When the old secret stops to be good; None while its time does not run."""
    if keys.overlap_since is None:
        return None
    return keys.overlap_since + integration.spec.webhook.rotation.overlap


def next_rotation(integration: Integration, keys: WebhookKeys) -> datetime | None:
    """When another secret is due: by the period, or earlier if an annotation asks for it.

    The period waits for a webhook that is disabled, so that it comes back with what the CI system has.
    """
    webhook, asked = integration.spec.webhook, integration.metadata.requested(names.ROTATE_ANNOTATION)
    every = webhook.rotation.every if webhook.enabled else None
    due = [] if every is None else [keys.issued_at + every]
    if asked is not None and asked > keys.issued_at:
        due.append(asked)
    return min(due) if due else None


def told(integration: Integration, keys: WebhookKeys) -> tuple[WebhookKey, ...]:
    """The secrets that are good, as the status names them."""
    first, *old = keys.numbers
    ends = end(integration, keys)
    return (WebhookKey(id=first), *(WebhookKey(id=number, ends_at=ends) for number in old))
