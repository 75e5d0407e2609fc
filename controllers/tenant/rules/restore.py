"""A Tenant that takes the place of one that is gone: `spec.restoreFrom` names the id, the registry decides.

The order makes it safe to stop anywhere: the registry first, by compare-and-swap, so that one Tenant gets it;
then Vault's marks and new passwords; the database's mark last, because it is what says that all is done.
"""

from __future__ import annotations

from controllers.tenant.observed import Observed, Origin, Unknown, is_going
from controllers.tenant.rules.words import DATABASE, NAMESPACES, RETRY, SECRETS, Plan, unknown
from pipewright import actions as act
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration
from pipewright.plan import chain, says


def bind(tenant: Tenant, observed: Observed) -> Plan:
    """Become the owner in the registry, if the old one is gone and there is something to become."""
    origin, wanted = observed.origin, tenant.spec.restore_from
    if origin is None:
        message = f"no tenant has the id {wanted} in the registry: create the Tenant with another restoreFrom"
        return says(NAMESPACES, False, "RestoreUnknownId", message, stalled=True)
    found = origin.registration
    if found.state == "Deleted":
        message = (
            f"the data of tenant {found.id} were deleted for good; a final dump may be in the artifact store"
        )
        return says(NAMESPACES, False, "RestoreDeleted", message, stalled=True)
    if origin.owner is not None:
        return _owned(origin)
    if not origin.served:
        message = f"tenant {found.id} is on server {found.server}, which this operator does not serve"
        return says(NAMESPACES, False, "UnknownServer", message, stalled=True)
    return chain(
        NAMESPACES,
        act.RebindTenant(
            tenant_id=found.id,
            uid=tenant.uid,
            name=tenant.name,
            previous_uid=found.uid,
            namespaces=tenant.spec.namespace_names(tenant.name),
        ),
    )


def is_due(tenant: Tenant, registration: Registration, observed: Observed) -> bool:
    """Whether the database is not yet this Tenant's: until then nothing else is done with the data."""
    if registration.state != "Restoring":
        return False
    database = observed.database
    # without a mark it is one that was never finished: it is made complete as any other
    return not isinstance(database, Database) or database.owner_uid not in (None, tenant.uid)


def claim(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Vault's marks, new passwords in the place of those that somebody may have kept, the database's mark."""
    database, version = observed.database, observed.credential_version
    if isinstance(database, Unknown):
        return unknown(DATABASE, database)
    if isinstance(version, Unknown):
        return unknown(SECRETS, version)
    if database is None:
        message = (
            f"server {registration.server} has no database of tenant {registration.id}: bring it back from"
            " a backup, or delete this Tenant and create it without restoreFrom"
        )
        return says(DATABASE, False, "RestoreWithoutDatabase", message, stalled=True)
    if database.owner_uid not in registration.previous_uids:
        message = f"the database {database.name} belongs to the Tenant with UID {database.owner_uid}"
        return says(DATABASE, False, "DatabaseOwnedByOther", message, stalled=True)
    renew = () if version is None else (act.RenewCredentials(tenant_id=registration.id, version=version),)
    hand_over = act.HandOverDatabase(
        tenant_id=registration.id, uid=tenant.uid, previous=registration.previous_uids
    )
    return chain(DATABASE, *hand_over_secrets(tenant, registration), *renew, hand_over)


def hand_over_secrets(tenant: Tenant, registration: Registration) -> tuple[ProvisionerAction, ...]:
    """Vault's marks become this Tenant's, where those of an owner before may still be."""
    if not registration.previous_uids:
        return ()
    previous = registration.previous_uids
    return (act.HandOverSecrets(tenant_id=registration.id, uid=tenant.uid, previous=previous),)


def hand_over_database(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """The database's mark alone: a teardown needs no new passwords."""
    database, previous = observed.database, registration.previous_uids
    if not isinstance(database, Database) or database.owner_uid not in previous:
        return Plan()
    return chain(DATABASE, act.HandOverDatabase(tenant_id=registration.id, uid=tenant.uid, previous=previous))


def _owned(origin: Origin) -> Plan:
    """Its Tenant is there. When that one goes nobody tells us, so it is looked at again."""
    found, owner = origin.registration, origin.owner
    going = owner is not None and is_going(owner)
    how = "being deleted" if going else "alive: delete that one first, with deletionPolicy Retain"
    message = f"tenant {found.id} still belongs to the Tenant {found.name}, which is {how}"
    fact = says(NAMESPACES, False, "RestoreStillOwned", message, stalled=not going)
    return Plan(facts=fact.facts, check_after=RETRY)
