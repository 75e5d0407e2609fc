"""Retention: what is older than the spec keeps is deleted about once a day, while the tenant rests."""

from __future__ import annotations

from datetime import datetime, timedelta

from controllers.tenant.rules.words import DATABASE, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration
from pipewright.plan import merge, upkeep

EVERY = timedelta(days=1)
GO_ON = timedelta(seconds=5)
"""After a sweep it is looked whether there is more: each takes some seconds at most."""


def retention(tenant: Tenant, registration: Registration, now: datetime) -> Plan:
    """A sweep if it is due. It rides on the looks that come anyway, so tenants are swept at all hours."""
    if now < due(registration, now):
        return Plan()
    keep = tenant.spec.retention
    sweep = act.ExpireHistory(
        tenant_id=registration.id,
        events_before=now - keep.events,
        runs_before=now - keep.runs,
        audit_before=now - keep.audit,
        at=now,
    )
    return merge(Plan(check_after=GO_ON), upkeep(DATABASE, sweep))


def due(registration: Registration, now: datetime) -> datetime:
    """When the next sweep is due: a new tenant has nothing that is old."""
    last = registration.sweep
    if last is None:
        return (registration.created_at or now) + EVERY
    return last.at + EVERY if last.finished else now
