"""History in a tenant's database, as deliveries tell it: people, runs, jobs, raw events, lines of work.

Everything of one delivery belongs in one transaction, in this order: `arrivals.take` (seen before: stop),
`surrogates`, `upsert_runs` or `upsert_jobs`, lines, predictions, decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from pipewright import errors
from pipewright.records import JobRecord, RunRecord
from pipewright.store import arrivals, merge, rows
from pipewright.store.records import Attempt, Delivery, Run

T = TypeVar("T")
Row = Mapping[str, Any]
"""A run's or a job's columns in JSON's types."""

MANY = 200
"""From so many rows on, a batch locks the whole integration instead of each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The last delivery of the page before: deliveries have no number of their own."""

    at: datetime
    key: str


async def record_delivery(conn: psycopg.AsyncConnection, delivery: Delivery) -> bool:
    """Note a delivery; False when it was noted before. A concurrent one waits until this transaction ends.

    One that was ignored or refused is new when it comes again: it may be wanted, or understood, since.
    """
    return bool(await arrivals.take(conn, [arrivals.Arrival(delivery=delivery)]))


async def deliveries(
    conn: psycopg.AsyncConnection, *, integration: str, limit: int, after: After | None = None
) -> list[Delivery]:
    """An integration's deliveries, newest first."""
    place = {"at": after.at if after else None, "key": after.key if after else ""}
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(_DELIVERIES, {"integration": integration, "limit": limit, **place})
        return await cursor.fetchall()


async def surrogates(
    conn: psycopg.AsyncConnection, *, provider: str, logins: Collection[str]
) -> dict[str, str]:
    """Login → surrogate, allotted where it is new; until the end of the caller's transaction they stay.

    `provider` says whose they are, such as github.

    Raises:
        Conflict: somebody is being deleted; try again.
    """
    wanted = sorted({login for login in logins if login})
    if not wanted:
        return {}
    given = {"provider": provider, "logins": rows.packed(wanted)}
    found: dict[str, str] = dict(await (await conn.execute(_ALLOT, given)).fetchall())
    if len(found) < len(wanted):  # somebody else allotted one at this moment
        found = dict(await (await conn.execute(_FIND_SURROGATES, given)).fetchall())
    if len(found) < len(wanted):
        raise errors.Conflict("people without runs are being deleted at this moment")
    return found


async def upsert_runs(
    conn: psycopg.AsyncConnection,
    records: Sequence[RunRecord],
    *,
    integration: str,
    seen_at: datetime,
    actors: Mapping[str, str],
) -> None:
    """Merge runs into what is known, in one statement unless a run comes twice; call it in a transaction.

    `actors` is what `surrogates` returned for the records' logins: no login is written.
    """
    await lock_runs(conn, {(integration, record.id) for record in records})
    told = [run_row(record, integration=integration, seen_at=seen_at, actors=actors) for record in records]
    await merge_rows(conn, runs=told)


async def upsert_jobs(
    conn: psycopg.AsyncConnection, records: Sequence[JobRecord], *, integration: str, seen_at: datetime
) -> None:
    """Merge jobs into what is known, and their runs' `jobs` and `failed_jobs`; call it in a transaction."""
    await lock_runs(conn, {(integration, record.run) for record in records})
    await merge_rows(
        conn, jobs=[job_row(record, integration=integration, seen_at=seen_at) for record in records]
    )


async def merge_rows(
    conn: psycopg.AsyncConnection, *, runs: Sequence[Row] = (), jobs: Sequence[Row] = ()
) -> None:
    """Merge what `run_row` and `job_row` made, of any Integrations, into what is known.

    In the caller's transaction, with their runs locked; of the same run or job the later row came later.
    """
    for wave in waves(runs, key=itemgetter(*merge.RUN_KEY)):
        await conn.execute(_UPSERT_RUNS, [rows.packed(wave)])
    for wave in waves(jobs, key=itemgetter(*merge.JOB_KEY)):
        await conn.execute(_UPSERT_JOBS, [rows.packed(wave)])
    attempts = {(row["integration"], row["provider_id"], row["attempt"]) for row in runs}
    attempts |= {(row["integration"], row["run_id"], row["attempt"]) for row in jobs}
    await conn.execute(_DERIVE_JOBS, _wanted(attempts))


async def find_runs(
    conn: psycopg.AsyncConnection, *, integration: str, attempts: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Run]:
    """What is known of these attempts, by (run id, attempt)."""
    found = await find_attempts(conn, ((integration, run_id, attempt) for run_id, attempt in attempts))
    return {(run_id, attempt): run for (_, run_id, attempt), run in found.items()}


async def find_attempts(conn: psycopg.AsyncConnection, attempts: Iterable[Attempt]) -> dict[Attempt, Run]:
    """What is known of these attempts, of any Integrations."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND_RUNS, _wanted(attempts))
        found = [Run(**row | {"failed_jobs": tuple(row["failed_jobs"])}) async for row in cursor]
    return {run.key: run for run in found}


async def lock_runs(conn: psycopg.AsyncConnection, runs: Collection[tuple[str, str]]) -> None:
    """Until the transaction ends, nobody else writes these runs (Integration and id) or their jobs.

    A run's failed jobs are derived from rows that two deliveries may write at once, some before their run is
    known, so row locks are not enough. Many runs are one lock on the integration: locks are shared memory.
    """
    owners = rows.packed(sorted({integration for integration, _ in runs}))
    if len(runs) > MANY:
        await conn.execute(_LOCK_INTEGRATIONS, [owners])
    else:
        names = rows.packed([f"{integration}/{run_id}" for integration, run_id in runs])
        await conn.execute(_LOCK_RUNS, [owners, names])


def run_row(
    record: RunRecord, *, integration: str, seen_at: datetime, actors: Mapping[str, str]
) -> dict[str, Any]:
    """A run's columns, as `merge.RUN_COLUMNS` names them, in JSON's types; `actor` is the surrogate."""
    return {
        "integration": integration,
        "provider_id": record.id,
        "attempt": record.attempt,
        "project": record.project,
        "pipeline": record.pipeline,
        "number": record.number,
        "trigger": record.trigger,
        "branch": record.branch,
        "sha": record.sha,
        "actor": actors.get(record.actor),
        "phase": record.phase,
        "outcome": record.outcome,
        "queued_at": moment(record.queued_at),
        "started_at": moment(record.started_at),
        "finished_at": moment(record.finished_at),
        "url": record.url,
        "seen_at": moment(seen_at),
    }


def job_row(record: JobRecord, *, integration: str, seen_at: datetime) -> dict[str, Any]:
    """A job's columns, as `merge.JOB_COLUMNS` names them, in JSON's types."""
    return {
        "integration": integration,
        "provider_id": record.id,
        "run_id": record.run,
        "attempt": record.attempt,
        "project": record.project,
        "pipeline": record.pipeline,
        "name": record.name,
        "branch": record.branch,
        "sha": record.sha,
        "phase": record.phase,
        "outcome": record.outcome,
        "runner": record.runner,
        "labels": list(record.labels),
        "queued_at": moment(record.queued_at),
        "started_at": moment(record.started_at),
        "finished_at": moment(record.finished_at),
        "seen_at": moment(seen_at),
    }


def waves(rows: Sequence[T], *, key: Callable[[T], Any]) -> list[list[T]]:
    """The rows in as many lists as the most frequent key has rows: each list holds a key once."""
    found: list[list[T]] = []
    seen: dict[Any, int] = {}
    for row in rows:
        name = key(row)
        at = seen[name] = seen.get(name, -1) + 1
        if at == len(found):
            found.append([])
        found[at].append(row)
    return found


def _wanted(attempts: Iterable[Attempt]) -> list[Jsonb]:
    """The parameter of `_WANTED`; JSON, because psycopg's arrays take longer."""
    names = ("integration", "run_id", "attempt")
    return [rows.packed([dict(zip(names, attempt, strict=True)) for attempt in sorted(set(attempts))])]


def moment(at: datetime | None) -> str | None:
    """A time in JSON."""
    return at.isoformat() if at else None


def recordset(columns: Mapping[str, str]) -> str:
    """The columns of a `jsonb_to_recordset`."""
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


_DELIVERIES = f"""
SELECT {rows.columns(Delivery)} FROM pipewright.deliveries
WHERE integration = %(integration)s
    AND (%(at)s::timestamptz IS NULL OR (received_at, delivery_id) < (%(at)s::timestamptz, %(key)s))
ORDER BY received_at DESC, delivery_id DESC LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_FIND_SURROGATES = """
SELECT login, surrogate FROM pipewright.actors
WHERE provider = %(provider)s AND login IN (SELECT jsonb_array_elements_text(%(logins)s))
ORDER BY login FOR KEY SHARE
"""
# What the second part has not found yet is what the first one makes, which goes first.
_ALLOT = f"""
WITH made AS (
    INSERT INTO pipewright.actors (provider, login)
    SELECT %(provider)s, new.login FROM jsonb_array_elements_text(%(logins)s) AS new (login)
    WHERE NOT EXISTS (SELECT FROM pipewright.actors a WHERE a.provider = %(provider)s AND a.login = new.login)
    ORDER BY new.login ON CONFLICT DO NOTHING
    RETURNING login, surrogate
)
SELECT login, surrogate FROM made
UNION ALL SELECT login, surrogate FROM ({_FIND_SURROGATES}) AS known
"""  # noqa: S608 - names are ours
_RUN_SOURCE = merge.with_actors(
    f"jsonb_to_recordset(%s) AS new ({recordset({**merge.RUN_COLUMNS, 'actor': 'text'})})"
)
_UPSERT_RUNS = merge.upsert("runs", merge.RUN_COLUMNS, merge.RUN_KEY, source=_RUN_SOURCE)
_UPSERT_JOBS = merge.upsert(
    "jobs",
    merge.JOB_COLUMNS,
    merge.JOB_KEY,
    source=f"jsonb_to_recordset(%s) AS new ({recordset(merge.JOB_COLUMNS)})",
)
_WANTED = "jsonb_to_recordset(%s) AS wanted (integration uuid, run_id text, attempt integer)"
_DERIVE_JOBS = merge.derive_jobs(attempts=_WANTED)
_FIND_RUNS = f"""
SELECT r.integration::text, r.provider_id, r.attempt, r.project, r.pipeline, r.number, r.trigger, r.branch,
    r.sha, coalesce(a.surrogate, '') AS actor, r.phase, r.outcome, r.queued_at, r.started_at, r.finished_at,
    r.url, r.failed_jobs, r.jobs, r.seen_at
FROM {_WANTED}
JOIN pipewright.runs r
    ON r.integration = wanted.integration AND r.provider_id = wanted.run_id AND r.attempt = wanted.attempt
LEFT JOIN pipewright.actors a ON a.id = r.actor
"""  # noqa: S608 - names are ours
_LOCK_INTEGRATIONS = (
    "SELECT pg_advisory_xact_lock(hashtextextended(name, 0))"
    " FROM (SELECT name FROM jsonb_array_elements_text(%s) AS name ORDER BY 1) AS sorted"
)
# The parts of UNION ALL are done one after the other: the integrations, then their runs, each in one order.
_LOCK_RUNS = """
SELECT pg_advisory_xact_lock_shared(hashtextextended(name, 0))::text
FROM (SELECT name FROM jsonb_array_elements_text(%s) AS name ORDER BY 1) AS sorted
UNION ALL
SELECT pg_advisory_xact_lock(hash)::text
FROM (SELECT DISTINCT hashtextextended(name, 1) AS hash FROM jsonb_array_elements_text(%s) AS name
    ORDER BY 1) AS sorted
"""
