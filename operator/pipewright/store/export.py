"""A tenant's history as Parquet files, one a day, in a folder or an S3 bucket; people as surrogates.

    python -m pipewright.store.export --dsn-file uri --url s3://bucket/history --since 2026-01-01

Run by the tenant, with a login and a place of its own: it reads the views of the schema `history`, and S3's
credentials from where AWS' tools have them. A day is written whole or not at all, and again when it is asked
for again: what came late is then in it. Files lie as `<url>/<table>/day=YYYY-MM-DD/history.parquet`, which
query engines read as one table with a partition column.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

_TIME = pa.timestamp("us", tz="UTC")
_TEXTS = pa.list_(pa.string())
_COMMON: Mapping[str, pa.DataType] = {
    "integration": pa.string(), "provider_id": pa.string(), "attempt": pa.int64(), "project": pa.string(),
    "branch": pa.string(), "sha": pa.string(), "outcome": pa.string(), "queued_at": _TIME,
    "started_at": _TIME, "finished_at": _TIME,
}  # fmt: skip


def _schema(texts: str, **others: pa.DataType) -> pa.Schema:
    return pa.schema({**dict.fromkeys(texts.split(), pa.string()), **others})


SCHEMAS: Mapping[str, pa.Schema] = {
    "runs": pa.schema(
        {
            **_COMMON,
            "pipeline": pa.string(),
            "number": pa.int64(),
            "trigger": pa.string(),
            "actor": pa.string(),
            "url": pa.string(),
            "failed_jobs": _TEXTS,
            "jobs": pa.int64(),
        }
    ),
    "jobs": pa.schema(
        {**_COMMON, "run_id": pa.string(), "name": pa.string(), "runner": pa.string(), "labels": _TEXTS}
    ),
    "steps": _schema(
        "integration run_id job_id project name outcome", number=pa.int64(), attempt=pa.int64(),
        started_at=_TIME, finished_at=_TIME,
    ),
    "tests": _schema(
        "integration provider_id project pipeline run_id job_id suite name branch sha outcome url",
        attempt=pa.int64(), started_at=_TIME, finished_at=_TIME,
    ),
    "commits": _schema("integration project sha branch change actor url", parents=_TEXTS, at=_TIME),
    "deployments": _schema(
        "integration provider_id operation project environment service pipeline run_id branch sha actor"
        " outcome url",
        queued_at=_TIME, started_at=_TIME, finished_at=_TIME,
    ),
}  # fmt: skip
"""View → the columns of its files."""

_ORDERS: Mapping[str, str] = {
    "runs": "provider_id, attempt",
    "jobs": "provider_id",
    "steps": "job_id, number",
    "tests": "provider_id",
    "commits": "sha, project, branch",
    "deployments": "provider_id",
}
BATCH = 20_000
"""Rows in memory, and in a row group."""
NAME = "history.parquet"


def export(
    conn: psycopg.Connection[Any], place: fs.FileSystem, folder: str, *, since: date, until: date
) -> Iterator[tuple[str, date, int]]:
    """Write the days from `since` to `until`, both included (UTC, by the finish); yields table, day and rows.

    A day without rows has no file; one of before is removed.
    """
    for number in range((until - since).days + 1):
        day = since + timedelta(days=number)
        for table in SCHEMAS:
            yield table, day, _write(conn, place, f"{folder}/{table}/day={day.isoformat()}", table, day)


def _write(conn: psycopg.Connection[Any], place: fs.FileSystem, folder: str, table: str, day: date) -> int:
    schema, path, rows = SCHEMAS[table], f"{folder}/{NAME}", 0
    with conn.transaction(), conn.cursor(f"export_{table}", binary=True) as cursor:
        cursor.itersize = BATCH
        span = {"since": _midnight(day), "until": _midnight(day + timedelta(days=1)), "day": day}
        cursor.execute(_query(table), span)
        found = cursor.fetchmany(BATCH)
        if not found:
            if place.get_file_info(path).type == fs.FileType.File:
                place.delete_file(path)
            return 0
        place.create_dir(folder, recursive=True)
        # beside the file until it is whole: whoever reads meanwhile reads the one of before
        partial = f"{folder}/_{NAME}.partial"
        with place.open_output_stream(partial) as out, pq.ParquetWriter(out, schema) as writer:
            while found:
                rows += len(found)
                writer.write_batch(_batch(found, schema))
                found = cursor.fetchmany(BATCH)
        place.move(partial, path)
    return rows


def _batch(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(values, type=column.type)
        for values, column in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _query(table: str) -> Any:
    names = ", ".join(f"{name}::text" if name == "integration" else name for name in SCHEMAS[table].names)
    at, conditions, order = "finished_at", ["phase = 'finished'"], _ORDERS[table]
    if table == "commits":
        at, conditions = "at", []
    elif table in ("steps", "tests"):  # a row's day may be the one beside that of its finish
        conditions = ["day >= %(day)s::date - 1", "day <= %(day)s::date + 1"]
    conditions += [f"{at} >= %(since)s", f"{at} < %(until)s"]
    return f"SELECT {names} FROM history.{table} WHERE {' AND '.join(conditions)} ORDER BY {at}, {order}"  # noqa: S608


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and print a line for each file."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    parser = argparse.ArgumentParser(prog="python -m pipewright.store.export", description=__doc__)
    parser.add_argument("--dsn-file", type=Path, required=True, help="holds a PostgreSQL URI of the tenant")
    parser.add_argument("--url", required=True, help="file:///folder or s3://bucket/folder")
    parser.add_argument("--since", type=date.fromisoformat, default=yesterday, help="first day (UTC)")
    parser.add_argument("--until", type=date.fromisoformat, default=yesterday, help="last day, included")
    chosen = parser.parse_args(arguments)
    if chosen.since > chosen.until:
        parser.error("--since must not be after --until")
    place, folder = fs.FileSystem.from_uri(chosen.url)
    with psycopg.connect(chosen.dsn_file.read_text().strip(), options="-c TimeZone=UTC") as conn:
        for table, day, rows in export(conn, place, folder, since=chosen.since, until=chosen.until):
            if rows:
                sys.stdout.write(f"{table} {day.isoformat()}: {rows} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
