"""Deliveries that never arrived: when to look for them, and what to say. Pure.

Where a provider sends once and lists what it sent, the webhook's deliveries are looked at on and on; those
that failed are asked for again (`apply.webhooks`), and what came of it is noted with the registration.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from controllers.integration import registration
from controllers.integration.plan import WEBHOOK, Observed, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import MissedDeliveries
from pipewright.plan import merge, upkeep
from pipewright.runner_facts import Registered, WebhookKeys

if TYPE_CHECKING:
    from connectors.manifest import Manifest


def are_listed(connector: Manifest | None) -> bool:
    """Whether the provider tells of its deliveries."""
    found = getattr(connector.webhook if connector else None, "registration", None)
    return found is not None and found.deliveries is not None


def plan_gaps(integration: Integration, observed: Observed, *, now: datetime) -> Plan:
    """The looks that are due, as many as there is time for."""
    check, tenant = observed.credentials, observed.tenant
    ready = check is not None and check.accepted and isinstance(observed.keys, WebhookKeys)
    if not ready or tenant is None or not are_listed(observed.connector):
        return Plan()
    wants = registration.wanted(integration, observed.connector)
    noted = [note for note in observed.registered if note.project in wants and note.id]
    due = [note for note in noted if note.next_deliveries is None or note.next_deliveries <= now]
    steps: list[Plan] = [_look(integration, tenant.id, note, now=now) for note in due[: registration.AT_ONCE]]
    if due:
        return merge(*steps, Plan(check_after=registration.NEXT_TURN))
    looks = [note.next_deliveries - now for note in noted if note.next_deliveries is not None]
    return Plan(check_after=min(looks)) if looks else Plan()


def _look(integration: Integration, tenant_id: str, note: Registered, *, now: datetime) -> Plan:
    look = act.FillGap(
        place=registration.place_of(integration, tenant_id, note.project),
        id=note.id,
        since=note.arrived_until or now,
        at=now,
        mended=note.next_deliveries is None,
    )
    quiet: Plan = upkeep(WEBHOOK, look)
    return quiet


def told(observed: Observed) -> MissedDeliveries | None:
    """The sum over all projects; None where nothing ever failed."""
    noted = [note for note in observed.registered if note.missed or note.filled_at is not None]
    if not noted:
        return None
    since = [note.missed_since for note in noted if note.missed_since is not None]
    filled = [note.filled_at for note in noted if note.filled_at is not None]
    return MissedDeliveries(
        count=sum(note.missed for note in noted),
        since=min(since) if since else None,
        filled_at=max(filled) if filled else None,
    )
