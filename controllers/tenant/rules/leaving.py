"""A namespace that leaves a tenant: deleted when the tenant made it and the policy says so, else released.

Released means: the connection is taken away, then every way in, then our labels; the registry forgets it
last. From an adopted namespace everything of ours is taken, so that it is again as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controllers.tenant import objects
from controllers.tenant.observed import Observed, Unknown, is_going
from controllers.tenant.rules import adoption
from controllers.tenant.rules.words import NAMESPACES, SOON, Plan
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration
from pipewright.fields import left_over
from pipewright.plan import Manifest, Ref, chain, merge, says

_LABELS = (names.TENANT_LABEL, names.ID_LABEL, names.UID_LABEL)
_ANNOTATIONS = (names.ADOPTED_ANNOTATION,)


def dropped(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """Namespaces that the registry has and the spec no longer names."""
    wanted = tenant.spec.namespace_names(tenant.name)
    return merge(
        *(
            _leave(tenant, registration, observed, name, uid)
            for name, uid in sorted(registration.namespaces.items())
            if name not in wanted
        )
    )


def adopted(tenant: Tenant, registration: Registration, observed: Observed) -> Plan:
    """For a teardown: the adopted namespaces, which outlive the Tenant whatever its policy is."""
    found = {name: observed.namespaces.get(name) for name in registration.namespaces}
    return merge(
        *(
            _release(registration, observed, there)
            for name, there in sorted(found.items())
            if there is not None
            and not is_going(there)
            and there["metadata"]["uid"] == registration.namespaces[name]
            and was_there_before(tenant, there)
        )
    )


def was_there_before(tenant: Tenant, found: Manifest) -> bool:
    """Whether the namespace outlives its Tenant, because the Tenant did not make it."""
    # one without our UID was bound, and a crash kept us from marking it
    marked = (found["metadata"].get("labels") or {}).get(names.UID_LABEL) == tenant.uid
    return adoption.is_adopted(found) or adoption.wanted(tenant, found["metadata"]["name"]) or not marked


def _leave(tenant: Tenant, registration: Registration, observed: Observed, name: str, uid: str) -> Plan:
    found = observed.namespaces.get(name)
    if found is None or found["metadata"]["uid"] != uid:
        return chain(NAMESPACES, act.UnbindNamespace(tenant_id=registration.id, name=name, uid=uid))
    if is_going(found):
        return _wait(f"waits until the namespace {name} is gone, which spec.namespaces no longer names")
    if tenant.spec.deletion_policy == "Retain" or was_there_before(tenant, found):
        return _release(registration, observed, found)
    return _delete(observed, found)


def _delete(observed: Observed, found: Manifest) -> Plan:
    """Custom resources first, while their controllers can still clean up; then the namespace."""
    name = found["metadata"]["name"]
    resources = [it for it in observed.resources if it["metadata"]["namespace"] == name]
    going = [it for it in resources or [found] if not is_going(it)]
    if not going:
        return _wait(f"waits until the custom resources in {name} are gone")
    return chain(NAMESPACES, *(act.DeleteObject(ref=Ref.of(it), uid=it["metadata"]["uid"]) for it in going))


def _release(registration: Registration, observed: Observed, found: Manifest) -> Plan:
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    secret = observed.connections.get(name) or observed.leaving_connections.get(name)
    if isinstance(secret, Unknown):
        return _wait(f"waits to take the connection out of {name}: {secret.message}")
    ours = list(_ours(observed, found))
    if secret is not None and not is_going(secret):
        ours = [secret, *ours]
    if ours:
        return chain(
            NAMESPACES, *(act.DeleteObject(ref=Ref.of(it), uid=it["metadata"]["uid"]) for it in ours)
        )
    keep = {"metadata": {"labels": dict.fromkeys(objects.POD_SECURITY)}}
    remove = act.RemoveMetadata(
        ref=Ref.of(found),
        uid=uid,
        labels=tuple(sorted({*_LABELS, *left_over(keep, found, field="labels")})),
        annotations=tuple(sorted({*_ANNOTATIONS, *left_over(keep, found, field="annotations")})),
    )
    return chain(NAMESPACES, remove, act.UnbindNamespace(tenant_id=registration.id, name=name, uid=uid))


def _ours(observed: Observed, found: Manifest) -> Iterable[Manifest]:
    """What is taken out of a released namespace: the ways in, and from an adopted one all that is ours."""
    name, before = found["metadata"]["name"], adoption.is_adopted(found)
    there: Mapping[Ref, Manifest] = {
        ref: it
        for ref, it in observed.children.items()
        if it is not None and ref.namespace == name and not is_going(it)
    }
    last = objects.our_binding_ref(name)  # our own way in, by which the connection is taken away
    for ref in sorted(there, key=lambda ref: (ref == last, str(ref))):
        is_marked = names.UID_LABEL in (there[ref]["metadata"].get("labels") or {})
        if ref.kind == "RoleBinding" or (before and is_marked):
            yield there[ref]


def _wait(message: str) -> Plan:
    return Plan(facts=says(NAMESPACES, False, "Deleting", message).facts, check_after=SOON)
