"""What a Tenant needs done, from what was seen. Pure: the list of rules is the documentation.

The order over several passes follows from what each rule needs to see: the registry's id first, then
namespaces, then what lies in them; the database and Vault beside them; projections of credentials last.
"""

from __future__ import annotations

from controllers.tenant.observed import Observed
from controllers.tenant.rules import database, leaving, namespaces, secrets, teardown
from controllers.tenant.rules.words import NAMESPACES, SECRETS, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.plan import chain, merge


def plan_tenant(tenant: Tenant, observed: Observed) -> Plan:
    """What is missing or different. Empty when nothing is."""
    registration = observed.registration
    if registration is None:
        return chain(NAMESPACES, act.RegisterTenant(uid=tenant.uid, name=tenant.name))
    wanted = merge(
        namespaces.namespaces(tenant, registration, observed),
        namespaces.in_namespaces(tenant, registration, observed),
        leaving.dropped(tenant, registration, observed),
        database.database(tenant, registration, observed),
        secrets.secrets(tenant, registration, observed),
    )
    if wanted.is_empty and registration.state != "Active" and all(fact.status for fact in wanted.facts):
        return merge(wanted, chain(SECRETS, act.MarkTenant(tenant_id=registration.id, state="Active")))
    return wanted


def plan_teardown(tenant: Tenant, observed: Observed) -> Plan:
    """Take the Tenant away, one stage after the other; empty when nothing is left to do."""
    registration = observed.registration
    if registration is None or registration.state in ("Deleted", "Retained"):
        return Plan()
    stages = teardown.stages(tenant, registration, observed)
    return next(stage for stage in stages if not stage.is_empty or stage.facts)
