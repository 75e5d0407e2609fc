"""Taking over a namespace that was there before: first it is said what would change, then it is done.

Refused is what somebody else holds. An adopted namespace is marked, and released instead of deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controllers.tenant.observed import is_going
from controllers.tenant.rules.words import NAMESPACES, SOON, Plan
from pipewright import actions as act
from pipewright import conditions, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration
from pipewright.fields import Path, differences, told
from pipewright.plan import Manifest, chain, says

LATER = timedelta(seconds=10)
"""When to look again at a namespace of somebody else that is going away."""

SYSTEM = (
    "default",
    names.SYSTEM_NAMESPACE,
    names.SECRETS_NAMESPACE,
    names.RUNNER_SECRETS_NAMESPACE,
)


def wanted(tenant: Tenant, name: str) -> bool:
    """Whether the spec asks for the adoption of the namespace."""
    return any(it.name == name and it.adopt for it in tenant.spec.named_namespaces(tenant.name))


def is_adopted(found: Manifest) -> bool:
    """Whether the namespace carries the mark of one that was there before its Tenant."""
    return names.ADOPTED_ANNOTATION in (found["metadata"].get("annotations") or {})


def adopt(tenant: Tenant, registration: Registration, found: Manifest, *, manifest: Manifest) -> Plan:
    """Refuse, or say what changes, or (once that was told) bind the namespace and apply `manifest`."""
    metadata = found["metadata"]
    name = metadata["name"]
    if not wanted(tenant, name):
        message = (
            f"the namespace {name} exists and is not this Tenant's: set adopt to true in spec.namespaces to"
            " take it over, or delete it, or name another one"
        )
        return _refuse(message)
    if (reason := _held_by_other(found)) is not None:
        return _refuse(f"the namespace {name} is not adopted: {reason}")
    if is_going(found):
        message = f"the namespace {name} is being deleted and not adopted; it is created anew when it is gone"
        return Plan(facts=says(NAMESPACES, False, "Terminating", message).facts, check_after=LATER)
    message = f"adopts the namespace {name}{_changes(manifest, found)}"
    last = conditions.find(tenant.status.conditions, NAMESPACES)
    if last is None or (last.reason, last.message) != ("Adopting", message):
        return Plan(facts=says(NAMESPACES, False, "Adopting", message).facts, check_after=SOON)
    bind = act.BindNamespace(tenant_id=registration.id, name=name, uid=metadata["uid"], tenant_uid=tenant.uid)
    return chain(NAMESPACES, bind, act.ApplyObject(manifest=manifest))


def _changes(manifest: Manifest, found: Manifest) -> str:
    paths = differences(manifest, found)
    there = [path for path in paths if _has(found, path)]
    added = told(path for path in paths if path not in there)
    return (f", adds {added}" if added else "") + (f", overwrites {told(there)}" if there else "")


def _has(found: Any, path: Path) -> bool:
    for key in path:
        found = (found or {}).get(key)
    return found is not None


def _refuse(message: str) -> Plan:
    return says(NAMESPACES, False, "NamespaceOwnedByOther", message, stalled=True)


def _held_by_other(found: Manifest) -> str | None:
    """Who holds it, and what to do about it. The registry is asked too, when the namespace is bound."""
    metadata = found["metadata"]
    name, labels = metadata["name"], metadata.get("labels") or {}
    if name in SYSTEM or name.startswith("kube-"):
        return "it belongs to the cluster"
    if names.UID_LABEL in labels:
        holder = labels.get(names.TENANT_LABEL, "of another name")
        return (
            f"it carries the UID of the Tenant {holder}; if that one is gone for good,"
            f" kubectl label namespace {name} {names.UID_LABEL}-"
            f" and annotate this Tenant with {names.CHECK_ANNOTATION}"
        )
    for owner in metadata.get("ownerReferences") or ():
        return f"the {owner['kind']} {owner['name']} owns it (metadata.ownerReferences)"
    return None
