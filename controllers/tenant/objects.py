"""Builders of a Tenant's objects in Kubernetes: what they need in, a manifest out.

Names are fixed, so a namespace holds at most one of each and what the spec no longer asks for is found.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipewright import names
from pipewright.api.v1alpha1.tenant import Limits, Subject, Tenant
from pipewright.api.v1alpha1.tenant_namespaces import Egress, Network, Source
from pipewright.fields import stamped
from pipewright.plan import Manifest, Ref

RBAC = "rbac.authorization.k8s.io"

NAME = "pipewright"
"""The name of what a namespace has one of: ResourceQuota and LimitRange."""
DNS_PORT = 53
METADATA_SERVICES = ("169.254.169.254/32", "fd00:ec2::254/128")
"""Where clouds hand a machine's own credentials to whoever asks: no pod of a tenant reaches them."""
POLICIES = (
    "pipewright-default-deny",
    "pipewright-allow-dns",
    "pipewright-same-tenant",
    "pipewright-allow-listed",
)
POD_SECURITY = tuple(f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn", "audit"))

KINDS = {
    "NamespacesReady": ("ResourceQuota", "LimitRange", "ServiceAccount"),
    "NetworkReady": ("NetworkPolicy",),
    "AccessReady": ("RoleBinding",),
}
"""Condition → the kinds that serve it in a namespace."""

ROLES = {"owners": "pipewright-owner", "editors": "pipewright-editor", "viewers": "pipewright-viewer"}
"""List in `spec.access` → shipped ClusterRole."""
SYSTEM_ROLES = {
    "provisioner": "pipewright-tenant-connection",
    "runner": "pipewright-tenant-credentials",
}
"""ServiceAccount of ours → shipped ClusterRole that it has in each tenant's namespace, and only there."""


class Builder(Protocol):
    """Builds what a namespace needs for one condition."""

    def __call__(self, tenant: Tenant, *, tenant_id: str, namespace: str) -> Sequence[Manifest]:
        """The manifests."""
        ...


def namespace(
    tenant: Tenant, *, tenant_id: str, name: str, adopted: bool = False, nodes: str | None = None
) -> Manifest:
    """The namespace, with the Pod Security Standard that it enforces and whether it was there before.

    `nodes` is the node selector of its pods, see `node_selector`; None for any node.
    """
    spec = next((it for it in tenant.spec.named_namespaces(tenant.name) if it.name == name), None)
    labels, annotations = (spec.labels or {}, spec.annotations or {}) if spec else ({}, {})
    mark = {names.ADOPTED_ANNOTATION: "true"} if adopted else {}
    placed = {names.NODE_SELECTOR_ANNOTATION: nodes} if nodes is not None else {}
    metadata = {
        "name": name,
        "labels": {
            **labels,
            **_labels(tenant, tenant_id),
            **dict.fromkeys(POD_SECURITY, tenant.spec.pod_security),
        },
        "annotations": {**annotations, **mark, **placed},
    }
    return stamped({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def node_selector(labels: Mapping[str, str]) -> str | None:
    """The labels as the namespace's annotation has them; None where there are none."""
    # an empty text would say something: that the cluster's default selector does not count here
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or None


def in_namespace(
    tenant: Tenant, *, tenant_id: str, namespace: str, hard: Mapping[str, str] | None = None
) -> Sequence[Manifest]:
    """Quota, limits and the ServiceAccount whose tokens open the tenant's Vault path.

    `hard` is this namespace's part of the tenant's quota; the whole of it where it is not given.
    """
    return tuple(
        manifest
        for manifest in (
            _quota(tenant, tenant_id, namespace, tenant.spec.whole_quota if hard is None else hard),
            _limits(tenant, tenant_id, namespace),
            _object(
                tenant,
                tenant_id,
                "v1",
                "ServiceAccount",
                namespace,
                names.TENANT_SERVICE_ACCOUNT,
                automountServiceAccountToken=False,
            ),
        )
        if manifest is not None
    )


def network(tenant: Tenant, *, tenant_id: str, namespace: str) -> Sequence[Manifest]:
    """Deny by default; allow DNS, the tenant's own namespaces, and what the spec says.

    Each policy names both directions, empty or not: a rule that somebody adds would be ours to remove.
    """
    own = [{"namespaceSelector": {"matchLabels": {names.UID_LABEL: tenant.uid}}}]
    dns = [
        {
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")],
        }
    ]
    policies: Mapping[str, Mapping[str, Any]] = {
        "pipewright-default-deny": {"policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
        "pipewright-allow-dns": {"policyTypes": ["Egress"], "ingress": [], "egress": dns},
        "pipewright-same-tenant": {
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": own}],
            "egress": [{"to": own}],
        },
        **_listed(tenant.spec.network),
    }
    return tuple(
        _object(
            tenant,
            tenant_id,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            namespace,
            name,
            spec={"podSelector": {}, **spec},
        )
        for name, spec in policies.items()
    )


def access(tenant: Tenant, *, tenant_id: str, namespace: str) -> Sequence[Manifest]:
    """RoleBindings of the people in the spec, and of our own two processes in this namespace."""
    people = {
        f"pipewright-{group}": (role, [_subject(subject) for subject in getattr(tenant.spec.access, group)])
        for group, role in ROLES.items()
    }
    ours = {
        f"pipewright-{account}": (
            role,
            [{"kind": "ServiceAccount", "name": account, "namespace": names.SYSTEM_NAMESPACE}],
        )
        for account, role in SYSTEM_ROLES.items()
    }
    return tuple(
        _object(
            tenant,
            tenant_id,
            f"{RBAC}/v1",
            "RoleBinding",
            namespace,
            name,
            roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            subjects=subjects,
        )
        for name, (role, subjects) in {**people, **ours}.items()
        if subjects
    )


def possible(namespace: str) -> Sequence[Ref]:
    """Every object that any spec could ask for in a namespace: what is read at each look."""
    bindings = [f"pipewright-{name}" for name in (*ROLES, *SYSTEM_ROLES)]
    kinds = [
        ("v1", "ResourceQuota", NAME),
        ("v1", "LimitRange", NAME),
        ("v1", "ServiceAccount", names.TENANT_SERVICE_ACCOUNT),
        *((f"{RBAC}/v1", "RoleBinding", name) for name in bindings),
        *(("networking.k8s.io/v1", "NetworkPolicy", name) for name in POLICIES),
    ]
    return tuple(
        Ref(api_version=version, kind=kind, namespace=namespace, name=name) for version, kind, name in kinds
    )


def namespace_ref(name: str) -> Ref:
    """Names a namespace."""
    return Ref(api_version="v1", kind="Namespace", name=name)


def quota_ref(namespace: str) -> Ref:
    """Names a namespace's ResourceQuota."""
    return Ref(api_version="v1", kind="ResourceQuota", namespace=namespace, name=NAME)


def connection_ref(namespace: str) -> Ref:
    """Names the connection Secret."""
    return Ref(api_version="v1", kind="Secret", namespace=namespace, name=names.CONNECTION_SECRET)


def our_binding_ref(namespace: str) -> Ref:
    """Names the binding that lets the provisioner see the connection Secret."""
    return Ref(
        api_version=f"{RBAC}/v1", kind="RoleBinding", namespace=namespace, name="pipewright-provisioner"
    )


def _labels(tenant: Tenant, tenant_id: str) -> dict[str, str]:
    return {names.TENANT_LABEL: tenant.name, names.ID_LABEL: tenant_id, names.UID_LABEL: tenant.uid}


def _object(
    tenant: Tenant, tenant_id: str, version: str, kind: str, namespace: str, name: str, **body: Any
) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": _labels(tenant, tenant_id)}
    return stamped({"apiVersion": version, "kind": kind, "metadata": metadata, **body})


def _quota(tenant: Tenant, tenant_id: str, namespace: str, hard: Mapping[str, str]) -> Manifest | None:
    if not hard:
        return None
    return _object(tenant, tenant_id, "v1", "ResourceQuota", namespace, NAME, spec={"hard": dict(hard)})


def _limits(tenant: Tenant, tenant_id: str, namespace: str) -> Manifest | None:
    limits: Limits | None = tenant.spec.limits
    if limits is None:
        return None
    named = {"default": limits.default, "defaultRequest": limits.default_request, "max": limits.max}
    item = {"type": "Container", **{key: dict(value) for key, value in named.items() if value}}
    return _object(tenant, tenant_id, "v1", "LimitRange", namespace, NAME, spec={"limits": [item]})


def _listed(network: Network) -> Mapping[str, Mapping[str, Any]]:
    if network.isolation == "Open":
        everywhere = [_block(cidr) for cidr in ("0.0.0.0/0", "::/0")]
        # some networks match pods by selectors only, never by address
        everything = [{"to": [{"namespaceSelector": {}}, *everywhere]}]
        open_ = {"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": everything}
        return {"pipewright-allow-listed": open_}
    ingress = [{"from": [_source(source) for source in network.allow_from]}] if network.allow_from else []
    egress = [_egress(rule) for rule in network.egress]
    if not ingress and not egress:
        return {}
    types = ["Ingress", "Egress"]
    return {"pipewright-allow-listed": {"policyTypes": types, "ingress": ingress, "egress": egress}}


def _source(source: Source) -> Mapping[str, Any]:
    if source.tenant is not None:
        return {"namespaceSelector": {"matchLabels": {names.TENANT_LABEL: source.tenant}}}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": source.namespace}}}


def _egress(rule: Egress) -> Mapping[str, Any]:
    ports = [
        {
            "protocol": port.protocol,
            "port": port.port,
            **({"endPort": port.end_port} if port.end_port is not None else {}),
        }
        for port in rule.ports
    ]
    return {"to": [_block(rule.cidr)], **({"ports": ports} if ports else {})}


def _block(cidr: str) -> Mapping[str, Any]:
    """The addresses without the metadata services among them."""
    whole = ipaddress.ip_network(cidr, strict=False)
    inside = [
        service
        for service in METADATA_SERVICES
        if (address := ipaddress.ip_network(service)).version == whole.version
        and address.network_address in whole
    ]
    return {"ipBlock": {"cidr": cidr, **({"except": inside} if inside else {})}}


def _subject(subject: Subject) -> dict[str, str]:
    if subject.kind == "ServiceAccount":
        return {"kind": subject.kind, "name": subject.name, "namespace": subject.namespace or ""}
    return {"apiGroup": RBAC, "kind": subject.kind, "name": subject.name}
