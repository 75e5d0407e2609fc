"""Look once at everything that belongs to a Tenant. Absent is a value, and so is a server that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from controllers.tenant import objects
from controllers.tenant.observed import Observed, Unknown, is_bound
from pipewright import errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.plan import Manifest, Ref

if TYPE_CHECKING:
    from pipewright.facts import Database, Registration
    from pipewright.ports import ProvisionerPorts

T = TypeVar("T")

TENANT_KINDS = ("WorkflowRun", "Workflow", "Model", "Integration")
"""Our namespaced kinds, in the order in which a teardown takes them away."""


async def observe(tenant: Tenant, *, ports: ProvisionerPorts, server: str) -> Observed:
    """Read every port that the plan needs. Kubernetes and the registry must answer; the others may not.

    Only namespaces that are bound to this Tenant are looked into. `server` is the one that our logins reach.
    """
    registration = await ports.registry.find(uid=tenant.uid)
    if registration is None:
        return Observed(gateway_key=ports.sealer.key)
    wanted = tenant.spec.namespace_names(tenant.name)
    leaving = [name for name in registration.namespaces if name not in wanted]
    namespaces = await _namespaces((*wanted, *leaving), ports)
    bound = [name for name in namespaces if is_bound(registration, name, namespaces[name])]
    ours = [name for name in bound if name in wanted]
    leaving = [name for name in bound if name not in wanted]
    look = asyncio.gather(
        _children(bound, ports),
        _resources(bound if tenant.deleting else leaving, ports),
        _database(registration, ports, server=server),
        _or_unknown(ports.secrets.version(names.platform_path(registration.id))),
        _or_unknown(ports.grants.find(registration.id)),
    )
    children, resources, database, credentials, access = await look
    return Observed(
        registration=registration,
        namespaces=namespaces,
        children=children,
        resources=resources,
        connections=await _connections(ours, children, ports),
        leaving_connections=await _connections(leaving, children, ports),
        database=database,
        credential_version=credentials,
        secret_access=access,
        wanted_access=ports.grants.wanted(registration.id, namespaces=ours) if ours else None,
        gateway_key=ports.sealer.key,
    )


async def _database(
    registration: Registration, ports: ProvisionerPorts, *, server: str
) -> Database | Unknown | None:
    if registration.server != server:
        # found on another server it would look as if it were gone, and be made a second time
        message = (
            f"the tenant's database is on server {registration.server}, and this operator serves {server}"
        )
        return Unknown(reason="UnknownServer", message=message)
    return await _or_unknown(ports.databases.find(registration.id))


async def _namespaces(spaces: Sequence[str], ports: ProvisionerPorts) -> Mapping[str, Manifest | None]:
    found = await asyncio.gather(*(ports.cluster.get(objects.namespace_ref(name)) for name in spaces))
    return dict(zip(spaces, found, strict=True))


async def _children(spaces: Sequence[str], ports: ProvisionerPorts) -> Mapping[Ref, Manifest | None]:
    refs = [ref for name in spaces for ref in objects.possible(name)]
    return dict(zip(refs, await asyncio.gather(*map(ports.cluster.get, refs)), strict=True))


async def _connections(
    spaces: Sequence[str], children: Mapping[Ref, Manifest | None], ports: ProvisionerPorts
) -> Mapping[str, Manifest | Unknown | None]:
    # our right to see the connection Secret comes from a binding in the same namespace
    seen = [name for name in spaces if children[objects.our_binding_ref(name)] is not None]
    found = await asyncio.gather(
        *(_or_unknown(ports.cluster.get(objects.connection_ref(name))) for name in seen)
    )
    return dict(zip(seen, found, strict=True))


async def _resources(spaces: Sequence[str], ports: ProvisionerPorts) -> Sequence[Manifest]:
    found = await asyncio.gather(
        *(
            ports.cluster.list(api_version=Tenant.api_version, kind=kind, namespace=name)
            for kind in TENANT_KINDS
            for name in spaces
        )
    )
    return [manifest for manifests in found for manifest in manifests]


async def _or_unknown(read: Awaitable[T]) -> T | Unknown:
    try:
        return await read
    except errors.BackendError as trouble:
        return Unknown(reason=trouble.reason, message=trouble.message)
