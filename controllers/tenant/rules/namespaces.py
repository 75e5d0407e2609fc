"""The namespaces, and what lies in them: quota, limits, ServiceAccount, network policies, access."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from controllers.tenant import objects
from controllers.tenant.observed import Observed, is_bound, is_going, is_ours
from controllers.tenant.rules.words import ACCESS, NAMESPACES, NETWORK, SOON, Plan
from pipewright import actions as act
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration
from pipewright.fields import drifted
from pipewright.plan import Manifest, Ref, chain, merge, says


def namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Each namespace of the spec is there, is bound to the tenant by its UID, and has its labels."""
    return merge(
        *(_namespace(tenant, registration, name, found) for name, found in observed.namespaces.items())
    )


def _namespace(tenant: Tenant, registration: Registration, name: str, found: Manifest | None) -> Plan:
    wanted = objects.namespace(tenant, tenant_id=registration.id, name=name)
    if found is None:
        return chain(NAMESPACES, act.CreateObject(manifest=wanted))
    if not is_ours(tenant, registration, found):
        message = (
            f"the namespace {name} exists and is not this Tenant's: delete it, or create the Tenant "
            "again with another name in spec.namespaces"
        )
        return says(NAMESPACES, False, "NamespaceOwnedByOther", message, stalled=True)
    if is_going(found):
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


def in_namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """What lies in the bound namespaces is what the spec asks for, and no more of it than that."""
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
        if ref.kind in kinds and ref not in wanted and manifest is not None and not is_going(manifest):
            yield act.DeleteObject(ref=ref, uid=manifest["metadata"]["uid"])
