"""The registry as its readers see it: the runner finds a namespace's tenant, the gateway loads them all."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from pipewright.store.records import Tenant


async def of_namespace(conn: psycopg.AsyncConnection, *, uid: str) -> Tenant | None:
    """The tenant that the namespace with this UID is bound to, without its bundle: the runner may not."""
    found = await _tenants(conn, _SELECT.format(bundle="NULL::bytea") + _OF_NAMESPACE, {"uid": uid})
    return found[0] if found else None


async def load(conn: psycopg.AsyncConnection) -> list[Tenant]:
    """All tenants that are not deleted, with what is sealed for the gateway: only its login may ask."""
    return await _tenants(
        conn, _SELECT.format(bundle="r.bundle") + " WHERE r.state <> 'Deleted' ORDER BY r.id", {}
    )


async def _tenants(conn: psycopg.AsyncConnection, query: str, values: dict[str, Any]) -> list[Tenant]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return [Tenant(**row) async for row in cursor]


_SELECT = """
SELECT r.id, r.uid, r.name, r.server, r.state, {bundle} AS bundle, r.bundle_version, r.bundle_key,
    r.resumed_at,
    coalesce((SELECT jsonb_object_agg(n.name, n.uid) FROM pipewright.registry_namespaces n
              WHERE n.tenant_id = r.id), '{{}}') AS namespaces
FROM pipewright.registry r
"""
_OF_NAMESPACE = """
JOIN pipewright.registry_namespaces bound ON bound.tenant_id = r.id WHERE bound.uid = %(uid)s
"""
