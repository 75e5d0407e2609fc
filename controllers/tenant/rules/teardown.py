"""Taking a Tenant away, one stage after the other: what is used goes before what it uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controllers.tenant.observed import Observed, Unknown, is_going, is_ours
from controllers.tenant.rules import leaving, restore
from controllers.tenant.rules.words import ACCESS, DATABASE, NAMESPACES, RETRY, SECRETS, SOON, Plan, unknown
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.deletion import StageName
from pipewright.facts import Database, Registration
from pipewright.plan import Manifest, Ref, chain, says

GONE = ("Deleted", "Retained")
"""States of the registry from which nothing is left to do."""
PARTS = {DATABASE: "database", SECRETS: "secrets"}
"""Condition → the part that may be abandoned when its server is gone for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a teardown, and what it needs done or waits for."""

    name: StageName
    plan: Plan


def current(tenant: Tenant, observed: Observed) -> Stage | None:
    """The stage to be in: the first that says or does something. None: the Tenant is taken away.

    Retain keeps namespaces, database and secrets, and takes away every way in. A Tenant that was never
    registered has nothing to take away.
    """
    registration = observed.registration
    if tenant.spec.deletion_protection:
        return Stage(name="Refused", plan=_refuse(tenant))
    if registration is None or registration.state in GONE:
        return None
    found = (Stage(name=name, plan=plan(tenant, registration, observed)) for name, plan in _stages(tenant))
    return next(stage for stage in found if not stage.plan.is_empty or stage.plan.facts)


def keeps(tenant: Tenant) -> bool:
    """Whether the data outlive the Tenant."""
    return tenant.spec.deletion_policy == "Retain"


def _stages(
    tenant: Tenant,
) -> Sequence[tuple[StageName, Callable[[Tenant, Registration, Observed], Plan]]]:
    return (
        ("Freeze", _freeze),
        *(
            (("Access", _close),)
            if keeps(tenant)
            else (("Resources", _resources), ("FinalDump", _final_dump), ("Namespaces", _namespaces))
        ),
        ("Database", _retire_database),
        ("Secrets", _retire_access),
        ("Registry", _farewell),
    )


def _refuse(tenant: Tenant) -> Plan:
    message = (
        "the Tenant is protected from deletion and nothing is taken away: to let it go,"
        f' kubectl patch tenant {tenant.name} --type=merge -p \'{{"spec":{{"deletionProtection":false}}}}\''
    )
    return says(NAMESPACES, False, "DeletionProtected", message, stalled=True)


def _freeze(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    if (
        registration.state == "Deleting"
    ):  # a restore that was cut short is ended first: what was bound is ours
        return restore.hand_over_database(tenant, registration, observed)
    return chain(NAMESPACES, act.MarkTenant(tenant_id=registration.id, uid=tenant.uid, state="Deleting"))


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


def _resources(_: Tenant, __: Registration, observed: Observed) -> Plan:
    """Delete: custom resources first, while their controllers can still clean up."""
    return _go("custom resource", observed.resources)


def _namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Delete: the namespaces with all that lies in them."""
    ours = (
        found
        for found in observed.namespaces.values()
        if found is not None and is_ours(tenant, registration, found)
    )
    released = leaving.adopted(tenant, registration, observed)
    if not released.is_empty or released.facts:
        return released
    return _go("namespace", tuple(ours))


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
    waiting = sorted(f"{Ref.of(manifest)}{_held_by(manifest)}" for manifest in manifests)
    message = f"waits until each {word} is gone: {'; '.join(waiting[:3])}"
    return Plan(facts=says(NAMESPACES, False, "Deleting", message).facts, check_after=SOON)


def _held_by(manifest: Manifest) -> str:
    """What holds an object that is going: its finalizers, or what a namespace's own conditions say."""
    told = [
        condition.get("message", "")
        for condition in manifest.get("status", {}).get("conditions", ())
        if condition.get("status") == "True" and condition.get("type", "").startswith("Namespace")
    ]
    finalizers = manifest["metadata"].get("finalizers", ())
    words = told or ([f"finalizers {', '.join(sorted(finalizers))}"] if finalizers else [])
    return f" ({' '.join(words)[:300]})" if words else ""


def _final_dump(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Delete: when nobody can write any more, the last state goes into the artifact store."""
    database = observed.database
    if isinstance(database, Unknown):
        return _silent(tenant, DATABASE, database)
    if database is None or database.owner_uid != tenant.uid:
        return Plan()  # gone, never finished, or somebody else's
    if tenant.spec.final_dump == "Skip" or registration.dump is not None:
        return Plan()
    if observed.dump_missing:
        message = (
            f"no final dump can be taken: {observed.dump_missing}; set it, or set spec.finalDump to Skip"
            " to drop the database without one"
        )
        facts = says(DATABASE, False, "FinalDumpImpossible", message).facts
        return Plan(facts=facts, check_after=RETRY)
    disable = () if database.is_shut else (act.DisableLogins(tenant_id=registration.id, uid=tenant.uid),)
    return chain(DATABASE, *disable, act.TakeDump(tenant_id=registration.id, uid=tenant.uid))


def _retire_database(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    database = observed.database
    if isinstance(database, Unknown):
        return _silent(tenant, DATABASE, database)
    if database is None:
        return Plan()
    if database.owner_uid not in (None, tenant.uid):
        return Plan()  # somebody else's: not ours to take away
    if not keeps(tenant):
        return chain(DATABASE, act.DropDatabase(tenant_id=registration.id, uid=tenant.uid))
    if database.is_shut:
        return Plan()
    return chain(DATABASE, act.DisableLogins(tenant_id=registration.id, uid=tenant.uid))


def _retire_access(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    if isinstance(observed.secret_access, Unknown):
        return _silent(tenant, SECRETS, observed.secret_access)
    if observed.secret_access is None:
        return Plan()
    return chain(SECRETS, act.RevokeSecretAccess(tenant_id=registration.id, uid=tenant.uid))


def _farewell(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Each stage once more, then the mark: all are idempotent, and a crash may have cut one short."""
    tenant_id, database, keep = registration.id, observed.database, keeps(tenant)
    left = _abandoned(tenant, observed)
    foreign = isinstance(database, Database) and database.owner_uid not in (None, tenant.uid)
    retire = act.DisableLogins if keep else act.DropDatabase
    revoke, purge = (
        act.RevokeSecretAccess(tenant_id=tenant_id, uid=tenant.uid),
        act.PurgeSecrets(tenant_id=tenant_id, uid=tenant.uid),
    )
    return chain(
        SECRETS,
        *(() if foreign or "database" in left else (retire(tenant_id=tenant_id, uid=tenant.uid),)),
        *(() if "secrets" in left else (*restore.hand_over_secrets(tenant, registration), revoke)),
        *(() if keep or "secrets" in left else (purge,)),
        act.MarkTenant(
            tenant_id=tenant_id,
            uid=tenant.uid,
            state="Retained" if keep else "Deleted",
            abandoned=left,
        ),
    )


def _silent(tenant: Tenant, aspect: str, part: Unknown) -> Plan:
    """A server that does not answer is waited for, unless a person says that it will never answer again."""
    name = PARTS[aspect]
    if keeps(tenant):
        return unknown(aspect, part)  # nobody may be let in to what is kept: that is never given up
    if name in _may_be_left(tenant):
        return Plan()
    hint = f"if it is gone for good, annotate the Tenant with {names.ABANDON_ANNOTATION}={name}"
    return unknown(aspect, Unknown(reason=part.reason, message=f"{part.message}; {hint}"))


def _abandoned(tenant: Tenant, observed: Observed) -> tuple[str, ...]:
    """The parts that are left behind: named by the annotation, and their server does not answer."""
    if keeps(tenant):
        return ()
    silent = {"database": observed.database, "secrets": observed.secret_access}
    may = _may_be_left(tenant)
    return tuple(name for name, part in silent.items() if name in may and isinstance(part, Unknown))


def _may_be_left(tenant: Tenant) -> set[str]:
    named = tenant.metadata.annotations.get(names.ABANDON_ANNOTATION, "")
    return {name.strip() for name in named.split(",")}
