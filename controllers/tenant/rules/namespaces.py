"""The namespaces, and what lies in them: quota, limits, ServiceAccount, network policies, access."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from controllers.tenant import objects
from controllers.tenant.observed import Observed, is_bound, is_going, is_ours, missing_namespaces
from controllers.tenant.rules import adoption, quota
from controllers.tenant.rules.words import ACCESS, NAMESPACES, NETWORK, SOON, Plan
from pipewright import actions as act
from pipewright import names
from pipewright.actions import ProvisionerAction
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration
from pipewright.fields import SHOWN, changed_by_others, drifted, left_over
from pipewright.plan import Manifest, Ref, chain, merge, says

THERE = "namespace, quota, limits and ServiceAccount are there"


def namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Each namespace of the spec that is there is bound to the tenant by its UID, and has its labels."""
    return merge(
        *(
            _namespace(tenant, registration, observed, name, found)
            for name in tenant.spec.namespace_names(tenant.name)
            if (found := observed.namespaces.get(name)) is not None
        )
    )


def _namespace(
    tenant: Tenant, registration: Registration, observed: Observed, name: str, found: Manifest
) -> Plan:
    adopted = adoption.wanted(tenant, name) or adoption.is_adopted(found)
    nodes = _nodes(registration, observed, found)
    wanted = objects.namespace(tenant, tenant_id=registration.id, name=name, adopted=adopted, nodes=nodes)
    if not is_ours(tenant, registration, found):
        return adoption.adopt(tenant, registration, found, manifest=wanted)
    if is_going(found):
        message = f"the namespace {name} is being deleted; it is created again when it is gone"
        return Plan(facts=says(NAMESPACES, False, "Terminating", message).facts, check_after=SOON)
    uid = found["metadata"]["uid"]
    bound = registration.namespaces.get(name) == uid
    bind = act.BindNamespace(tenant_id=registration.id, name=name, uid=uid, tenant_uid=tenant.uid)
    return merge(
        chain(
            NAMESPACES,
            *(() if bound else (bind,)),
            *_corrections(wanted, found),
            *_no_longer_wanted(wanted, found),
        ),
        says(NAMESPACES, True, "NamespacesReady", THERE),
    )


def _nodes(registration: Registration, observed: Observed, found: Manifest | None) -> str | None:
    """The node selector of the tenant's server; what is there where the settings do not name that server."""
    for server in observed.servers:
        if server.name == registration.server:
            return objects.node_selector(server.node_selector)
    there = (found["metadata"].get("annotations") or {}) if found is not None else {}
    return there.get(names.NODE_SELECTOR_ANNOTATION)


def _no_longer_wanted(wanted: Manifest, found: Manifest) -> Iterable[ProvisionerAction]:
    """Labels and annotations that the spec had once: an apply leaves those that our create has set."""
    labels, annotations = (left_over(wanted, found, field=field) for field in ("labels", "annotations"))
    if labels or annotations:
        yield act.RemoveMetadata(
            ref=Ref.of(found), uid=found["metadata"]["uid"], labels=labels, annotations=annotations
        )


def in_namespaces(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """What lies in the bound namespaces is what the spec asks for; those that are missing come with it."""
    new = missing_namespaces(tenant, observed)
    spaces = [
        name
        for name in tenant.spec.namespace_names(tenant.name)
        if name in new or is_bound(registration, name, observed.namespaces.get(name))
    ]
    quotas = {name: observed.children.get(objects.quota_ref(name)) for name in spaces}
    division = quota.divide(tenant.spec.whole_quota, quotas)
    plans = (
        _made(tenant, registration, observed, name, aspect, build)
        if name in new
        else _aspect_of(tenant, registration, observed, name, aspect, build, said)
        for name in spaces
        for aspect, build, said in (
            (NAMESPACES, partial(objects.in_namespace, hard=division.hard[name]), THERE),
            (NETWORK, objects.network, _network_says(tenant)),
            (ACCESS, objects.access, "those whom the spec names have access"),
        )
    )
    return merge(_settling(division), *plans, Plan(check_after=division.check_after))


def _settling(division: quota.Division) -> Plan:
    if division.settled:
        return Plan()
    message = (
        "the quota is being divided anew among the namespaces; what one gives up another gets in a moment"
    )
    return says(NAMESPACES, False, "QuotaSettling", message)


def _network_says(tenant: Tenant) -> str:
    if tenant.spec.network.isolation == "Open":
        return "all traffic is allowed but to the cloud's metadata services"
    return "all traffic is denied but DNS, the tenant's own and what the spec lists"


def _made(
    tenant: Tenant,
    registration: Registration,
    observed: Observed,
    name: str,
    aspect: str,
    build: objects.Builder,
) -> Plan:
    """All of an aspect in a namespace that is created in the same look: only once it is bound."""
    manifests = build(tenant, tenant_id=registration.id, namespace=name)
    applies = (act.ApplyObject(manifest=manifest) for manifest in manifests)
    if aspect != NAMESPACES:
        return chain(aspect, *applies, after=(NAMESPACES,))
    nodes = _nodes(registration, observed, None)
    space = objects.namespace(tenant, tenant_id=registration.id, name=name, nodes=nodes)
    create = act.CreateNamespace(tenant_id=registration.id, uid=tenant.uid, manifest=space)
    return chain(NAMESPACES, create, *applies)


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
        elif there.get("roleRef") and drifted({"roleRef": manifest["roleRef"]}, there):
            # a binding's role cannot be changed: this one was made by somebody else under our name
            yield act.DeleteObject(ref=Ref.of(manifest), uid=there["metadata"]["uid"])
            yield act.ApplyObject(manifest=manifest)
        else:
            yield from _corrections(manifest, there)


def _corrections(wanted: Manifest, found: Manifest) -> Iterable[ProvisionerAction]:
    """Our fields as we want them; told as a correction where somebody else has changed them."""
    if not drifted(wanted, found):
        return
    if changes := changed_by_others(wanted, found):
        yield act.CorrectDrift(manifest=wanted, changes=tuple(map(str, changes[:SHOWN])))
    else:
        yield act.ApplyObject(manifest=wanted)


def _unwanted(
    wanted: set[Ref], found: Mapping[Ref, Manifest | None], kinds: Sequence[str]
) -> Iterable[ProvisionerAction]:
    for ref, manifest in found.items():
        if ref.kind in kinds and ref not in wanted and manifest is not None and not is_going(manifest):
            yield act.DeleteObject(ref=ref, uid=manifest["metadata"]["uid"])
