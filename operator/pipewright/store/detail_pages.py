"""Steps, tests, commits and deployments of an Integration, page by page, newest first.

As of runs and jobs (`pages`): whoever asks names a range of time, or a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from pipewright.records import DetailType, Phase
from pipewright.store.pages import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows."""

    integration: str
    since: datetime
    until: datetime
    """Rows in [since, until), by the finish, a commit's time, or the last news of what has not finished."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Column → the text that it must be; an empty one is no condition."""
    phase: Phase = "finished"
    """Of deployments."""
    run: str = ""
    """The provider's id of a run; the range of time does not count then."""
    after: Place | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row, and where the page after it begins."""

    values: Mapping[str, Any]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    select: LiteralString
    at: LiteralString
    key: LiteralString
    number: LiteralString = "1"
    by_day: bool = False


async def page(conn: psycopg.AsyncConnection, kind: DetailType, wanted: Wanted) -> list[Row]:
    """A page of one kind. Only conditions that are asked for stand in the statement."""
    of, conditions = _LISTS[kind], ["r.integration = %(integration)s"]
    at = of.at
    if kind == "deployment":
        conditions.append("r.phase = %(phase)s")
        at = "r.finished_at" if wanted.phase == "finished" else "r.seen_at"
    if wanted.run:
        conditions.append("r.run_id = %(run)s")
    else:
        conditions.append(f"{at} >= %(since)s AND {at} < %(until)s")
        if of.by_day:  # a row's day may be the one beside that of its finish
            conditions.append("r.day >= %(first)s AND r.day <= %(last)s")
    values = {
        "integration": wanted.integration, "since": wanted.since, "until": wanted.until, "run": wanted.run,
        "phase": wanted.phase, "limit": wanted.limit, "first": wanted.since.date() - timedelta(days=1),
        "last": wanted.until.date() + timedelta(days=1),
    }  # fmt: skip
    for name, text in wanted.texts.items():
        if text:
            conditions.append(f"r.{name} = %(is_{name})s")
            values[f"is_{name}"] = text
    if wanted.after is not None:
        conditions.append(f"({at}, {of.key}, {of.number}) < (%(at)s, %(key)s, %(number)s)")
        values |= {"at": wanted.after.at, "key": wanted.after.key, "number": wanted.after.attempt}
    query = (
        f"{of.select} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {at} DESC, {of.key} DESC, {of.number} DESC LIMIT %(limit)s"
    ).format(place=f"{at} AS place_at, {of.key} AS place_key, {of.number} AS place_number")
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return [_row(found) for found in await cursor.fetchall()]


def _row(found: dict[str, Any]) -> Row:
    at, key, number = (found.pop(f"place_{name}") for name in ("at", "key", "number"))
    return Row(values=found, place=Place(at=at, key=key, attempt=number))


_LISTS: Final[Mapping[DetailType, _List]] = {
    "step": _List(
        select="SELECT {place}, r.run_id AS run, r.attempt, r.job_id AS job, r.number, r.project, r.name,"
        " r.outcome, r.started_at, r.finished_at FROM pipewright.steps r",
        at="r.finished_at",
        key="r.job_id",
        number="r.number",
        by_day=True,
    ),
    "test": _List(
        select="SELECT {place}, r.provider_id AS test, r.run_id AS run, r.attempt, r.job_id AS job,"
        " r.project, r.pipeline, r.suite, r.name, r.branch, r.sha, r.outcome, r.started_at, r.finished_at,"
        " r.url"
        " FROM pipewright.tests r",
        at="r.finished_at",
        key="r.provider_id",
        by_day=True,
    ),
    "commit": _List(
        select="SELECT {place}, r.project, r.sha, r.branch, r.change, coalesce(a.surrogate, '') AS actor,"
        " r.parents, r.at, r.url FROM pipewright.commits r LEFT JOIN pipewright.actors a ON a.id = r.actor",
        at="r.at",
        key="(r.sha || ' ' || r.project || ' ' || r.branch)",
    ),
    "deployment": _List(
        select="SELECT {place}, r.provider_id AS deployment, r.operation, r.project, r.environment,"
        " r.service, r.pipeline, r.run_id AS run, r.branch, r.sha, coalesce(a.surrogate, '') AS actor,"
        " r.phase, r.outcome, r.queued_at, r.started_at, r.finished_at, r.url, r.seen_at"
        " FROM pipewright.deployments r LEFT JOIN pipewright.actors a ON a.id = r.actor",
        at="r.finished_at",
        key="r.provider_id",
    ),
}
