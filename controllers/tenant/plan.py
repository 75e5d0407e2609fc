"""What a Tenant needs done, from what was seen. Pure: the list of rules is the documentation.

The order over several passes follows from what each rule needs to see: the registry's id first, then
namespaces, then what lies in them; the database and Vault beside them; projections of credentials last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from controllers.tenant import objects
from pipewright import actions as act
from pipewright import names, plan
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import LOGINS, Database, Registration, SecretAccess
from pipewright.fields import drifted
from pipewright.plan import Manifest, Ref, chain, merge, says

Plan = plan.Plan[ProvisionerAction]

NAMESPACES = "NamespacesReady"
ACCESS = "AccessReady"
NETWORK = "NetworkReady"
DATABASE = "DatabaseReady"
SECRETS = "SecretsReady"
CONDITIONS = (NAMESPACES, ACCESS, NETWORK, DATABASE, SECRETS)

RETRY = timedelta(seconds=10)
"""When to look again at a server that did not answer."""
SOON = timedelta(seconds=1)
"""When to look again at what is going away or coming into effect by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A server did not answer, so nothing is known and nothing is done about its part."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of a Tenant, at one look."""

    gateway_key: str
    registration: Registration | None = None
    namespaces: Mapping[str, Manifest | None] = field(default_factory=dict)
    """By name in the spec; whoever they belong to."""
    children: Mapping[Ref, Manifest | None] = field(default_factory=dict)
    """What lies in those that are bound to this Tenant; nobody else's namespace is looked into."""
    resources: Sequence[Manifest] = ()
    """Custom resources in the namespaces; looked at for a teardown only."""
    connections: Mapping[str, Manifest | Unknown | None] = field(default_factory=dict)
    database: Database | Unknown | None = None
    credential_version: int | Unknown | None = None
    secret_access: SecretAccess | Unknown | None = None
    wanted_access: SecretAccess | None = None


def plan_tenant(tenant: Tenant, observed: Observed) -> Plan:
    """What is missing or different. Empty when nothing is."""
    registration = observed.registration
    if registration is None:
        return chain(NAMESPACES, act.RegisterTenant(uid=tenant.uid, name=tenant.name))
    wanted = merge(
        _namespaces(tenant, registration, observed),
        _in_namespaces(tenant, registration, observed),
        _database(tenant, registration, observed),
        _secrets(tenant, registration, observed),
    )
    if wanted.is_empty and registration.state != "Active" and all(fact.status for fact in wanted.facts):
        return merge(wanted, chain(SECRETS, act.MarkTenant(tenant_id=registration.id, state="Active")))
    return wanted


# --- namespaces and what lies in them -----------------------------------------------------------------


def _namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    return merge(
        *(_namespace(tenant, registration, name, found) for name, found in observed.namespaces.items())
    )


def _namespace(tenant: Tenant, registration: Registration, name: str, found: Manifest | None) -> Plan:
    wanted = objects.namespace(tenant, tenant_id=registration.id, name=name)
    if found is None:
        return chain(NAMESPACES, act.CreateObject(manifest=wanted))
    if not _is_ours(tenant, registration, found):
        message = (
            f"the namespace {name} exists and is not this Tenant's: delete it, or create the Tenant "
            "again with another name in spec.namespaces"
        )
        return says(NAMESPACES, False, "NamespaceOwnedByOther", message, stalled=True)
    if _going(found):
        message = f"the namespace {name} is being deleted; it is created again when it is gone"
        return Plan(facts=says(NAMESPACES, False, "Terminating", message).facts, check_after=SOON)
    uid = found["metadata"]["uid"]
    bound = registration.namespaces.get(name) == uid
    return merge(
        chain(
            NAMESPACES,
            *(() if bound else (act.BindNamespace(tenant_id=registration.id, name=name, uid=uid),)),
            *((act.ApplyObject(manifest=wanted),) if drifted(wanted, found) else ()),
        ),
        says(NAMESPACES, True, "NamespacesReady", "namespace, quota, limits and ServiceAccount are there"),
    )


def _in_namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    names = [name for name, found in observed.namespaces.items() if is_bound(registration, name, found)]
    return merge(
        *(
            _aspect_of(tenant, registration, observed, name, aspect, build, said)
            for name in names
            for aspect, build, said in (
                (NAMESPACES, objects.in_namespace, "namespace, quota, limits and ServiceAccount are there"),
                (NETWORK, objects.network, "all traffic is denied but DNS and the tenant's own"),
                (ACCESS, objects.access, "those whom the spec names have access"),
            )
        )
    )


def _aspect_of(
    tenant: Tenant,
    registration: Registration,
    observed: Observed,
    name: str,
    aspect: str,
    build: objects.Builder,
    said: str,
) -> Plan:
    wanted = build(tenant, tenant_id=registration.id, namespace=name)
    kinds = objects.KINDS[aspect]
    found = {ref: manifest for ref, manifest in observed.children.items() if ref.namespace == name}
    return merge(
        chain(
            aspect,
            *_missing_or_drifted(wanted, found),
            *_unwanted({Ref.of(manifest) for manifest in wanted}, found, kinds),
        ),
        says(aspect, True, aspect, said),
    )


def _missing_or_drifted(
    wanted: Iterable[Manifest], found: Mapping[Ref, Manifest | None]
) -> Iterable[ProvisionerAction]:
    for manifest in wanted:
        there = found.get(Ref.of(manifest))
        if there is None:
            yield act.ApplyObject(manifest=manifest)
        elif drifted(manifest, there):
            # a binding's role cannot be changed: this one was made by somebody else under our name
            if there.get("roleRef") and drifted({"roleRef": manifest["roleRef"]}, there):
                yield act.DeleteObject(ref=Ref.of(manifest), uid=there["metadata"]["uid"])
            yield act.ApplyObject(manifest=manifest)


def _unwanted(
    wanted: set[Ref], found: Mapping[Ref, Manifest | None], kinds: Sequence[str]
) -> Iterable[ProvisionerAction]:
    for ref, manifest in found.items():
        if ref.kind in kinds and ref not in wanted and manifest is not None and not _going(manifest):
            yield act.DeleteObject(ref=ref, uid=manifest["metadata"]["uid"])


# --- database -----------------------------------------------------------------------------------------


def _database(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    database, version, tenant_id = observed.database, observed.credential_version, registration.id
    for part in (database, version):
        if isinstance(part, Unknown):
            return _unknown(DATABASE, part)
    assert not isinstance(database, Unknown)
    assert not isinstance(version, Unknown)
    limit = tenant.spec.database.connection_limit
    issue = () if version is not None else (act.IssueCredentials(tenant_id=tenant_id, uid=tenant.uid),)
    if database is None or database.owner_uid is None or not database.closed_to_public:
        create = act.CreateDatabase(tenant_id=tenant_id, uid=tenant.uid, connection_limit=limit)
        return chain(DATABASE, *issue, create)
    if database.owner_uid != tenant.uid:
        message = f"the database {database.name} belongs to the Tenant with UID {database.owner_uid}"
        return says(DATABASE, False, "DatabaseOwnedByOther", message, stalled=True)
    limited = database.connection_limit == limit
    return merge(
        chain(
            DATABASE,
            *issue,
            *(() if database.current else (act.MigrateDatabase(tenant_id=tenant_id),)),
            *(() if limited else (act.LimitConnections(tenant_id=tenant_id, connection_limit=limit),)),
            *_logins(tenant_id, database, version),
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


# --- secrets ------------------------------------------------------------------------------------------


def _secrets(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    access, version, wanted = observed.secret_access, observed.credential_version, observed.wanted_access
    for part in (access, version, observed.database, *observed.connections.values()):
        if isinstance(part, Unknown):
            return _unknown(SECRETS, part)
    if wanted is None or access == wanted:
        grant: tuple[ProvisionerAction, ...] = ()
    else:
        grant = (act.GrantSecretAccess(tenant_id=registration.id, namespaces=wanted.namespaces),)
    if not isinstance(version, int) or not observed.connections:
        waits = says(SECRETS, False, "Progressing", "comes when the namespaces and the credentials are there")
        return merge(chain(SECRETS, *grant), waits)
    sealed = (registration.bundle_version, registration.bundle_key) == (version, observed.gateway_key)
    return merge(
        chain(
            SECRETS,
            *grant,
            *(() if sealed else (act.SealGatewayBundle(tenant_id=registration.id, version=version),)),
            *_projections(tenant, registration, observed, version),
        ),
        says(SECRETS, True, SECRETS, "the tenant's Vault path and connection Secret are there"),
    )


def _projections(
    tenant: Tenant, registration: Registration, observed: Observed, version: int
) -> Iterable[ProvisionerAction]:
    for namespace, found in observed.connections.items():
        assert not isinstance(found, Unknown)
        noted = (found or {}).get("metadata", {}).get("annotations", {}).get(names.VERSION_ANNOTATION)
        if noted != str(version):
            yield act.ProjectConnection(
                tenant_id=registration.id,
                uid=tenant.uid,
                tenant_name=tenant.name,
                namespace=namespace,
                version=version,
            )


# --- the teardown -------------------------------------------------------------------------------------


def plan_teardown(tenant: Tenant, observed: Observed) -> Plan:
    """Take the Tenant away, one stage after the other; empty when nothing is left to do.

    Freeze, custom resources, namespaces, database, Vault, registry: what is used goes before what it uses.
    Retain keeps namespaces, database and secrets, and takes away every way in.
    """
    registration = observed.registration
    if registration is None or registration.state in ("Deleted", "Retained"):
        return Plan()
    keep = tenant.spec.deletion_policy == "Retain"
    stages = (
        _freeze(registration),
        _close(tenant, registration, observed) if keep else _empty(tenant, registration, observed),
        _retire_database(tenant, registration, observed, keep=keep),
        _retire_access(registration, observed),
        _farewell(tenant, registration, observed, keep=keep),
    )
    return next(stage for stage in stages if not stage.is_empty or stage.facts)


def _freeze(registration: Registration) -> Plan:
    if registration.state == "Deleting":
        return Plan()
    return chain(NAMESPACES, act.MarkTenant(tenant_id=registration.id, state="Deleting"))


def _close(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Retain: the namespaces stay, and nobody is let in any more."""
    bindings = (
        act.DeleteObject(ref=ref, uid=manifest["metadata"]["uid"])
        for ref, manifest in observed.children.items()
        if ref.kind == "RoleBinding" and manifest is not None and not _going(manifest)
    )
    return chain(ACCESS, *bindings)


def _empty(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Delete: custom resources first, while their controllers can still clean up; then the namespaces."""
    ours = {
        name: found
        for name, found in observed.namespaces.items()
        if found is not None and _is_ours(tenant, registration, found)
    }
    resources = [found for found in observed.resources if found["metadata"]["namespace"] in ours]
    if resources:
        return _go("custom resource", resources)
    return _go("namespace", list(ours.values()))


def _go(word: str, manifests: Sequence[Manifest]) -> Plan:
    deletes = [
        act.DeleteObject(ref=Ref.of(manifest), uid=manifest["metadata"]["uid"])
        for manifest in manifests
        if not _going(manifest)
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
        return _unknown(DATABASE, database)
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
        return _unknown(SECRETS, observed.secret_access)
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


# --- small words --------------------------------------------------------------------------------------


def _unknown(aspect: str, part: Unknown) -> Plan:
    return Plan(facts=says(aspect, False, part.reason, part.message).facts, check_after=RETRY)


def is_bound(registration: Registration, name: str, found: Manifest | None) -> bool:
    """Whether the namespace is there to stay, and the registry names this very one as the tenant's."""
    return (
        found is not None
        and not _going(found)
        and registration.namespaces.get(name) == found["metadata"]["uid"]
    )


def _is_ours(tenant: Tenant, registration: Registration, found: Manifest) -> bool:
    metadata = found["metadata"]
    if metadata["uid"] in registration.namespaces.values():
        return True
    # created by us a moment ago, before a crash could bind it
    return bool(metadata.get("labels", {}).get(names.UID_LABEL) == tenant.uid)


def _going(found: Manifest) -> bool:
    return "deletionTimestamp" in found["metadata"]
