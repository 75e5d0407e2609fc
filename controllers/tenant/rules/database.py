"""The tenant's database and its logins."""

from __future__ import annotations

from collections.abc import Iterable

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules.words import DATABASE, Plan, unknown
from pipewright import actions as act
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import LOGINS, Database, Registration
from pipewright.plan import chain, merge, says


def database(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """A database with this Tenant's mark, at this release's schema, that accepts the tenant's logins."""
    found, version, tenant_id = observed.database, observed.credential_version, registration.id
    for part in (found, version):
        if isinstance(part, Unknown):
            return unknown(DATABASE, part)
    assert not isinstance(found, Unknown)
    assert not isinstance(version, Unknown)
    limit = tenant.spec.database.connection_limit
    issue = () if version is not None else (act.IssueCredentials(tenant_id=tenant_id, uid=tenant.uid),)
    if found is None or found.owner_uid is None or not found.closed_to_public:
        create = act.CreateDatabase(tenant_id=tenant_id, uid=tenant.uid, connection_limit=limit)
        return chain(DATABASE, *issue, create)
    if found.owner_uid != tenant.uid:
        message = f"the database {found.name} belongs to the Tenant with UID {found.owner_uid}"
        return says(DATABASE, False, "DatabaseOwnedByOther", message, stalled=True)
    limited = found.connection_limit == limit
    return merge(
        chain(
            DATABASE,
            *issue,
            *(() if found.current else (act.MigrateDatabase(tenant_id=tenant_id),)),
            *(() if limited else (act.LimitConnections(tenant_id=tenant_id, connection_limit=limit),)),
            *_logins(tenant_id, found, version),
        ),
        says(DATABASE, True, DATABASE, "the database accepts the tenant's logins"),
    )


def _logins(tenant_id: str, database: Database, version: int | None) -> Iterable[ProvisionerAction]:
    if version is None:
        return  # the version that is about to be issued is read back first
    set_right = all(
        purpose in database.logins
        and database.logins[purpose].enabled
        and database.logins[purpose].version == version
        for purpose in LOGINS
    )
    if not set_right:
        yield act.SetLogins(tenant_id=tenant_id, version=version)
