"""The data window that a model trains on: attempts of runs as an Arrow table, people as surrogates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa

_TIME = pa.timestamp("us", tz="UTC")

_COLUMNS: Mapping[str, pa.DataType] = {
    "integration": pa.string(),
    "project": pa.string(),
    "pipeline": pa.string(),
    "run_id": pa.string(),
    "attempt": pa.int64(),
    "number": pa.int64(),
    "event": pa.string(),
    "branch": pa.string(),
    "actor": pa.string(),
    "sha": pa.string(),
    "outcome": pa.string(),
    "queued_at": _TIME,
    "started_at": _TIME,
    "finished_at": _TIME,
    "failed_jobs": pa.list_(pa.string()),
    "jobs": pa.int64(),
}
SCHEMA = pa.schema(list(_COLUMNS.items()))
"""The columns in their order, as the training's contract has them (a test compares the two)."""

_BATCH = 10_000


async def table(
    conn: psycopg.AsyncConnection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    integrations: Sequence[str] | None = None,
) -> pa.Table:
    """Attempts that started in [since, until), oldest first, of these integrations (UIDs; None: all).

    Read through a server-side cursor: the process holds the columns and one batch of rows, not all rows.
    """
    batches: list[pa.RecordBatch] = []
    async with conn.transaction(), conn.cursor("data_window", binary=True) as cursor:
        cursor.itersize = _BATCH
        await cursor.execute(_SELECT + _WHERE + _ORDER, _values(since, until, integrations))
        while rows := await cursor.fetchmany(_BATCH):
            batches.append(_batch(rows))
    return pa.Table.from_batches(batches, schema=SCHEMA)


async def count(
    conn: psycopg.AsyncConnection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    integrations: Sequence[str] | None = None,
    new_since: datetime | None = None,
) -> tuple[int, int, int]:
    """How many finished attempts with a label (success or failure) the window has.

    Then of these, of how many something was heard since a moment, and how many finished since; None: all.
    """
    cursor = await conn.execute(_COUNT, _values(since, until, integrations) | {"new_since": new_since})
    row = await cursor.fetchone()
    assert row is not None, "a count without groups has one row"
    return row[0], row[1], row[2]


def _batch(rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    columns = [
        pa.array(values, type=column.type)
        for values, column in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _values(
    since: datetime | None, until: datetime | None, integrations: Sequence[str] | None
) -> dict[str, Any]:
    return {
        "since": since,
        "until": until,
        "integrations": None if integrations is None else list(integrations),
    }


_SELECT = """
SELECT r.integration::text, r.project, r.pipeline, r.provider_id, r.attempt, r.number, r.trigger, r.branch,
    coalesce(a.surrogate, ''), r.sha, r.outcome, r.queued_at, r.started_at, r.finished_at, r.failed_jobs,
    r.jobs
FROM pipewright.runs r LEFT JOIN pipewright.actors a ON a.id = r.actor
"""
_WHERE = """
WHERE r.started_at >= coalesce(%(since)s::timestamptz, '-infinity')
    AND r.started_at < coalesce(%(until)s::timestamptz, 'infinity')
    AND (%(integrations)s::text[] IS NULL OR r.integration = ANY (%(integrations)s::text[]::uuid[]))
"""
_COUNT = f"""
SELECT count(*),
    count(*) FILTER (WHERE r.seen_at > coalesce(%(new_since)s::timestamptz, '-infinity')),
    count(*) FILTER (WHERE r.finished_at > coalesce(%(new_since)s::timestamptz, '-infinity'))
FROM pipewright.runs r {_WHERE} AND r.outcome IN ('success', 'failure')
"""  # noqa: S608 - the texts are ours
_ORDER = " ORDER BY r.started_at, r.provider_id, r.attempt"
