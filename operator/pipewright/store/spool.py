"""The spool: deliveries that were acknowledged and are not yet in their tenant's database.

A row goes only when what it says is committed there, and a delivery that is there already changes nothing,
so a crash between the two is repeated, not lost. Rows of a tenant leave one after the other in the order in
which they came; an advisory lock of the transaction makes it so for all replicas together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg.rows import class_row

_LOCKS = 7_264_103
"""First half of the advisory locks; the second is the tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One delivery in the spool."""

    id: int = 0
    tenant_id: str
    integration: str
    """UID."""
    delivery_id: str
    received_at: datetime
    sealed: bytes = field(repr=False)
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much one tenant may have in the spool."""

    deliveries: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a tenant has in the spool."""

    tenant_id: str
    deliveries: int
    oldest: datetime
    due_at: datetime
    """When the next of them may be tried."""


async def park(
    conn: psycopg.AsyncConnection, parked: Parked, room: Room
) -> Literal["parked", "duplicate", "full"]:
    """Keep a delivery, unless it is there already or the tenant has no room left.

    What several replicas keep at the same moment may exceed the room by as much.
    """
    values = {
        "tenant": parked.tenant_id,
        "integration": parked.integration,
        "delivery": parked.delivery_id,
        "received_at": parked.received_at,
        "sealed": parked.sealed,
        "rows": room.deliveries,
        "bytes": room.bytes - len(parked.sealed),
    }
    if (await conn.execute(_PARK, values)).rowcount:
        return "parked"
    cursor = await conn.execute(
        "SELECT FROM pipewright.spool"
        " WHERE integration = %(integration)s::uuid AND delivery_id = %(delivery)s",
        values,
    )
    return "full" if await cursor.fetchone() is None else "duplicate"


async def waiting(conn: psycopg.AsyncConnection) -> Sequence[Waiting]:
    """What each tenant has in the spool."""
    async with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        await cursor.execute(_WAITING)
        return await cursor.fetchall()


async def claim(conn: psycopg.AsyncConnection, tenant_id: str) -> Parked | Literal["busy"] | None:
    """The tenant's oldest delivery that is due, held until the transaction ends; call it in one.

    "busy": another replica holds one of this tenant's. None: none is due.
    """
    cursor = await conn.execute(
        "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [_LOCKS, f"spool {tenant_id}"]
    )
    if await cursor.fetchone() != (True,):
        return "busy"
    async with conn.cursor(row_factory=class_row(Parked)) as rows:
        await rows.execute(_OLDEST, [tenant_id])
        return await rows.fetchone()


async def remove(conn: psycopg.AsyncConnection, row: int) -> None:
    """The delivery is where it belongs, or nowhere any more."""
    await conn.execute("DELETE FROM pipewright.spool WHERE id = %s", [row])


async def postpone(conn: psycopg.AsyncConnection, row: int, *, error: str, after: timedelta) -> None:
    """The delivery could not be taken by a fault of its own: those behind it go first for a while."""
    await conn.execute(
        "UPDATE pipewright.spool SET attempts = attempts + 1, error = %s, due_at = now() + %s WHERE id = %s",
        [error, after, row],
    )


_PARK = """
INSERT INTO pipewright.spool (tenant_id, integration, delivery_id, received_at, sealed)
SELECT %(tenant)s, %(integration)s::uuid, %(delivery)s, %(received_at)s, %(sealed)s
FROM (SELECT count(*) AS rows, coalesce(sum(bytes), 0) AS bytes FROM pipewright.spool
      WHERE tenant_id = %(tenant)s) used
WHERE used.rows < %(rows)s AND used.bytes <= %(bytes)s
ON CONFLICT DO NOTHING
"""
_WAITING = """
SELECT tenant_id, count(*) AS deliveries, min(received_at) AS oldest, min(due_at) AS due_at
FROM pipewright.spool GROUP BY tenant_id ORDER BY tenant_id
"""
_OLDEST = """
SELECT id, tenant_id, integration::text, delivery_id, received_at, sealed, attempts
FROM pipewright.spool WHERE tenant_id = %s AND due_at <= now() ORDER BY id LIMIT 1
"""
