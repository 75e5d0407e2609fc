"""The registry of tenants: rows of the platform database, each change with its line in the audit trail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from pipewright import errors
from pipewright.facts import Rollout, Server, Sweep
from pipewright.ports import Dump, Registration, Secret
from pipewright.store import audit, placement, pools, rollouts, schema, upkeep
from pipewright.store.roles import new_id as new_id

_SELECT = """
SELECT r.id, r.uid, r.name, r.server, r.state, r.bundle_version, r.bundle_key, r.previous_uids, r.dump,
    (SELECT coalesce(jsonb_object_agg(n.name, n.uid), '{}') FROM pipewright.registry_namespaces n
     WHERE n.tenant_id = r.id), latest.rollout, r.bundle_address,
    substring(r.wrapped_data_key from '^[a-z]+:v[0-9]+'),
    upkeep.proof, r.created_at, upkeep.swept_at, upkeep.sweep_finished
FROM pipewright.registry r
"""
_BY_UID: LiteralString = _SELECT + upkeep.JOIN + rollouts.LATEST + " WHERE r.uid = %(key)s"
_BY_ID: LiteralString = _SELECT + upkeep.JOIN + rollouts.LATEST + " WHERE r.id = %(key)s"
_FILLED = """
SELECT server, count(*) FROM pipewright.registry WHERE state <> 'Deleted' AND server = ANY(%s) GROUP BY server
"""
_PLACING = 7_264_102
"""Advisory lock of the platform database: one tenant after the other gets its place."""
_REBIND = """
UPDATE pipewright.registry SET uid = %s, name = %s, state = 'Restoring', dump = NULL,
    previous_uids = previous_uids || uid, updated_at = now()
WHERE id = %s AND uid = %s AND state <> 'Deleted'
"""
_MARK = """
UPDATE pipewright.registry SET state = %(state)s, updated_at = now(),
    resumed_at = CASE WHEN state = 'Suspended' AND %(state)s = 'Active' THEN now() ELSE resumed_at END
WHERE id = %(id)s AND uid = coalesce(%(uid)s, uid)
AND (state = %(state)s OR (state NOT IN ('Retained', 'Deleted')
    AND NOT (state = 'Deleting' AND %(state)s IN ('Active', 'Suspended'))))
"""
_RETURN_NAMESPACES = """
INSERT INTO pipewright.registry_namespaces (uid, tenant_id, name)
SELECT kept.value, r.id, kept.key FROM pipewright.registry r, jsonb_each_text(r.retained_namespaces) kept
WHERE r.id = %s AND kept.key = ANY(%s) ON CONFLICT DO NOTHING
"""
_KEEP_NAMESPACES = """
UPDATE pipewright.registry r SET retained_namespaces = r.retained_namespaces || (
    SELECT coalesce(jsonb_object_agg(n.name, n.uid), '{}') FROM pipewright.registry_namespaces n
    WHERE n.tenant_id = r.id)
WHERE r.id = %s
"""


class PostgresRegistry:
    """`ports.Registry` on the platform database, as the provisioner's login."""

    def __init__(self, connections: pools.Pools, *, dsn: Secret, revision: str | None = None) -> None:
        """`revision` is the tenants' schema that is rolled out: this release's."""
        self._connections = connections
        self._dsn = dsn
        self._revision = revision or schema.head("tenant")

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        async with self._connections.connection("platform", self._dsn) as conn:
            return await _find(conn, uid, self._revision)

    async def get(self, tenant_id: str) -> Registration | None:
        """The registration with this id, whoever its Tenant is or was."""
        async with self._connections.connection("platform", self._dsn) as conn:
            return await _find(conn, tenant_id, self._revision, query=_BY_ID)

    async def rebind(
        self, tenant_id: str, *, uid: str, name: str, previous_uid: str, namespaces: Collection[str]
    ) -> None:
        """Make this Tenant the owner by compare-and-swap; its namespaces are those that were known."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            cursor = await conn.execute(_REBIND, [uid, name, tenant_id, previous_uid])
            if not cursor.rowcount:
                found = await _find(conn, tenant_id, self._revision, query=_BY_ID)
                if found is not None and found.uid == uid:
                    return
                raise errors.Conflict(f"tenant {tenant_id} is no longer that of UID {previous_uid}")
            await conn.execute(_RETURN_NAMESPACES, [tenant_id, list(namespaces)])
            await conn.execute(
                "DELETE FROM pipewright.registry_namespaces WHERE tenant_id = %s AND name <> ALL(%s)",
                [tenant_id, list(namespaces)],
            )
            await conn.execute(
                "UPDATE pipewright.registry SET retained_namespaces = '{}' WHERE id = %s", [tenant_id]
            )
            detail = f"{name} {uid} after {previous_uid}"
            await audit.record(conn, tenant_id=tenant_id, action="RebindTenant", detail=detail)

    async def record_dump(self, tenant_id: str, dump: Dump) -> None:
        """Remember where the last dump lies."""
        values = {"path": dump.path, "sha256": dump.sha256, "bytes": dump.bytes}
        noted = Jsonb({**values, "takenAt": dump.taken_at.isoformat()})
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            await conn.execute("UPDATE pipewright.registry SET dump = %s WHERE id = %s", [noted, tenant_id])
            detail = f"{dump.path} sha256:{dump.sha256} {dump.bytes} bytes"
            await audit.record(conn, tenant_id=tenant_id, action="TakeDump", detail=detail)

    async def register(self, *, uid: str, name: str, servers: Sequence[Server]) -> Registration:
        """Allot a random id and a place on a server; the same UID gets the same again."""
        async with self._transaction() as conn:
            if found := await _find(conn, uid, self._revision):
                return found
            server = await _choose(conn, servers)
            cursor = await conn.execute(
                "INSERT INTO pipewright.registry (id, uid, name, server) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (uid) DO NOTHING RETURNING id",
                [new_id(), uid, name, server],
            )
            if row := await cursor.fetchone():
                await audit.record(
                    conn, tenant_id=row[0], action="RegisterTenant", detail=f"{name} on {server}"
                )
            found = await _find(conn, uid, self._revision)
        assert found is not None
        return found

    async def confirm(self, tenant_id: str, *, uid: str) -> None:
        """Read the owner live."""
        async with self._connections.connection("platform", self._dsn) as conn:
            cursor = await conn.execute("SELECT uid FROM pipewright.registry WHERE id = %s", [tenant_id])
            _require_owner(tenant_id, await cursor.fetchone(), uid)

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str, owner: str) -> None:
        """Record a namespace as the tenant's.

        Of one name only one namespace lives, and the caller has just seen its UID: rows of the name under
        other UIDs, whoever's they are, are of namespaces that are gone.
        """
        async with self._transaction() as conn:
            _require_owner(tenant_id, await _lock(conn, tenant_id), owner)
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
            holder = await cursor.fetchone()
        if holder != (tenant_id,):
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

    async def mark(
        self, tenant_id: str, *, state: str, uid: str | None = None, abandoned: Sequence[str] = ()
    ) -> None:
        """Set the state. Retained and Deleted free the namespaces; Deleted forgets what was sealed, too."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            cursor = await conn.execute(
                _MARK,
                {"state": state, "id": tenant_id, "uid": uid},
            )
            if not cursor.rowcount:
                raise errors.Conflict(f"tenant {tenant_id} has gone further than {state} meanwhile")
            if state == "Retained":
                await conn.execute(_KEEP_NAMESPACES, [tenant_id])
            if state != "Deleting":
                await conn.execute(
                    "UPDATE pipewright.registry SET previous_uids = '{}' WHERE id = %s", [tenant_id]
                )
            if state in ("Retained", "Deleted"):
                await conn.execute(
                    "DELETE FROM pipewright.registry_namespaces WHERE tenant_id = %s", [tenant_id]
                )
            if state == "Deleted":
                await conn.execute(
                    "UPDATE pipewright.registry SET wrapped_data_key = NULL, bundle = NULL,"
                    " bundle_version = NULL, bundle_key = NULL, bundle_address = NULL WHERE id = %s",
                    [tenant_id],
                )
                await conn.execute("DELETE FROM pipewright.spool WHERE tenant_id = %s", [tenant_id])
            detail = ", abandoned: ".join((state, *([" ".join(abandoned)] if abandoned else [])))
            await audit.record(conn, tenant_id=tenant_id, action="MarkTenant", detail=detail)

    async def expire_audit(self, tenant_id: str, *, before: datetime) -> tuple[int, bool]:
        """Delete lines of the tenant's audit trail, by the one function that may."""
        async with self._connections.connection("platform", self._dsn) as conn:
            return await upkeep.expire_audit(conn, tenant_id, before)

    async def record_sweep(self, tenant_id: str, sweep: Sweep, *, counts: Mapping[str, int]) -> None:
        """Remember the last sweep; what it deleted is a line of the audit trail."""
        async with self._transaction() as conn:
            await upkeep.record_sweep(conn, tenant_id, sweep)
            if counts:
                detail = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
                await audit.record(conn, tenant_id=tenant_id, action="ExpireHistory", detail=detail)

    async def begin_upgrade(self, tenant_id: str) -> bool:
        """Whether the tenant's schema may be upgraded now."""
        async with self._transaction() as conn:
            return await rollouts.begin(conn, tenant_id=tenant_id, revision=self._revision)

    async def finish_upgrade(self, tenant_id: str) -> None:
        """The tenant was upgraded; if its turn came first, the others follow."""
        async with self._transaction() as conn:
            await rollouts.finish(conn, tenant_id=tenant_id, revision=self._revision)
            await audit.record(
                conn, tenant_id=tenant_id, action="MigrateDatabase", detail=f"to {self._revision}"
            )

    async def fail_upgrade(self, tenant_id: str, *, reason: str) -> None:
        """The tenant could not be upgraded: nobody else on its server is from now on."""
        async with self._transaction() as conn:
            await rollouts.fail(conn, tenant_id=tenant_id, revision=self._revision, reason=reason)
            await audit.record(
                conn, tenant_id=tenant_id, action="MigrateDatabase", detail=f"to {self._revision}: {reason}"
            )

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, address: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant, sealed to its key."""
        async with self._transaction() as conn:
            await _lock(conn, tenant_id)
            # never over another data key: what it encrypted would be lost
            cursor = await conn.execute(
                "UPDATE pipewright.registry SET bundle = %s, bundle_version = %s, bundle_key = %s,"
                " bundle_address = %s, wrapped_data_key = %s, updated_at = now() WHERE id = %s"
                " AND coalesce(wrapped_data_key, %s) = %s",
                [
                    bundle,
                    version,
                    key,
                    address,
                    wrapped_data_key,
                    tenant_id,
                    wrapped_data_key,
                    wrapped_data_key,
                ],
            )
            if not cursor.rowcount:
                raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
            await audit.record(
                conn,
                tenant_id=tenant_id,
                action="SealGatewayBundle",
                detail=f"version {version} to key {key}",
            )

    async def replace_data_key(self, tenant_id: str, *, expected: str, wrapped: str) -> None:
        """Store the same data key as it is wrapped now, by compare-and-swap."""
        async with self._transaction() as conn:
            cursor = await conn.execute(
                "UPDATE pipewright.registry SET wrapped_data_key = %s, updated_at = now()"
                " WHERE id = %s AND wrapped_data_key = %s",
                [wrapped, tenant_id, expected],
            )
            if not cursor.rowcount:
                raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
            detail = wrapped.rpartition(":")[0]
            await audit.record(conn, tenant_id=tenant_id, action="RewrapDataKey", detail=f"by {detail}")

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


async def _find(
    conn: psycopg.AsyncConnection, key: str, revision: str, *, query: LiteralString = _BY_UID
) -> Registration | None:
    cursor = await conn.execute(query, {"key": key, "revision": revision})
    row = await cursor.fetchone()
    if row is None:
        return None
    tenant_id, uid, name, server, state, bundle_version, bundle_key, previous, dump, namespaces = row[:10]
    rollout, bundle_address, wrapped_by, proof, created_at, swept_at, sweep_finished = row[10:]
    return Registration(
        id=tenant_id,
        uid=uid,
        name=name,
        server=server,
        state=state,
        namespaces=namespaces,
        bundle_version=bundle_version,
        bundle_key=bundle_key,
        bundle_address=bundle_address,
        wrapped_by=wrapped_by,
        previous_uids=tuple(previous),
        dump=_dump(dump),
        proof=upkeep.read_proof(proof),
        created_at=created_at,
        sweep=Sweep(at=swept_at, finished=sweep_finished) if swept_at else None,
        rollout=Rollout(**{**rollout, "at": datetime.fromtimestamp(rollout["at"], tz=UTC)})
        if rollout
        else None,
    )


def _dump(noted: dict[str, Any] | None) -> Dump | None:
    if noted is None:
        return None
    taken = datetime.fromisoformat(noted["takenAt"])
    return Dump(path=noted["path"], sha256=noted["sha256"], bytes=noted["bytes"], taken_at=taken)


async def _choose(conn: psycopg.AsyncConnection, servers: Sequence[Server]) -> str:
    """The least filled server. Whoever registers meanwhile waits for this transaction's end and counts it."""
    if [server.capacity for server in servers] == [None]:
        return servers[0].name  # there is nothing to count
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", [_PLACING])
    cursor = await conn.execute(_FILLED, [[server.name for server in servers]])
    return placement.choose(servers, {name: count async for name, count in cursor})


async def _lock(conn: psycopg.AsyncConnection, tenant_id: str) -> tuple[str]:
    """Changes of one tenant one after another, with its owner's UID.

    A tenant that was never registered is a mistake of ours.
    """
    cursor = await conn.execute("SELECT uid FROM pipewright.registry WHERE id = %s FOR UPDATE", [tenant_id])
    row = await cursor.fetchone()
    if row is None:
        raise errors.Conflict(f"tenant {tenant_id} is not in the registry")
    return (str(row[0]),)


def _require_owner(tenant_id: str, row: Sequence[Any] | None, uid: str) -> None:
    if row is None or row[0] != uid:
        holder = f"the Tenant with UID {row[0]}" if row else "nobody"
        raise errors.OwnedByOther(f"tenant {tenant_id} belongs to {holder}")
