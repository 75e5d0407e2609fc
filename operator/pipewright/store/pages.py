"""Runs and jobs of an Integration, page by page, newest first: what has finished, or else what has not.

A page is found by an index on the time of the finish, or of the last news, so whoever asks names a range of
it; what belongs to one run, by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from pipewright.records import Phase
from pipewright.store.records import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as all deliveries so far tell."""

    integration: str
    provider_id: str
    run_id: str
    attempt: int
    project: str
    pipeline: str
    """Empty where neither the job nor its run told."""
    name: str
    branch: str
    sha: str
    phase: str
    outcome: str
    runner: str
    labels: tuple[str, ...]
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The last row of the page before: when it finished or was last heard of, its id and attempt."""

    at: datetime
    key: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows; an empty text or None is no condition."""

    integration: str
    since: datetime
    until: datetime
    """Rows in [since, until), by the finish; by when they were last heard of if they have not finished."""
    phase: Phase = "finished"
    project: str = ""
    pipeline: str = ""
    branch: str = ""
    sha: str = ""
    outcome: str = ""
    run: str = ""
    """The provider's id of a run; the range of time does not count then."""
    name: str = ""
    """Of a job."""
    after: Place | None = None
    limit: int = 50


async def runs(conn: psycopg.AsyncConnection, wanted: Wanted) -> list[Run]:
    """A page of attempts of runs."""
    rows = await _page(conn, _RUNS, wanted, key="provider_id", texts=("project", "pipeline", *_COMMON))
    return [Run(**row | {"failed_jobs": tuple(row["failed_jobs"])}) for row in rows]


async def jobs(conn: psycopg.AsyncConnection, wanted: Wanted) -> list[Job]:
    """A page of jobs."""
    rows = await _page(conn, _JOBS, wanted, key="run_id", texts=("project", "name", *_COMMON))
    return [Job(**row | {"labels": tuple(row["labels"])}) for row in rows]


def place(row: Run | Job) -> Place:
    """Where the page after this row begins."""
    at = row.finished_at if row.phase == "finished" else row.seen_at
    return Place(at=at or row.seen_at, key=row.provider_id, attempt=row.attempt)


_COMMON = ("branch", "sha", "outcome")


async def _page(
    conn: psycopg.AsyncConnection, select: LiteralString, wanted: Wanted, *, key: str, texts: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Only conditions that are asked for stand in the statement: each has the plan of its own."""
    at = "r.finished_at" if wanted.phase == "finished" else "r.seen_at"
    phase = "r.phase = 'finished' AND r.finished_at IS NOT NULL"
    if wanted.phase != "finished":
        phase = "r.phase <> 'finished' AND r.phase = %(phase)s"
    conditions = ["r.integration = %(integration)s", phase]
    if wanted.run:
        conditions.append(f"r.{key} = %(run)s")
    else:
        conditions.append(f"{at} >= %(since)s AND {at} < %(until)s")
    conditions += [f"r.{name} = %({name})s" for name in texts if getattr(wanted, name)]
    values = {name: getattr(wanted, name) for name in _PARAMETERS}
    if wanted.after is not None:
        conditions.append(f"({at}, r.provider_id, r.attempt) < (%(at)s, %(key)s, %(attempt)s)")
        values |= {"at": wanted.after.at, "key": wanted.after.key, "attempt": wanted.after.attempt}
    order = f"{at} DESC, r.provider_id DESC, r.attempt DESC"
    query = f"{select} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT %(limit)s"
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


_PARAMETERS = (
    "integration", "since", "until", "phase", "project", "pipeline", "branch", "sha", "outcome", "run",
    "name", "limit",
)  # fmt: skip
_RUNS: LiteralString = """
SELECT r.integration::text, r.provider_id, r.attempt, r.project, r.pipeline, r.number, r.trigger, r.branch,
    r.sha, coalesce(a.surrogate, '') AS actor, r.phase, r.outcome, r.queued_at, r.started_at, r.finished_at,
    r.url, r.failed_jobs, r.jobs, r.seen_at
FROM pipewright.runs r LEFT JOIN pipewright.actors a ON a.id = r.actor
"""
_JOBS: LiteralString = """
SELECT r.integration::text, r.provider_id, r.run_id, r.attempt, r.project,
    coalesce(nullif(r.pipeline, ''), whole.pipeline, '') AS pipeline, r.name, r.branch, r.sha, r.phase,
    r.outcome, r.runner, r.labels, r.queued_at, r.started_at, r.finished_at, r.seen_at
FROM pipewright.jobs r LEFT JOIN pipewright.runs whole
    ON whole.integration = r.integration AND whole.provider_id = r.run_id AND whole.attempt = r.attempt
"""
