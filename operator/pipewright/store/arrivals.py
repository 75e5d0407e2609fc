"""Many deliveries in one statement each: which of them are new, and their raw bodies.

The rest of their transaction is in `history`, which offers the same for one delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

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
    """Note deliveries, none of them twice in the list; the keys of those that are new.

    One that was ignored is new when it comes again: what it says may be wanted since. One that another
    transaction notes waits until that ends. They are written in the order of their keys, so that no two
    transactions wait for each other crosswise.
    """
    told = [_row(each) | {"outcome": each.outcome, "reason": each.reason} for each in deliveries]
    return set(await (await conn.execute(_RECORD, [Jsonb(told)])).fetchall())


async def keep(conn: psycopg.AsyncConnection, raw: Sequence[Raw]) -> None:
    """Keep raw bodies in their days' partitions (UTC; made when missing)."""
    days = {each.delivery.received_at.astimezone(UTC).date() for each in raw}
    for day in sorted(days):
        await conn.execute("SELECT pipewright.ensure_events_partition(%s)", [day])
    told = [_row(each.delivery) | {"headers": dict(each.headers)} for each in raw]
    await conn.execute(_KEEP, [Jsonb(told), [each.body for each in raw]])


def _row(delivery: Delivery) -> dict[str, Any]:
    """What both tables have of a delivery, in JSON's types: psycopg's arrays take longer."""
    return {
        "integration": delivery.integration,
        "delivery_id": delivery.delivery_id,
        "received_at": delivery.received_at.isoformat(),
        "event": delivery.event,
    }


_RECORD = """
INSERT INTO pipewright.deliveries (integration, delivery_id, received_at, event, outcome, reason)
SELECT new.* FROM jsonb_to_recordset(%s) AS new (integration uuid, delivery_id text, received_at timestamptz,
    event text, outcome text, reason text)
ORDER BY new.integration, new.delivery_id
ON CONFLICT (integration, delivery_id) DO UPDATE
SET received_at = excluded.received_at, event = excluded.event, outcome = excluded.outcome,
    reason = excluded.reason WHERE deliveries.outcome <> 'stored'
RETURNING integration::text, delivery_id
"""
_KEEP = """
INSERT INTO pipewright.events (integration, delivery_id, received_at, event_name, body, headers)
SELECT integration, delivery_id, received_at, event, body, headers
FROM ROWS FROM (
    jsonb_to_recordset(%s) AS (integration uuid, delivery_id text, received_at timestamptz, event text,
        headers jsonb),
    unnest(%b::bytea[])
) AS new (integration, delivery_id, received_at, event, headers, body)
"""
