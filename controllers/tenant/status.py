"""What a Tenant's status tells others: a projection of what was seen and what came of the plan. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules import deletion_plan, isolation, suspension
from controllers.tenant.rules.words import APART, CONDITIONS, Plan
from pipewright import conditions
from pipewright.api.v1alpha1.tenant import DatabaseStatus, NamespaceStatus, Tenant, TenantStatus, VaultStatus
from pipewright.facts import Database, SecretAccess, active_login, standby_login
from pipewright.plan import Results


def project(
    tenant: Tenant, observed: Observed, wanted: Plan, results: Results, *, now: datetime
) -> TenantStatus:
    """What we tell others: a projection of what was seen and what came of the plan."""
    registration = observed.registration
    bound = registration.namespaces if registration else {}
    suspended = suspension.fact(tenant, observed)
    return TenantStatus(
        observed_generation=tenant.generation,
        conditions=conditions.project(
            tenant.status.conditions,
            types=CONDITIONS,
            plan=wanted,
            results=results,
            generation=tenant.generation,
            now=now,
            apart=APART,
            beside=(suspended,),
            instead=None if tenant.deleting else suspension.summary(suspended),
        ),
        id=registration.id if registration else None,
        namespaces=tuple(
            NamespaceStatus(name=name, uid=found["metadata"]["uid"])
            for name in tenant.spec.namespace_names(tenant.name)
            if (found := observed.namespaces.get(name)) is not None
            and bound.get(name) == found["metadata"]["uid"]
        ),
        database=_database(tenant, observed),
        vault=_vault(observed),
        deletion_plan=deletion_plan.project(tenant, observed, results) if tenant.deleting else None,
        checked_for=_checked_for(tenant),
    )


def _checked_for(tenant: Tenant) -> str | None:
    """What asked for this check, cut to what a status holds."""
    return isolation.asked(tenant)


def _database(tenant: Tenant, observed: Observed) -> DatabaseStatus | None:
    registration, database, version = observed.registration, observed.database, observed.credential_version
    if isinstance(database, Unknown):
        return tenant.status.database
    if registration is None or database is None:
        return None
    return DatabaseStatus(
        server=registration.server,
        name=database.name,
        schema_version=database.schema_version,
        **_credentials(tenant, observed, database, version),
    )


def _credentials(
    tenant: Tenant, observed: Observed, database: Database, version: int | Unknown | None
) -> dict[str, Any]:
    if not isinstance(version, int):
        return {}
    every, old = tenant.spec.database.rotation.every, database.logins.get(standby_login(version))
    return {
        "credential_version": version,
        "active_login": active_login(version),
        "rotated_at": observed.issued_at,
        "next_rotation_at": observed.issued_at + every if observed.issued_at and every else None,
        "old_credential_refused_at": old.refused_at if old else None,
    }


def _vault(observed: Observed) -> VaultStatus | None:
    registration = observed.registration
    if registration is None or not isinstance(observed.secret_access, SecretAccess):
        return None
    access = observed.secret_access
    return VaultStatus(
        path=f"{registration.id}/user",
        role=access.role,
        credentials=access.database_role.path if access.database_role else None,
    )
