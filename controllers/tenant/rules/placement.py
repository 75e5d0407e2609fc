"""Where a new tenant's database goes: on a server of the region and class that the spec names."""

from __future__ import annotations

from collections.abc import Sequence

from controllers.tenant.rules.words import DATABASE, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Server
from pipewright.plan import chain, says


def placement(tenant: Tenant, servers: Sequence[Server]) -> Plan:
    """Register the tenant on one of the servers that its placement allows; say which there are if none."""
    region, database_class = tenant.spec.placement.region, tenant.spec.placement.database_class
    here = [server for server in servers if region in (None, server.region)]
    if not here:
        return _unknown("Region", region, [server.region for server in servers])
    fit = tuple(server for server in here if database_class in (None, server.database_class))
    if not fit:
        return _unknown("Class", database_class, [server.database_class for server in here])
    return chain(DATABASE, act.RegisterTenant(uid=tenant.uid, name=tenant.name, servers=fit))


def _unknown(word: str, wanted: str | None, known: Sequence[str]) -> Plan:
    there = ", ".join(sorted(set(known))) or "none"
    message = (
        f"no database server is of the {word.lower()} {wanted} in spec.placement; there is {there}:"
        " choose one of these, or add a server to the operator's settings"
    )
    return says(DATABASE, False, f"Unknown{word}", message, stalled=True)
