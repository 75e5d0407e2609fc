"""Deletes a tenant's history that is older than its retention: partitions whole, other rows in batches.

Runs as the migrator acting as the owner. A WorkflowRun's journal goes after the decision that it was made by:
an object that still is there, and was never told of its end, finds no decision and does not begin anew.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from pipewright import errors
from pipewright.facts import Expired
from pipewright.store import details

FLOOR = timedelta(days=1) - timedelta(hours=1)
"""Nothing younger is deleted, whoever asks."""
SECONDS = 5.0
"""After so long a sweep stops, and says that it is not finished."""
BATCH = 5_000

_LIMITS = "SET lock_timeout = '2s'; SET statement_timeout = '30s'"
"""A day's drop must not keep deliveries waiting behind it."""
_DAYS: LiteralString = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('pipewright.' || %(table)s) AND c.relname ~ ('^' || %(table)s || '_[0-9]{8}$')
    AND to_date(right(c.relname, 8), 'YYYYMMDD') < %(before)s ORDER BY 1
"""
NEWEST = 10
"""A model's last attempts stay, whatever their age: they are counted on, and shown."""
_BATCHES: dict[str, LiteralString] = {
    "predictions": "scored_at < %(before)s",
    "failure_causes": "made_at < %(before)s",
    "duration_forecasts": "made_at < %(before)s",
    # an imported run ended long before it was seen: it is kept as long as any other from then on
    "jobs": "greatest(finished_at, seen_at) < %(before)s",
    "runs": "greatest(finished_at, seen_at) < %(before)s",
    "artifacts": "greatest(at, seen_at) < %(before)s",
    "commits": "greatest(at, seen_at) < %(before)s",
    "deployments": "greatest(finished_at, seen_at) < %(before)s",
    "decisions": "decided_at < %(before)s",
    "outbox": "dispatched_at < %(before)s",
    "dead_letters": "received_at < %(before)s",
    "deliveries": "received_at < %(before)s",
    "run_steps": "run_uid IN (SELECT run_uid FROM pipewright.workflow_runs WHERE finished_at < %(before)s)",
    "workflow_runs": "finished_at < %(before)s",
    "trainings": "finished_at < %(before)s AND attempt <= (SELECT max(attempt) - %(newest)s"
    " FROM pipewright.trainings later WHERE later.model_uid = trainings.model_uid)",
}
_UNKNOWN: LiteralString = " AND ".join(
    f"NOT EXISTS (SELECT FROM pipewright.{table} WHERE actor = actors.id)"
    for table in ("runs", "artifacts", "commits", "deployments")
)
_LOCK_ACTORS: LiteralString = (
    f"SELECT id FROM pipewright.actors WHERE {_UNKNOWN} LIMIT %s FOR UPDATE SKIP LOCKED"  # noqa: S608
)
_DELETE_ACTORS: LiteralString = f"DELETE FROM pipewright.actors WHERE id = ANY(%s) AND {_UNKNOWN}"  # noqa: S608


async def expire(
    conn: psycopg.AsyncConnection,
    *,
    events_before: datetime,
    runs_before: datetime,
    seconds: float = SECONDS,
    batch: int = BATCH,
) -> Expired:
    """Delete until nothing older is left or the time is over; at least one step is made.

    Raises:
        BackendError: one of the times is less than a day ago.
    """
    if max(events_before, runs_before) > datetime.now(UTC) - FLOOR:
        raise errors.BackendError("history is kept for a day at least")
    deadline, counts = time.monotonic() + seconds, Counter[str]()
    await conn.execute(_LIMITS)
    longest = datetime.now(UTC) - details.LONGEST
    for parent, before in (
        ("events", events_before),
        ("steps", max(runs_before, longest)),
        ("tests", max(runs_before, longest)),
    ):
        cursor = await conn.execute(_DAYS, {"table": parent, "before": before.astimezone(UTC).date()})
        for (day,) in await cursor.fetchall():
            await conn.execute(sql.SQL("DROP TABLE pipewright.{}").format(sql.Identifier(day)))
            counts[parent] += 1
            if time.monotonic() >= deadline:
                return Expired(counts=dict(counts), finished=False)
    for table in (*_BATCHES, "actors"):
        # what was received is remembered as long as its raw body: it is what tells a duplicate
        received = table in ("deliveries", "dead_letters")
        before = min(events_before, runs_before) if received else runs_before
        gone = batch
        while gone == batch:
            gone = await _delete(conn, table, before=before, most=batch)
            counts[table] += gone
            if gone and time.monotonic() >= deadline:
                return Expired(counts=dict(+counts), finished=False)
    return Expired(counts=dict(+counts), finished=True)


async def _delete(conn: psycopg.AsyncConnection, table: str, *, before: datetime, most: int) -> int:
    if table == "actors":
        return await _delete_actors(conn, most=most)
    statement = sql.SQL(
        "DELETE FROM pipewright.{table} WHERE ctid = ANY(ARRAY("
        "SELECT ctid FROM pipewright.{table} WHERE {condition} LIMIT %(most)s))"
    ).format(table=sql.Identifier(table), condition=sql.SQL(_BATCHES[table]))
    cursor = await conn.execute(statement, {"before": before, "most": most, "newest": NEWEST})
    return cursor.rowcount


async def _delete_actors(conn: psycopg.AsyncConnection, *, most: int) -> int:
    """People of whom nothing is left. Locked first, and looked at again: one may have come.

    Whoever is being written about is locked by `history.surrogates`, and passed over.
    """
    async with conn.transaction():
        found = [row[0] for row in await (await conn.execute(_LOCK_ACTORS, [most])).fetchall()]
        return (await conn.execute(_DELETE_ACTORS, [found])).rowcount
