"""One switch shuts a tenant out and lets it in again: `spec.suspended`.

    registry   Suspended: the gateway keeps deliveries for later, the runner begins nothing
    database   the logins that the tenant itself uses are shut and their sessions ended
    Vault      role and policy go, so that tokens which were given before open nothing any more

The three are independent: a server that does not answer holds no other part up, and the condition says which
is still to come. What is shut is noted where it is, so that a resume brings back exactly that.
"""

from __future__ import annotations

from collections.abc import Iterator

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules import data_key
from controllers.tenant.rules.words import DATABASE, SECRETS, SUSPENDED, Plan
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import TENANT_LOGINS, Database, Login, Registration
from pipewright.plan import Fact, chain, merge

STOPPED = "Suspended"
"""The registry's word for it, and the reason when all parts are stopped."""
AT_WORK = "NotSuspended"
WORK = "webhooks (kept for later), workflows and training"
LOGINS = "database logins"
VAULT = "Vault access"


def suspension(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """What is still to be stopped, or to be let in again. Vault's way back in is granted as any tenant's."""
    if tenant.spec.suspended:
        return _suspend(tenant, registration, observed)
    resume = act.ResumeLogins(tenant_id=registration.id, uid=tenant.uid)
    shut = any(login.suspension is not None for login in _logins(tenant, observed))
    return merge(
        chain(DATABASE, *((resume,) if shut else ())),
        chain(SUSPENDED, *(_mark(tenant, registration, "Active") if registration.state == STOPPED else ())),
    )


def _suspend(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    revoke = act.RevokeSecretAccess(tenant_id=registration.id, uid=tenant.uid)
    suspend = act.SuspendLogins(tenant_id=registration.id, uid=tenant.uid)
    has_access = observed.secret_access is not None and not isinstance(observed.secret_access, Unknown)
    return merge(
        chain(SUSPENDED, *(_mark(tenant, registration, STOPPED) if _may_stop(tenant, observed) else ())),
        chain(DATABASE, *((suspend,) if _lets_in(tenant, observed) else ())),
        chain(SECRETS, *((revoke,) if has_access else ())),
    )


def _may_stop(tenant: Tenant, observed: Observed) -> bool:
    registration = observed.registration
    if registration is None:
        return False
    if registration.state == "Restoring":  # the mark ends a restore: not before the database is this Tenant's
        return isinstance(observed.database, Database) and observed.database.owner_uid == tenant.uid
    return registration.state == "Active"


def _mark(tenant: Tenant, registration: Registration, state: str) -> tuple[act.MarkTenant]:
    return (act.MarkTenant(tenant_id=registration.id, uid=tenant.uid, state=state),)


def _logins(tenant: Tenant, observed: Observed) -> list[Login]:
    """Those that the tenant itself uses, of a database that is this Tenant's."""
    found = observed.database
    if not isinstance(found, Database) or found.owner_uid != tenant.uid:
        return []
    return [found.logins[purpose] for purpose in TENANT_LOGINS if purpose in found.logins]


def _lets_in(tenant: Tenant, observed: Observed) -> bool:
    """Whether the tenant comes in by a login of its own, or by a short-lived one."""
    found = observed.database
    lends = isinstance(found, Database) and found.owner_uid == tenant.uid and found.lends
    return lends or any(map(_is_open, _logins(tenant, observed)))


def _is_open(login: Login) -> bool:
    return login.enabled or login.suspension == "Ending"


# --- what is told -------------------------------------------------------------------------------------


def fact(tenant: Tenant, observed: Observed) -> Fact:
    """The condition `Suspended`: True when every part is stopped, and until every part is back."""
    if not tenant.spec.suspended:
        back = list(_still_stopped(tenant, observed))
        message = f"still stopped: {', '.join(back)}" if back else ""
        return _fact(bool(back), "Resuming" if back else AT_WORK, message)
    left = list(_still_open(tenant, observed))
    parts = (WORK, LOGINS) if observed.without_vault else (WORK, LOGINS, VAULT)
    stopped = [part for part in parts if part not in left]
    said = f"stopped: {', '.join(stopped) or 'nothing yet'}"
    if left:
        return _fact(False, "Suspending", f"{said}; still to be stopped: {', '.join(left)}")
    return _fact(True, STOPPED, f"{said}; set spec.suspended to false to resume")


def summary(told: Fact) -> Fact | None:
    """What `Ready` says of a tenant that is suspended, or on its way there or back; None of any other."""
    if told.reason == AT_WORK:
        return None
    return Fact(type="Ready", status=False, reason=told.reason, message=f"{SUSPENDED}: {told.message}")


def _fact(status: bool, reason: str, message: str) -> Fact:
    return Fact(type=SUSPENDED, status=status, reason=reason, message=message)


def _still_open(tenant: Tenant, observed: Observed) -> Iterator[str]:
    """The parts that are not stopped, or of which nobody knows."""
    if observed.registration is None or observed.registration.state != STOPPED:
        yield WORK
    if isinstance(observed.database, Unknown) or _lets_in(tenant, observed):
        yield LOGINS
    registration = observed.registration
    # what a Vault that the settings no longer name still grants cannot be taken away
    if observed.secret_access is not None or (registration and data_key.elsewhere(registration, observed)):
        yield VAULT


def _still_stopped(tenant: Tenant, observed: Observed) -> Iterator[str]:
    if observed.registration is not None and observed.registration.state == STOPPED:
        yield WORK
    if any(login.suspension is not None for login in _logins(tenant, observed)):
        yield LOGINS
