"""The registry of tenants: rows of the platform database, each change with its line in the audit trail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from pipewright import errors
from pipewright.ports import Registration, Secret
from pipewright.store import audit, pools
from pipewright.store.roles import new_id as new_id

_SELECT = """
SELECT r.id, r.uid, r.name, r.server, r.state, r.bundle_version, r.bundle_key,
    (SELECT coalesce(jsonb_object_agg(n.name, n.uid), '{}') FROM pipewright.registry_namespaces n
     WHERE n.tenant_id = r.id)
FROM pipewright.registry r WHERE r.uid = %s
"""


class PostgresRegistry:
    """`ports.Registry` on the platform database, as the provisioner's login."""

    def __init__(self, connections: pools.Pools, *, dsn: Secret) -> None:
        self._connections = connections
        self._dsn = dsn

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        async with self._connections.connection("platform", self._dsn) as conn:
            return await _find(conn, uid)

    async def register(self, *, uid: str, name: str, server: str) -> Registration:
        """Allot a random id; the same UID gets the same id again."""
        async with self._transaction() as conn:
            cursor = await conn.execute(
                "INSERT INTO pipewright.registry (id, uid, name, server) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (uid) DO NOTHING RETURNING id",
                [new_id(), uid, name, server],
            )
            if row := await cursor.fetchone():
                await audit.record(
                    conn, tenant_id=row[0], action="RegisterTenant", detail=f"{name} on {server}"
                )
            found = await _find(conn, uid)
        assert found is not None
        return found

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record a namespace as the tenant's.

        Of one name only one namespace lives, and the caller has just seen its UID: rows of the name under
        other UIDs, whoever's they are, are of namespaces that are gone.
        """
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            await conn.execute(
                "DELETE FROM pipewright.registry_namespaces WHERE name = %s AND uid <> %s", [name, uid]
            )
            cursor = await conn.execute(
                "INSERT INTO pipewright.registry_namespaces (uid, tenant_id, name) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING RETURNING uid",
                [uid, tenant_id, name],
            )
            if await cursor.fetchone():
                await audit.record(conn, tenant_id=tenant_id, action="BindNamespace", detail=f"{name} {uid}")
                return
            cursor = await conn.execute(
                "SELECT tenant_id FROM pipewright.registry_namespaces WHERE uid = %s", [uid]
            )
            owner = await cursor.fetchone()
        if owner != (tenant_id,):
            raise errors.OwnedByOther(f"namespace {name} belongs to another tenant; choose another name")

    async def unbind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record that the namespace with this UID is the tenant's no more."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            cursor = await conn.execute(
                "DELETE FROM pipewright.registry_namespaces WHERE tenant_id = %s AND name = %s AND uid = %s",
                [tenant_id, name, uid],
            )
            if cursor.rowcount:
                detail = f"{name} {uid}"
                await audit.record(conn, tenant_id=tenant_id, action="UnbindNamespace", detail=detail)

    async def mark(self, tenant_id: str, *, state: str) -> None:
        """Set the state. Retained and Deleted free the namespaces; Deleted forgets what was sealed, too."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            cursor = await conn.execute(
                "UPDATE pipewright.registry SET state = %s, updated_at = now() WHERE id = %s"
                " AND (state = %s OR (state NOT IN ('Retained', 'Deleted')"
                " AND NOT (state = 'Deleting' AND %s = 'Active')))",
                [state, tenant_id, state, state],
            )
            if not cursor.rowcount:
                raise errors.Conflict(f"tenant {tenant_id} has gone further than {state} meanwhile")
            if state in ("Retained", "Deleted"):
                await conn.execute(
                    "DELETE FROM pipewright.registry_namespaces WHERE tenant_id = %s", [tenant_id]
                )
            if state == "Deleted":
                await conn.execute(
                    "UPDATE pipewright.registry SET wrapped_data_key = NULL, bundle = NULL,"
                    " bundle_version = NULL, bundle_key = NULL WHERE id = %s",
                    [tenant_id],
                )
            await audit.record(conn, tenant_id=tenant_id, action="MarkTenant", detail=state)

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant, sealed to its key."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            # never over another data key: what it encrypted would be lost
            cursor = await conn.execute(
                "UPDATE pipewright.registry SET bundle = %s, bundle_version = %s, bundle_key = %s,"
                " wrapped_data_key = %s, updated_at = now() WHERE id = %s"
                " AND coalesce(wrapped_data_key, %s) = %s",
                [bundle, version, key, wrapped_data_key, tenant_id, wrapped_data_key, wrapped_data_key],
            )
            if not cursor.rowcount:
                raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
            await audit.record(
                conn,
                tenant_id=tenant_id,
                action="SealGatewayBundle",
                detail=f"version {version} to key {key}",
            )

    async def wrapped_data_key(self, tenant_id: str) -> str | None:
        """The tenant's data key as Vault's transit wrapped it."""
        async with self._connections.connection("platform", self._dsn) as conn:
            cursor = await conn.execute(
                "SELECT wrapped_data_key FROM pipewright.registry WHERE id = %s", [tenant_id]
            )
            row = await cursor.fetchone()
        return row[0] if row else None

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection]:
        async with self._connections.connection("platform", self._dsn) as conn, conn.transaction():
            yield conn


async def _find(conn: psycopg.AsyncConnection, uid: str) -> Registration | None:
    cursor = await conn.execute(_SELECT, [uid])
    row = await cursor.fetchone()
    if row is None:
        return None
    tenant_id, uid, name, server, state, bundle_version, bundle_key, namespaces = row
    return Registration(
        id=tenant_id,
        uid=uid,
        name=name,
        server=server,
        state=state,
        namespaces=namespaces,
        bundle_version=bundle_version,
        bundle_key=bundle_key,
    )


async def _lock(conn: psycopg.AsyncConnection, tenant_id: str) -> None:
    """Changes of one tenant one after another; a tenant that was never registered is a mistake of ours."""
    cursor = await conn.execute("SELECT FROM pipewright.registry WHERE id = %s FOR UPDATE", [tenant_id])
    if await cursor.fetchone() is None:
        raise errors.Conflict(f"tenant {tenant_id} is not in the registry")
