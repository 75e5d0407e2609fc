"""Taking a Tenant away, one stage after the other: what is used goes before what it uses."""

from __future__ import annotations

from collections.abc import Sequence

from controllers.tenant.observed import Observed, Unknown, is_going, is_ours
from controllers.tenant.rules import leaving
from controllers.tenant.rules.words import ACCESS, DATABASE, NAMESPACES, SECRETS, SOON, Plan, unknown
from pipewright import actions as act
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration
from pipewright.plan import Manifest, Ref, chain, says


def stages(tenant: Tenant, registration: Registration, observed: Observed) -> tuple[Plan, ...]:
    """Freeze, custom resources, namespaces, database, Vault, registry. The first that says or does something
    is the one to be in.

    Retain keeps namespaces, database and secrets, and takes away every way in.
    """
    keep = tenant.spec.deletion_policy == "Retain"
    return (
        _freeze(registration),
        _close(tenant, registration, observed) if keep else _empty(tenant, registration, observed),
        _retire_database(tenant, registration, observed, keep=keep),
        _retire_access(registration, observed),
        _farewell(tenant, registration, observed, keep=keep),
    )


def _freeze(registration: Registration) -> Plan:
    if registration.state == "Deleting":
        return Plan()
    return chain(NAMESPACES, act.MarkTenant(tenant_id=registration.id, state="Deleting"))


def _close(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Retain: the namespaces stay, and nobody is let in any more."""
    released = leaving.adopted(tenant, registration, observed)
    if not released.is_empty or released.facts:
        return released
    bindings = (
        act.DeleteObject(ref=ref, uid=manifest["metadata"]["uid"])
        for ref, manifest in observed.children.items()
        if ref.kind == "RoleBinding" and manifest is not None and not is_going(manifest)
    )
    return chain(ACCESS, *bindings)


def _empty(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Delete: custom resources first, while their controllers can still clean up; then the namespaces."""
    ours = {
        name: found
        for name, found in observed.namespaces.items()
        if found is not None and is_ours(tenant, registration, found)
    }
    resources = [found for found in observed.resources if found["metadata"]["namespace"] in ours]
    if resources:
        return _go("custom resource", resources)
    released = leaving.adopted(tenant, registration, observed)
    if not released.is_empty or released.facts:
        return released
    return _go("namespace", list(ours.values()))


def _go(word: str, manifests: Sequence[Manifest]) -> Plan:
    deletes = [
        act.DeleteObject(ref=Ref.of(manifest), uid=manifest["metadata"]["uid"])
        for manifest in manifests
        if not is_going(manifest)
    ]
    if deletes:
        return chain(NAMESPACES, *deletes)
    if not manifests:
        return Plan()
    names = ", ".join(sorted(str(Ref.of(manifest)) for manifest in manifests)[:3])
    message = f"waits until each {word} is gone: {names}"
    return Plan(facts=says(NAMESPACES, False, "Deleting", message).facts, check_after=SOON)


def _retire_database(tenant: Tenant, registration: Registration, observed: Observed, *, keep: bool) -> Plan:
    database = observed.database
    if isinstance(database, Unknown):
        return unknown(DATABASE, database)
    if database is None:
        return Plan()
    if database.owner_uid not in (None, tenant.uid):
        return Plan()  # somebody else's: not ours to take away
    if not keep:
        return chain(DATABASE, act.DropDatabase(tenant_id=registration.id, uid=tenant.uid))
    if any(login.enabled for login in database.logins.values()):
        return chain(DATABASE, act.DisableLogins(tenant_id=registration.id, uid=tenant.uid))
    return Plan()


def _retire_access(registration: Registration, observed: Observed) -> Plan:
    if isinstance(observed.secret_access, Unknown):
        return unknown(SECRETS, observed.secret_access)
    if observed.secret_access is None:
        return Plan()
    return chain(SECRETS, act.RevokeSecretAccess(tenant_id=registration.id))


def _farewell(tenant: Tenant, registration: Registration, observed: Observed, *, keep: bool) -> Plan:
    """Each stage once more, then the mark: all are idempotent, and a crash may have cut one short."""
    tenant_id, database = registration.id, observed.database
    foreign = isinstance(database, Database) and database.owner_uid not in (None, tenant.uid)
    retire = act.DisableLogins if keep else act.DropDatabase
    return chain(
        SECRETS,
        *(() if foreign else (retire(tenant_id=tenant_id, uid=tenant.uid),)),
        act.RevokeSecretAccess(tenant_id=tenant_id),
        *(() if keep else (act.PurgeSecrets(tenant_id=tenant_id, uid=tenant.uid),)),
        act.MarkTenant(tenant_id=tenant_id, state="Retained" if keep else "Deleted"),
    )
