"""The bare loop: COPY into staging tables, the same merge, the raw rows; nothing is read or checked."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from pipewright import records
from pipewright.records import RunRecord
from pipewright.store import history, merge

RUNS = merge.upsert(
    "runs",
    merge.RUN_COLUMNS,
    merge.RUN_KEY,
    source=merge.with_actors("(SELECT * FROM pg_temp.staged_runs) AS new"),
)
JOBS = merge.upsert(
    "jobs", merge.JOB_COLUMNS, merge.JOB_KEY, source="(SELECT * FROM pg_temp.staged_jobs) AS new"
)
_RUN_COLUMNS = {**merge.RUN_COLUMNS, "actor": "text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows as they are copied: each list of runs and of jobs holds a key once."""

    runs: Sequence[Sequence[tuple[Any, ...]]]
    jobs: Sequence[Sequence[tuple[Any, ...]]]
    raw: Sequence[bytes]


def prepared(events: Sequence[bytes], *, integration: str) -> Batch:
    """The rows of a batch of CloudEvents; made before the clock starts."""
    found = [records.parse_record(json.loads(event)["data"], partial=True) for event in events]
    now = datetime.now(UTC)
    runs = [
        history.run_row(it, integration=integration, seen_at=now, actors={})
        for it in found
        if isinstance(it, RunRecord)
    ]
    jobs = [
        history.job_row(it, integration=integration, seen_at=now)
        for it in found
        if not isinstance(it, RunRecord)
    ]
    return Batch(
        runs=_waves(runs, key=merge.RUN_KEY, columns=_RUN_COLUMNS),
        jobs=_waves(jobs, key=merge.JOB_KEY, columns=merge.JOB_COLUMNS),
        raw=events,
    )


def loop(dsn: str, batches: Sequence[Batch]) -> float:
    """Store the batches, one transaction each; the seconds that it took."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table, columns in (("staged_runs", _RUN_COLUMNS), ("staged_jobs", merge.JOB_COLUMNS)):
            shape = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            conn.execute(f"CREATE TEMPORARY TABLE {table} ({shape}) ON COMMIT DELETE ROWS")  # type: ignore[arg-type]
        began = time.perf_counter()
        for batch in batches:
            with conn.transaction(), conn.cursor() as cursor:
                for rows in batch.runs:
                    _merge(cursor, "staged_runs", rows, RUNS)
                for rows in batch.jobs:
                    _merge(cursor, "staged_jobs", rows, JOBS)
                with cursor.copy("COPY bench.raw (id, body) FROM STDIN") as copy:
                    for body in batch.raw:
                        copy.write_row((uuid.uuid4(), body))
        return time.perf_counter() - began


def _merge(cursor: psycopg.Cursor[Any], table: str, rows: Sequence[tuple[Any, ...]], upsert: str) -> None:
    cursor.execute(f"TRUNCATE pg_temp.{table}")  # type: ignore[arg-type]
    with cursor.copy(f"COPY pg_temp.{table} FROM STDIN") as copy:  # type: ignore[arg-type]
        for row in rows:
            copy.write_row(row)
    cursor.execute(upsert)  # type: ignore[arg-type]


def _waves(
    rows: Sequence[dict[str, Any]], *, key: Sequence[str], columns: Any
) -> list[list[tuple[Any, ...]]]:
    waves: list[list[tuple[Any, ...]]] = []
    seen: dict[Any, int] = {}
    for row in rows:
        name = tuple(row[column] for column in key)
        at = seen[name] = seen.get(name, -1) + 1
        if at == len(waves):
            waves.append([])
        waves[at].append(tuple(row[column] for column in columns))
    return waves
