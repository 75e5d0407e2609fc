"""Short-lived logins: Vault makes them on the tenant's terms, PostgreSQL lets them in; each opens apart."""

from __future__ import annotations

from dataclasses import replace

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules.words import DATABASE, SECRETS, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, DynamicTerms, Registration, SecretAccess
from pipewright.plan import chain, merge, says

UNAVAILABLE = (
    "Vault makes no short-lived logins here: leave spec.database.dynamicCredentials out, or name the mount of"
    " its database engine in the operator's settings (vault.database)"
)


def terms(tenant: Tenant, registration: Registration, *, available: bool) -> DynamicTerms | None:
    """What Vault is to be told; None when it is to make no logins."""
    asked = tenant.spec.database.dynamic_credentials
    if asked is None or not available:
        return None
    return DynamicTerms(
        server=registration.server,
        ttl=asked.ttl,
        logins=asked.max_logins,
        connection_limit=tenant.spec.database.connection_limit,
    )


def without_role(access: SecretAccess | Unknown | None) -> SecretAccess | None:
    """A tenant's way into Vault but for the role that makes logins, which is written by itself."""
    return replace(access, database_role=None) if isinstance(access, SecretAccess) else None


def role(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Vault's role is there once the policy that names it is: then the next look finds it.

    It stands apart, so that a Vault without a connection to the server holds nothing else up.
    """
    found, wanted = observed.secret_access, observed.wanted_access
    asked = terms(tenant, registration, available=observed.dynamic)
    granted = without_role(found) == without_role(wanted)
    if asked is None or found is None or found == wanted or not granted or tenant.spec.suspended:
        return Plan()
    return chain(SECRETS, act.GrantDatabaseRole(tenant_id=registration.id, terms=asked))


def withdrawal(
    registration: Registration, found: SecretAccess | Unknown | None, wanted: SecretAccess
) -> tuple[act.WithdrawDatabaseRole, ...]:
    """What ends the making of logins that are no longer asked for."""
    lent = isinstance(found, SecretAccess) and found.database_role is not None
    ends = lent and wanted.database_role is None
    return (act.WithdrawDatabaseRole(tenant_id=registration.id),) if ends else ()


def dynamic(tenant: Tenant, registration: Registration, observed: Observed, found: Database) -> Plan:
    """The database is open to short-lived logins exactly while the tenant asks for them.

    A suspension closes it with the tenant's other logins.
    """
    asked = tenant.spec.database.dynamic_credentials is not None
    wanted = terms(tenant, registration, available=observed.dynamic) is not None
    whose = {"tenant_id": registration.id, "uid": tenant.uid}
    parts: list[Plan] = []
    if not tenant.spec.suspended and wanted and not found.lends:
        parts.append(chain(DATABASE, act.OpenDynamicLogins(**whose)))
    if not tenant.spec.suspended and found.lends and not wanted:
        parts.append(chain(DATABASE, act.CloseDynamicLogins(**whose)))
    if found.dynamic is not None and found.dynamic.ended:
        parts.append(chain(DATABASE, act.DropEndedLogins(**whose)))
    if asked and not wanted:
        parts.append(says(DATABASE, False, "DynamicCredentialsUnavailable", UNAVAILABLE, stalled=True))
    return merge(*parts)
