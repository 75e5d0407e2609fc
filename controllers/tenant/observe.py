"""Look once at everything that belongs to a Tenant. Absent is a value, and so is a server that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from controllers.tenant import objects
from controllers.tenant.observed import Observed, Origin, Unknown, is_bound
from controllers.tenant.rules import data_key, dynamic
from pipewright import errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Issued
from pipewright.plan import Manifest, Ref

if TYPE_CHECKING:
    from pipewright.facts import Database, Registration, SecretAccess, Server, WrappingKey
    from pipewright.ports import ProvisionerPorts

T = TypeVar("T")

TENANT_KINDS = ("WorkflowRun", "Workflow", "Model", "Integration")
"""Our namespaced kinds, in the order in which a teardown takes them away."""


async def observe(
    tenant: Tenant,
    *,
    ports: ProvisionerPorts,
    servers: Sequence[Server],
    wrapping_key_every: timedelta | None = None,
) -> Observed:
    """Read every port that the plan needs. Kubernetes and the registry must answer; the others may not.

    Only namespaces that are bound to this Tenant are looked into. `servers` are offered to a new tenant, and
    `wrapping_key_every` is how old the key gets that wraps the data key.
    """
    registration = await ports.registry.find(uid=tenant.uid)
    if registration is None:
        origin = await _origin(tenant, ports)
        return Observed(gateway_key=ports.sealer.key, servers=servers, origin=origin)
    wanted = tenant.spec.namespace_names(tenant.name)
    leaving = [name for name in registration.namespaces if name not in wanted]
    namespaces = await _namespaces((*wanted, *leaving), ports)
    bound = [name for name in namespaces if is_bound(registration, name, namespaces[name])]
    ours = [name for name in bound if name in wanted]
    leaving = [name for name in bound if name not in wanted]
    look = asyncio.gather(
        _children(bound, ports),
        _resources(bound if tenant.deleting else leaving, ports),
        _database(registration, ports),
        _or_unknown(ports.secrets.issued(names.platform_path(registration.id))),
        # half a way in is a way in when there should be none
        _or_unknown(ports.grants.find(registration.id, partly=tenant.spec.suspended or tenant.deleting)),
        _wrapping_key(tenant, registration, ports, wrapping_key_every),
    )
    children, resources, database, credentials, access, wrapping_key = await look
    served = ports.at(registration.server)
    bytes_ = await _bytes(database, registration, ports) if tenant.deleting else None
    return Observed(
        registration=registration,
        namespaces=namespaces,
        children=children,
        resources=resources,
        connections=await _connections(ours, children, ports),
        leaving_connections=await _connections(leaving, children, ports),
        database=database,
        database_bytes=bytes_,
        credential_version=credentials.version if isinstance(credentials, Issued) else credentials,
        issued_at=credentials.at if isinstance(credentials, Issued) else None,
        secret_access=access,
        wanted_access=_wanted_access(tenant, registration, ports, ours),
        wrapping_key=wrapping_key,
        wrapping_key_every=wrapping_key_every,
        scheme=ports.data_keys.scheme,
        dynamic=ports.grants.dynamic,
        without_vault=not ports.grants.available,
        gateway_key=ports.sealer.key,
        dump_missing=(ports.at(registration.server) or ports).dumps.missing,
        servers=servers,
        address=served.logins.connection(registration.id).address if served else None,
    )


def _wanted_access(
    tenant: Tenant, registration: Registration, ports: ProvisionerPorts, spaces: Sequence[str]
) -> SecretAccess | None:
    terms = dynamic.terms(tenant, registration, available=ports.grants.dynamic)
    return ports.grants.wanted(registration.id, namespaces=spaces, dynamic=terms) if spaces else None


async def _wrapping_key(
    tenant: Tenant, registration: Registration, ports: ProvisionerPorts, every: timedelta | None
) -> WrappingKey | Unknown | None:
    if not data_key.is_looked_at(tenant, registration, every):
        return None
    return await _or_unknown(ports.data_keys.newest(registration.id))


async def _database(registration: Registration, ports: ProvisionerPorts) -> Database | Unknown | None:
    served = ports.at(registration.server)
    if served is None:
        # found on another server it would look as if it were gone, and be made a second time
        message = (
            f"the tenant's database is on server {registration.server}, which the operator's settings do not"
            " name: add it there again"
        )
        return Unknown(reason="UnknownServer", message=message)
    return await _or_unknown(served.databases.find(registration.id))


async def _origin(tenant: Tenant, ports: ProvisionerPorts) -> Origin | None:
    if tenant.spec.restore_from is None or tenant.deleting:
        return None
    found = await ports.registry.get(tenant.spec.restore_from)
    if found is None:
        return None
    ref = Ref(api_version=Tenant.api_version, kind=Tenant.kind, name=found.name)
    owner = await ports.cluster.get(ref)
    lives = owner is not None and owner["metadata"]["uid"] == found.uid
    return Origin(
        registration=found, owner=owner if lives else None, served=ports.at(found.server) is not None
    )


async def _bytes(
    database: Database | Unknown | None, registration: Registration, ports: ProvisionerPorts
) -> int | None:
    if database is None or isinstance(database, Unknown):
        return None
    own = ports.at(registration.server) or ports
    found = await _or_unknown(own.databases.size(registration.id))
    return None if isinstance(found, Unknown) else found


async def _namespaces(spaces: Sequence[str], ports: ProvisionerPorts) -> Mapping[str, Manifest | None]:
    found = await asyncio.gather(*(ports.cluster.get(objects.namespace_ref(name)) for name in spaces))
    return dict(zip(spaces, found, strict=True))


async def _children(spaces: Sequence[str], ports: ProvisionerPorts) -> Mapping[Ref, Manifest | None]:
    return await ports.cluster.get_all([ref for name in spaces for ref in objects.possible(name)])


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
