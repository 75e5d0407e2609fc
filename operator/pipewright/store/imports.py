"""An imported history: rows come by COPY into a staging table, and go through the same merge as webhooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import psycopg

from pipewright.records import Detail, JobRecord, RunRecord
from pipewright.store import details, history, merge


async def import_runs(
    conn: psycopg.AsyncConnection,
    records: Iterable[RunRecord],
    *,
    integration: str,
    seen_at: datetime,
    actors: Mapping[str, str],
) -> int:
    """Merge these runs into what is known; how many records there were. Call it in a transaction.

    A few thousand at a time: webhooks of the integration wait meanwhile.
    """
    rows = (history.run_row(r, integration=integration, seen_at=seen_at, actors=actors) for r in records)
    count = await _stage(conn, rows, columns={**merge.RUN_COLUMNS, "actor": "text"}, key=merge.RUN_KEY)
    await _merge(conn, integration, upsert=_UPSERT_RUNS)
    await _finish(conn, run_column="provider_id")
    return count


async def import_jobs(
    conn: psycopg.AsyncConnection, records: Iterable[JobRecord], *, integration: str, seen_at: datetime
) -> int:
    """Merge these jobs into what is known, and what follows for their runs; call it in a transaction."""
    rows = (history.job_row(r, integration=integration, seen_at=seen_at) for r in records)
    count = await _stage(conn, rows, columns=merge.JOB_COLUMNS, key=merge.JOB_KEY)
    await _merge(conn, integration, upsert=_UPSERT_JOBS)
    await _finish(conn, run_column="run_id")
    return count


async def import_details(
    conn: psycopg.AsyncConnection,
    records: Iterable[Detail],
    *,
    integration: str,
    seen_at: datetime,
    actors: Mapping[str, str],
) -> int:
    """Merge steps, tests, commits and deployments into what is known; how many of them are kept.

    As webhooks' are, without a staging table: call it in a transaction.
    """
    found = details.rows(records, integration=integration, seen_at=seen_at, actors=actors)
    if any(found.values()):
        await _lock(conn, integration)
        await details.merge_rows(conn, found)
    return sum(len(of_kind) for of_kind in found.values())


async def _stage(
    conn: psycopg.AsyncConnection,
    rows: Iterable[Mapping[str, Any]],
    *,
    columns: Mapping[str, str],
    key: tuple[str, ...],
) -> int:
    shape = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    names = ", ".join(columns)
    await conn.execute(
        f"CREATE TEMPORARY TABLE staging (place bigint GENERATED ALWAYS AS IDENTITY, wave integer, {shape})"
        " ON COMMIT DROP"
    )
    count = 0
    async with conn.cursor() as cursor, cursor.copy(f"COPY pg_temp.staging ({names}) FROM STDIN") as copy:
        for row in rows:
            await copy.write_row([row[name] for name in columns])
            count += 1
    await conn.execute(
        "UPDATE pg_temp.staging SET wave = n.wave FROM"  # noqa: S608 - names are ours
        f" (SELECT place, row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY place) AS wave"
        " FROM pg_temp.staging) AS n WHERE n.place = staging.place"
    )
    return count


async def _merge(conn: psycopg.AsyncConnection, integration: str, *, upsert: str) -> None:
    """A key that comes several times is merged once for each: a statement may touch a row only once."""
    await _lock(conn, integration)
    row = await (await conn.execute("SELECT coalesce(max(wave), 0) FROM pg_temp.staging")).fetchone()
    for wave in range(1, (row[0] if row else 0) + 1):
        await conn.execute(upsert, [wave])


async def _lock(conn: psycopg.AsyncConnection, integration: str) -> None:
    """As `history.lock_runs` does for many runs."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [integration])


async def _finish(conn: psycopg.AsyncConnection, *, run_column: str) -> None:
    columns = f"integration, {run_column} AS run_id, attempt"
    attempts = f"(SELECT DISTINCT {columns} FROM pg_temp.staging) AS wanted"  # noqa: S608 - names are ours
    await conn.execute(merge.derive_jobs(attempts=attempts))
    await conn.execute("DROP TABLE pg_temp.staging")


_RUN_SOURCE = merge.with_actors("(SELECT * FROM pg_temp.staging WHERE wave = %s) AS new")
_UPSERT_RUNS = merge.upsert("runs", merge.RUN_COLUMNS, merge.RUN_KEY, source=_RUN_SOURCE)
_UPSERT_JOBS = merge.upsert(
    "jobs", merge.JOB_COLUMNS, merge.JOB_KEY, source="(SELECT * FROM pg_temp.staging WHERE wave = %s) AS new"
)
