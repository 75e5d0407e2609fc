"""Dead letters in a tenant's database: what was proved and not understood, sealed, bounded, until it is.

The delivery's own row says why (`reason`). A letter goes in the transaction that stores the delivery after
all (by a trigger), with that row when retention takes it, or because somebody discards it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import psycopg
from psycopg.rows import class_row

from pipewright.store.history import After


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One delivery that was not understood, without what it said."""

    delivery_id: str
    event: str
    received_at: datetime
    """When it came first."""
    reason: str
    """No value of its body."""
    refusals: int
    """How often it was not understood: when it came, and at each replay."""
    refused_at: datetime
    """The last time."""
    bytes: int
    """What it takes, compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What is kept of it."""

    integration: str
    """UID."""
    delivery_id: str
    received_at: datetime
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much one tenant may have of them."""

    letters: int
    bytes: int


async def ready(conn: psycopg.AsyncConnection) -> bool:
    """Whether the database has a place for them: a release serves tenants that are still to be upgraded."""
    cursor = await conn.execute("SELECT to_regclass('pipewright.dead_letters') IS NOT NULL")
    return await cursor.fetchone() == (True,)


async def keep(conn: psycopg.AsyncConnection, letter: Sealed, room: Room) -> Literal["kept", "again", "full"]:
    """Keep it beside the delivery's row, or count one more refusal of it.

    What several transactions keep at the same moment may exceed the room by as much.
    """
    values = {
        "integration": letter.integration,
        "delivery": letter.delivery_id,
        "received_at": letter.received_at,
        "sealed": letter.sealed,
        "rows": room.letters,
        "bytes": room.bytes - len(letter.sealed),
    }
    if (await conn.execute(_AGAIN, values)).rowcount:
        return "again"
    return "kept" if (await conn.execute(_KEEP, values)).rowcount else "full"


async def page(
    conn: psycopg.AsyncConnection, *, integration: str, limit: int, after: After | None = None
) -> Sequence[DeadLetter]:
    """An integration's dead letters, oldest first."""
    place = {"at": after.at if after else None, "key": after.key if after else ""}
    async with conn.cursor(row_factory=class_row(DeadLetter)) as cursor:
        await cursor.execute(_PAGE, {"integration": integration, "limit": limit, **place})
        return await cursor.fetchall()


async def read(conn: psycopg.AsyncConnection, *, integration: str, delivery_id: str) -> Sealed | None:
    """One of them, sealed."""
    async with conn.cursor(row_factory=class_row(Sealed)) as cursor:
        await cursor.execute(_READ, [integration, delivery_id])
        return await cursor.fetchone()


async def sealed(
    conn: psycopg.AsyncConnection, *, but: Sequence[str], limit: int, after: tuple[str, str] | None = None
) -> Sequence[Sealed]:
    """Those behind (integration, delivery), in their order; not of the Integrations `but`."""
    integration, delivery = after or (None, None)
    asked = {"but": list(but), "limit": limit, "at": integration, "key": delivery}
    async with conn.cursor(row_factory=class_row(Sealed), binary=True) as cursor:
        await cursor.execute(_SEALED, asked)
        return await cursor.fetchall()


async def discard(conn: psycopg.AsyncConnection, *, integration: str, delivery_id: str | None = None) -> int:
    """Throw one or all of an integration's away; how many there were. The deliveries stay listed."""
    cursor = await conn.execute(_DISCARD, {"integration": integration, "delivery": delivery_id})
    return cursor.rowcount


_AGAIN = """
UPDATE pipewright.dead_letters SET refusals = refusals + 1, refused_at = now(), sealed = %(sealed)s
WHERE integration = %(integration)s::uuid AND delivery_id = %(delivery)s
"""
_KEEP = """
INSERT INTO pipewright.dead_letters (integration, delivery_id, received_at, refused_at, sealed)
SELECT %(integration)s::uuid, %(delivery)s, %(received_at)s, now(), %(sealed)s
FROM (SELECT count(*) AS rows, coalesce(sum(bytes), 0) AS bytes FROM pipewright.dead_letters) used
WHERE used.rows < %(rows)s AND used.bytes <= %(bytes)s
"""
_PAGE = """
SELECT l.delivery_id, d.event, l.received_at, d.reason, l.refusals, l.refused_at, l.bytes
FROM pipewright.dead_letters l JOIN pipewright.deliveries d USING (integration, delivery_id)
WHERE l.integration = %(integration)s::uuid
    AND (%(at)s::timestamptz IS NULL OR (l.received_at, l.delivery_id) > (%(at)s::timestamptz, %(key)s))
ORDER BY l.received_at, l.delivery_id LIMIT %(limit)s
"""
_READ = """
SELECT integration::text, delivery_id, received_at, sealed FROM pipewright.dead_letters
WHERE integration = %s::uuid AND delivery_id = %s
"""
_SEALED = """
SELECT integration::text, delivery_id, received_at, sealed FROM pipewright.dead_letters
WHERE integration <> ALL(%(but)s::uuid[])
    AND (%(at)s::uuid IS NULL OR (integration, delivery_id) > (%(at)s::uuid, %(key)s))
ORDER BY dead_letters.integration, delivery_id LIMIT %(limit)s
"""
_DISCARD = """
DELETE FROM pipewright.dead_letters WHERE integration = %(integration)s::uuid
    AND (%(delivery)s::text IS NULL OR delivery_id = %(delivery)s)
"""
