"""What a Tenant needs done, from what was seen. Pure: the list of rules is the documentation.

The registry's id comes first, alone. All that a new tenant needs follows in the next pass: each namespace
with what lies in it, the database with its logins beside them, and after both the projections of credentials.
What is found half-done takes more passes, because each rule waits for what it needs to see.
"""

from __future__ import annotations

from datetime import datetime

from controllers.tenant.observed import Observed
from controllers.tenant.rules import (
    data_key,
    database,
    leaving,
    namespaces,
    placement,
    restore,
    retention,
    secrets,
    suspension,
    teardown,
)
from controllers.tenant.rules.words import SECRETS, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.plan import chain, merge


def plan_tenant(tenant: Tenant, observed: Observed, now: datetime) -> Plan:
    """What is missing, different or due. Empty when nothing is."""
    registration = observed.registration
    if registration is None and tenant.spec.restore_from is not None:
        return restore.bind(tenant, observed)
    if registration is None:
        return placement.placement(tenant, observed.servers)
    wanted = merge(
        namespaces.namespaces(tenant, registration, observed),
        namespaces.in_namespaces(tenant, registration, observed),
        leaving.dropped(tenant, registration, observed),
        suspension.suspension(tenant, registration, observed),
        data_key.elsewhere(registration, observed)
        or (
            restore.claim(tenant, registration, observed)
            if restore.is_due(tenant, registration, observed)
            else merge(
                database.database(tenant, registration, observed, now),
                secrets.secrets(tenant, registration, observed),
                data_key.data_key(tenant, registration, observed, now),
            )
        ),
    )
    if not wanted.is_empty or not all(fact.status for fact in wanted.facts):
        return wanted
    if registration.state not in ("Active", suspension.STOPPED):
        active = act.MarkTenant(tenant_id=registration.id, uid=tenant.uid, state="Active")
        return merge(wanted, chain(SECRETS, active))
    return merge(wanted, retention.retention(tenant, registration, now))


def plan_teardown(tenant: Tenant, observed: Observed) -> Plan:
    """Take the Tenant away, one stage after the other; empty when nothing is left to do."""
    stage = teardown.current(tenant, observed)
    return stage.plan if stage is not None else Plan()
