"""The tenant's database and its logins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from controllers.tenant.observed import Observed, Unknown, credentials_to_be
from controllers.tenant.rules import dynamic, rotation, upgrade
from controllers.tenant.rules.words import DATABASE, Plan, unknown
from pipewright import actions as act
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import LOGINS, Database, Registration, standby_login
from pipewright.plan import chain, merge, says


def database(tenant: Tenant, registration: Registration, observed: Observed, now: datetime) -> Plan:
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
        return chain(DATABASE, *issue, create, *_first_logins(tenant, registration, observed))
    if found.owner_uid != tenant.uid:
        message = f"the database {found.name} belongs to the Tenant with UID {found.owner_uid}"
        return says(DATABASE, False, "DatabaseOwnedByOther", message, stalled=True)
    limited = found.connection_limit == limit
    return merge(
        chain(
            DATABASE,
            *issue,
            *(() if limited else (act.LimitConnections(tenant_id=tenant_id, connection_limit=limit),)),
        ),
        upgrade.upgrade(tenant, registration, found),
        _extensions(tenant, registration, observed, database=found),
        dynamic.dynamic(tenant, registration, observed, found),
        _logins(tenant, registration, observed, now, database=found, version=version),
    )


def _first_logins(
    tenant: Tenant, registration: Registration, observed: Observed
) -> Iterable[ProvisionerAction]:
    """The logins of a database that is only now created."""
    version = credentials_to_be(registration, observed)
    # the gateway's credentials come before the database's, so that it is never refused
    if observed.database is None and version is not None and registration.bundle_version in (None, version):
        yield act.SetLogins(
            tenant_id=registration.id, version=version, granted=True, suspended=tenant.spec.suspended
        )


def are_set(database: Database, version: int) -> bool:
    """Whether all logins but the one that is rotated away accept the passwords of this version."""
    found = (database.logins.get(purpose) for purpose in LOGINS if purpose != standby_login(version))
    return all(login is not None and login.is_set and login.version == version for login in found)


def _extensions(
    tenant: Tenant, registration: Registration, observed: Observed, *, database: Database
) -> Plan:
    """Those of the spec are there. None is ever dropped: the tenant's tables may be made with it."""
    missing = [name for name in tenant.spec.database.extensions if name not in database.extensions]
    server = next((server for server in observed.servers if server.name == registration.server), None)
    allowed = server.extensions if server else ()
    refused = ", ".join(sorted(set(missing).difference(allowed)))
    # a chain for each: one that the server refuses holds no other back
    makes: list[Plan] = [
        chain(DATABASE, act.CreateExtension(tenant_id=registration.id, name=name))
        for name in missing
        if name in allowed
    ]
    if not refused:
        return merge(*makes)
    message = (
        f"server {registration.server} does not allow the extensions {refused}; it allows"
        f" {', '.join(sorted(allowed)) or 'none'}: change spec.database.extensions, or its settings"
    )
    return merge(*makes, says(DATABASE, False, "ExtensionNotAllowed", message, stalled=True))


def _logins(
    tenant: Tenant,
    registration: Registration,
    observed: Observed,
    now: datetime,
    *,
    database: Database,
    version: int | None,
) -> Plan:
    if version is None:
        return Plan()  # the version that is about to be issued is read back first
    if are_set(database, version):
        return rotation.rotation(tenant, registration, observed, now, database=database, version=version)
    if registration.bundle_version not in (None, version):
        message = "the gateway's credentials come before the database's, so that it is never refused"
        return says(DATABASE, False, "Progressing", message)
    logins = act.SetLogins(tenant_id=registration.id, version=version, suspended=tenant.spec.suspended)
    return chain(DATABASE, logins)
