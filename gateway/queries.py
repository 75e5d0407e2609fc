"""What only the gateway reads of a tenant's database: pages of deliveries, predictions, the next due row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row, dict_row

from pipewright.store import rows
from pipewright.store.records import Delivery, Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The last row of the page before, for lists without a number of their own."""

    at: datetime
    key: str


async def deliveries(
    conn: psycopg.AsyncConnection, *, integration: str, limit: int, after: After | None
) -> list[Delivery]:
    """An integration's deliveries, newest first."""
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(
            _DELIVERIES,
            {
                "integration": integration,
                "at": after.at if after else None,
                "key": after.key if after else "",
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def recent_predictions(
    conn: psycopg.AsyncConnection,
    *,
    integrations: Sequence[str],
    versions: Sequence[str],
    model_uid: str,
    run: str | None,
    limit: int,
) -> list[Scored]:
    """The newest predictions by these versions, or by any that was trained for the model."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            _PREDICTIONS,
            {
                "integrations": list(integrations),
                "versions": list(versions),
                "model": model_uid,
                "run": run,
                "limit": limit,
            },
        )
        return [Scored(**row | {"reasons": tuple(row["reasons"])}) async for row in cursor]


async def next_due(conn: psycopg.AsyncConnection) -> datetime | None:
    """When the next row of the outbox is due; None when all is dispatched."""
    cursor = await conn.execute("SELECT min(due_at) FROM pipewright.outbox WHERE dispatched_at IS NULL")
    row = await cursor.fetchone()
    return row[0] if row else None


_DELIVERIES = f"""
SELECT {rows.columns(Delivery)} FROM pipewright.deliveries
WHERE integration = %(integration)s
    AND (%(at)s::timestamptz IS NULL OR (received_at, delivery_id) < (%(at)s::timestamptz, %(key)s))
ORDER BY received_at DESC, delivery_id DESC LIMIT %(limit)s
"""  # noqa: S608 - names are ours
# A version is the beginning of its file's digest, and the journal has the digest of each file that was made.
_PREDICTIONS = f"""
SELECT {rows.columns(Scored)} FROM pipewright.predictions
WHERE integration = ANY(%(integrations)s::uuid[])
    AND (%(run)s::text IS NULL OR provider_id = %(run)s)
    AND (model_version = ANY(%(versions)s) OR model_version IN (
        SELECT left(report ->> 'artifactSha256', 12) FROM pipewright.trainings WHERE model_uid = %(model)s))
ORDER BY scored_at DESC, provider_id DESC, attempt DESC, kind LIMIT %(limit)s
"""  # noqa: S608 - names are ours
