"""Many deliveries in one statement each: which of them are new, and their raw bodies.

What one delivery alone writes, and the rest of its transaction, is in `history`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC

import psycopg
from psycopg.types.json import Jsonb

from pipewright.store.records import Delivery

Key = tuple[str, str]
"""The Integration's UID and the delivery's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A delivery's body as it is kept, compressed and encrypted, and what is kept of its headers."""

    delivery: Delivery
    body: bytes = field(repr=False)
    headers: Mapping[str, str]


async def record(conn: psycopg.AsyncConnection, deliveries: Sequence[Delivery]) -> set[Key]:
    """Note deliveries, none of them twice; the keys of those that are new, as `history.record_delivery` says.

    They are written in the order of their keys, so that no two transactions wait for each other crosswise.
    """
    columns = (
        [each.integration for each in deliveries],
        [each.delivery_id for each in deliveries],
        [each.received_at for each in deliveries],
        [each.event for each in deliveries],
        [each.outcome for each in deliveries],
        [each.reason for each in deliveries],
    )
    return set(await (await conn.execute(_RECORD, columns)).fetchall())


async def keep(conn: psycopg.AsyncConnection, raw: Sequence[Raw]) -> None:
    """Keep raw bodies in their days' partitions (UTC; made when missing)."""
    days = {each.delivery.received_at.astimezone(UTC).date() for each in raw}
    for day in sorted(days):
        await conn.execute("SELECT pipewright.ensure_events_partition(%s)", [day])
    columns = (
        [each.delivery.integration for each in raw],
        [each.delivery.delivery_id for each in raw],
        [each.delivery.received_at for each in raw],
        [each.delivery.event for each in raw],
        [each.body for each in raw],
        [Jsonb(dict(each.headers)) for each in raw],
    )
    await conn.execute(_KEEP, columns)


_RECORD = """
INSERT INTO pipewright.deliveries (integration, delivery_id, received_at, event, outcome, reason)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])
    AS new (integration, delivery_id, received_at, event, outcome, reason)
ORDER BY new.integration, new.delivery_id
ON CONFLICT (integration, delivery_id) DO UPDATE
SET received_at = excluded.received_at, event = excluded.event, outcome = excluded.outcome,
    reason = excluded.reason WHERE deliveries.outcome = 'ignored'
RETURNING integration::text, delivery_id
"""
_KEEP = """
INSERT INTO pipewright.events (integration, delivery_id, received_at, event_name, body, headers)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %b::bytea[], %s::jsonb[])
"""
