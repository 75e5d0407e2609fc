"""Deliveries as they arrive, many in one statement: which of them are new, and the raw bodies of those.

The rest of their transaction is in `history`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date

import psycopg

from pipewright.store import rows
from pipewright.store.records import Delivery

Key = tuple[str, str]
"""The Integration's UID and the delivery's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A delivery, its body as it is kept, compressed and encrypted, and what is kept of its headers."""

    delivery: Delivery
    body: bytes | None = field(default=None, repr=False)
    """None: only the delivery is noted."""
    headers: Mapping[str, str] = field(default_factory=dict)


def day_of(delivery: Delivery) -> date:
    """In whose partition the body of a delivery lies."""
    return delivery.received_at.astimezone(UTC).date()


async def take(conn: psycopg.AsyncConnection, arrivals: Sequence[Arrival]) -> set[Key]:
    """Note deliveries, none of them twice in the list, and keep the bodies of those that are new; their keys.

    One that was ignored is new when it comes again: what it says may be wanted since. One that another
    transaction notes waits until that ends. They are written in the order of their keys, so that no two
    transactions wait for each other crosswise. The partitions of their days must be there.
    """
    told = [
        [
            each.delivery.integration,
            each.delivery.delivery_id,
            each.delivery.received_at,
            each.delivery.event,
            each.delivery.outcome,
            each.delivery.reason,
            dict(each.headers),
        ]
        for each in arrivals
    ]
    cursor = await conn.execute(_TAKE, [rows.packed(told), [each.body for each in arrivals]])
    return set(await cursor.fetchall())


async def ensure_partition(conn: psycopg.AsyncConnection, day: date) -> None:
    """Make the partition for the bodies of a day (UTC), if there is none."""
    await conn.execute("SELECT pipewright.ensure_events_partition(%s)", [day])


# psycopg's arrays take longer than JSON, and names in each row longer than their places.
_TAKE = """
WITH told AS MATERIALIZED (
    SELECT (line ->> 0)::uuid AS integration, line ->> 1 AS delivery_id,
        (line ->> 2)::timestamptz AS received_at, line ->> 3 AS event, line ->> 4 AS outcome,
        line ->> 5 AS reason, line -> 6 AS headers, body
    FROM ROWS FROM (jsonb_array_elements(%s), unnest(%b::bytea[])) AS new (line, body)
), new AS (
    INSERT INTO pipewright.deliveries (integration, delivery_id, received_at, event, outcome, reason)
    SELECT integration, delivery_id, received_at, event, outcome, reason FROM told
    ORDER BY integration, delivery_id
    ON CONFLICT (integration, delivery_id) DO UPDATE
    SET received_at = excluded.received_at, event = excluded.event, outcome = excluded.outcome,
        reason = excluded.reason WHERE deliveries.outcome <> 'stored'
    RETURNING integration, delivery_id
), kept AS (
    INSERT INTO pipewright.events (integration, delivery_id, received_at, event_name, body, headers)
    SELECT integration, delivery_id, received_at, event, body, headers
    FROM told JOIN new USING (integration, delivery_id) WHERE body IS NOT NULL
)
SELECT integration::text, delivery_id FROM new
"""
