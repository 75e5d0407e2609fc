"""Short-lived logins: Vault makes them on the tenant's terms, PostgreSQL lets them in; each opens apart."""

from __future__ import annotations

from controllers.tenant.observed import Observed
from controllers.tenant.rules.words import DATABASE, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, DynamicTerms, Registration
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
