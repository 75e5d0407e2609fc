"""Reports on one Integration's history over some days (UTC), from the views that tenants read too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

Bucket = Literal["day", "hour"]
CostBy = Literal["project", "pipeline", "runner"]
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which rows; an empty text is no condition."""

    integration: str
    since: date
    until: date
    """The last day, included."""
    project: str = ""
    pipeline: str = ""
    branch: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Finished runs of an hour or a day."""

    at: datetime
    """Its beginning."""
    finished: int
    succeeded: int
    failed: int
    broken: int
    cancelled: int
    skipped: int
    reruns: int
    failure_rate: float | None
    """Failed and broken of those that succeeded, failed or broke."""
    mean_seconds: float | None
    longest_seconds: float
    mean_queue_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingJob:
    """A job by name, how often it failed, and the time that its runs took."""

    project: str
    pipeline: str
    name: str
    finished: int
    failed: int
    """Failed or broken."""
    failure_rate: float | None
    mean_seconds: float | None
    last_day: date
    """On which it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Productivity:
    """What the people of a project got through."""

    project: str
    days: int
    """With finished runs."""
    mean_people: float
    """On such a day."""
    commits: int
    """Distinct on each day."""
    finished: int
    succeeded: int
    failed: int
    reruns: int
    run_seconds: float
    queue_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A line of work, how often it became green again, and how long it was red before."""

    project: str
    pipeline: str
    branch: str
    repairs: int
    mean_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeToGreen:
    """A pipeline, the commits that became green after they were red, and how long that took."""

    project: str
    pipeline: str
    commits: int
    mean_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyJob:
    """A job that failed and succeeded on the same commits."""

    project: str
    pipeline: str
    name: str
    commits: int
    failures: int
    successes: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyTest(FlakyJob):
    """A test that disagreed with itself."""

    suite: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What runners of a kind, a project or a pipeline cost; without a price there is no currency or cost."""

    key: str
    jobs: int
    minutes: Decimal
    currency: str | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reruns:
    """How a job ended that ran more than once on a commit."""

    project: str
    pipeline: str
    name: str
    commits: int
    """On which it ended more than once."""
    disagreed: int
    """Those of them on which it both passed and failed."""
    reruns: int
    """Times that it ran after it had failed on the commit."""
    passed: int
    """Those of them that passed."""
    machine_minutes: float
    """Of failures on commits on which it disagreed: what came to nothing."""
    wait_minutes: float
    """From the first failure on such a commit to the pass after it, an hour at most for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """A job that has ended, with its times in seconds since the epoch."""

    id: str
    run: str
    project: str
    pipeline: str
    name: str
    runner: str
    """Its labels, sorted, joined by `, `."""
    failed: bool | None
    """None: it neither passed nor failed."""
    queued_at: float | None
    started_at: float | None
    finished_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a minute of a kind of runner costs from a day on."""

    runner: str
    """Its labels, sorted, joined by `, `."""
    currency: str
    per_minute: Decimal
    valid_from: date


async def failure_trend(conn: psycopg.AsyncConnection, span: Span, *, by: Bucket) -> list[Trend]:
    """Oldest first; an hour or day without finished runs is left out."""
    view, at, key = _BUCKETS[by]
    return await _rows(conn, _TREND.format(view=view, at=at, where=_where(span, key=key)), span, Trend)


async def failing_jobs(conn: psycopg.AsyncConnection, span: Span) -> list[FailingJob]:
    """Those that failed most, first."""
    return await _rows(conn, _FAILING.format(where=_where(span)), span, FailingJob)


async def productivity(conn: psycopg.AsyncConnection, span: Span) -> list[Productivity]:
    """Projects, those with the most runs first."""
    return await _rows(conn, _PRODUCTIVITY.format(where=_where(span, "project")), span, Productivity)


async def repairs(conn: psycopg.AsyncConnection, span: Span) -> list[Repair]:
    """Lines of work that became green within the days, those repaired most often first."""
    where = _where(span, "project", "pipeline", "branch")
    return await _rows(conn, _REPAIRS.format(where=where), span, Repair)


async def time_to_green(conn: psycopg.AsyncConnection, span: Span) -> list[TimeToGreen]:
    """Pipelines, those with the most commits first."""
    return await _rows(conn, _TO_GREEN.format(where=_where(span)), span, TimeToGreen)


async def flaky_jobs(conn: psycopg.AsyncConnection, span: Span) -> list[FlakyJob]:
    """Those that disagreed on the most commits, first."""
    return await _rows(conn, _FLAKY.format(where=_where(span)), span, FlakyJob)


async def flaky_tests(conn: psycopg.AsyncConnection, span: Span) -> list[FlakyTest]:
    """Those that disagreed on the most commits, first."""
    return await _rows(conn, _FLAKY_TESTS.format(where=_where(span)), span, FlakyTest)


async def reruns(conn: psycopg.AsyncConnection, span: Span) -> list[Reruns]:
    """The `limit` jobs that ran most often after a failure on the commit, in these days."""
    return await _rows(conn, _RERUNS.format(where=_where(span, key="finished_at")), span, Reruns)


async def finished_jobs(conn: psycopg.AsyncConnection, span: Span, *, lead: int) -> list[FinishedJob]:
    """The newest `limit` jobs that finished in these days or in the `lead` days before, oldest first."""
    where = _where(span, key="finished_at")
    values = {name: getattr(span, name) for name in Span.__slots__} | {"since": span.since - timedelta(lead)}
    async with conn.cursor(row_factory=class_row(FinishedJob)) as cursor:
        await cursor.execute(_FINISHED.format(where=where), values)
        found = await cursor.fetchall()
    return found[::-1]


async def cost(conn: psycopg.AsyncConnection, span: Span, *, by: CostBy) -> list[Cost]:
    """Those that cost most, first; then what has no price, by minutes."""
    return await _rows(conn, _COST.format(by=by, where=_where(span)), span, Cost)


async def prices(conn: psycopg.AsyncConnection, integration: str, *, limit: int) -> list[Price]:
    """All prices of an Integration, those of before included."""
    async with conn.cursor(row_factory=class_row(Price)) as cursor:
        await cursor.execute(_PRICES, [integration, limit])
        return await cursor.fetchall()


async def set_prices(conn: psycopg.AsyncConnection, integration: str, new: Sequence[Price]) -> None:
    """Add or replace prices by (runner, day)."""
    async with conn.cursor() as cursor:
        await cursor.executemany(
            _SET_PRICE,
            [[integration, each.runner, each.valid_from, each.currency, each.per_minute] for each in new],
        )


async def _rows(conn: psycopg.AsyncConnection, query: str, span: Span, kind: type[Row]) -> list[Row]:
    values: Mapping[str, Any] = {name: getattr(span, name) for name in Span.__slots__}
    async with conn.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()


def _where(span: Span, *texts: str, key: str = "day") -> str:
    """The conditions that are asked for, so that each question has a plan of its own."""
    days = "day >= %(since)s AND day <= %(until)s"
    if key != "day":
        days = (
            f"{key} >= %(since)s::timestamp AT TIME ZONE 'UTC'"
            f" AND {key} < (%(until)s::date + 1)::timestamp AT TIME ZONE 'UTC'"
        )
    asked = [name for name in texts or ("project", "pipeline") if getattr(span, name)]
    return " AND ".join(["integration = %(integration)s", days, *(f"{name} = %({name})s" for name in asked)])


_BUCKETS: Mapping[Bucket, tuple[LiteralString, LiteralString, LiteralString]] = {
    "day": ("failure_trend", "day::timestamp AT TIME ZONE 'UTC'", "day"),
    "hour": ("hourly_runs", "hour", "hour"),
}


def _sums(*names: str) -> str:
    return ", ".join(f"sum({name})::bigint AS {name}" for name in names)


_RATE: LiteralString = "sum(failed + broken)::double precision / nullif(sum(succeeded + failed + broken), 0)"
_TREND = f"""
SELECT {{at}} AS at, {_sums("finished", "succeeded", "failed", "broken", "cancelled", "skipped", "reruns")},
    {_RATE} AS failure_rate, sum(seconds) / nullif(sum(ran), 0) AS mean_seconds,
    max(longest_seconds) AS longest_seconds,
    sum(queue_seconds) / nullif(sum(queued), 0) AS mean_queue_seconds
FROM history.{{view}} WHERE {{where}} GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - names are ours
_FAILING = f"""
SELECT project, pipeline, name, {_sums("finished")}, sum(failed + broken)::bigint AS failed,
    {_RATE} AS failure_rate, sum(seconds) / nullif(sum(ran), 0) AS mean_seconds,
    max(day) FILTER (WHERE failed + broken > 0) AS last_day
FROM history.failing_jobs WHERE {{where}} GROUP BY project, pipeline, name
HAVING sum(failed + broken) > 0
ORDER BY sum(failed + broken) DESC, project, pipeline, name LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_PRODUCTIVITY = f"""
SELECT project, count(*) AS days, coalesce(avg(people), 0)::double precision AS mean_people,
    {_sums("commits", "finished", "succeeded", "failed", "reruns")},
    sum(seconds) AS run_seconds, sum(queue_seconds) AS queue_seconds
FROM history.team_productivity WHERE {{where}} GROUP BY project
ORDER BY sum(finished) DESC, project LIMIT %(limit)s
"""  # noqa: S608 - names are ours
# From the spells and commits themselves: `mttr` and `time_to_green` would add them up twice.
_GREEN_DAY = "SELECT *, (green_at AT TIME ZONE 'UTC')::date AS day FROM history."
_REPAIRS = f"""
SELECT project, pipeline, branch, count(*) AS repairs, avg(seconds) AS mean_seconds,
    max(seconds) AS longest_seconds
FROM ({_GREEN_DAY}red_spells) AS spells WHERE {{where}} GROUP BY project, pipeline, branch
ORDER BY count(*) DESC, project, pipeline, branch LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_TO_GREEN = f"""
SELECT project, pipeline, count(*) AS commits, avg(seconds) AS mean_seconds, max(seconds) AS longest_seconds
FROM ({_GREEN_DAY}red_commits) AS found WHERE {{where}} GROUP BY project, pipeline
ORDER BY count(*) DESC, project, pipeline LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_FLAKY = f"""
SELECT project, pipeline, name, {_sums("commits", "failures", "successes")}, max(last_at) AS last_at
FROM history.flaky_jobs WHERE {{where}} GROUP BY project, pipeline, name
ORDER BY sum(commits) DESC, project, pipeline, name LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_FLAKY_TESTS = f"""
SELECT project, pipeline, suite, name, {_sums("commits", "failures", "successes")}, max(last_at) AS last_at
FROM history.flaky_tests WHERE {{where}} GROUP BY project, pipeline, suite, name
ORDER BY sum(commits) DESC, project, pipeline, suite, name LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_COST = f"""
SELECT {{by}} AS key, {_sums("jobs")}, sum(minutes) AS minutes, currency, sum(cost) AS cost
FROM history.runner_cost WHERE {{where}} GROUP BY {{by}}, currency
ORDER BY sum(cost) DESC NULLS LAST, sum(minutes) DESC, {{by}} LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_RERUNS = """
WITH ended AS (
    SELECT project, pipeline, name, sha, outcome <> 'success' AS failed, finished_at,
        coalesce(greatest(extract(epoch FROM finished_at - started_at), 0), 0)::double precision AS seconds,
        lag(outcome <> 'success') OVER line AS again
    FROM pipewright.jobs
    WHERE phase = 'finished' AND outcome IN ('success', 'failure') AND sha <> '' AND {where}
    WINDOW line AS (PARTITION BY project, pipeline, name, sha ORDER BY finished_at, provider_id)
), commits AS (
    SELECT project, pipeline, name, count(*) AS ends, bool_or(failed) AND NOT bool_and(failed) AS two,
        count(*) FILTER (WHERE again) AS reruns, count(*) FILTER (WHERE again AND NOT failed) AS passed,
        sum(seconds) FILTER (WHERE failed) AS lost,
        greatest(extract(epoch FROM max(finished_at) FILTER (WHERE again AND NOT failed)
            - min(finished_at) FILTER (WHERE failed)), 0)::double precision AS waited
    FROM ended GROUP BY project, pipeline, name, sha HAVING count(*) > 1
)
SELECT project, pipeline, name, count(*) AS commits, count(*) FILTER (WHERE two) AS disagreed,
    sum(reruns)::bigint AS reruns, sum(passed)::bigint AS passed,
    coalesce(sum(lost) FILTER (WHERE two), 0) / 60 AS machine_minutes,
    coalesce(sum(least(waited, 3600)) FILTER (WHERE two), 0) / 60 AS wait_minutes
FROM commits GROUP BY project, pipeline, name
ORDER BY sum(reruns) DESC, project, pipeline, name LIMIT %(limit)s
"""
_FINISHED = """
SELECT provider_id AS id, run_id AS run, project, pipeline, name,
    array_to_string(ARRAY(SELECT unnest(labels) ORDER BY 1), ', ') AS runner,
    CASE WHEN outcome IN ('failure', 'error') THEN true WHEN outcome = 'success' THEN false END AS failed,
    extract(epoch FROM queued_at)::double precision AS queued_at,
    extract(epoch FROM started_at)::double precision AS started_at,
    extract(epoch FROM finished_at)::double precision AS finished_at
FROM pipewright.jobs WHERE phase = 'finished' AND {where}
ORDER BY jobs.finished_at DESC, jobs.provider_id DESC LIMIT %(limit)s
"""
_PRICES = """
SELECT runner, currency, per_minute, valid_from FROM history.runner_prices WHERE integration = %s
ORDER BY runner, valid_from DESC LIMIT %s
"""
_SET_PRICE = """
INSERT INTO pipewright.runner_prices (integration, runner, valid_from, currency, per_minute)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (integration, runner, valid_from)
DO UPDATE SET currency = excluded.currency, per_minute = excluded.per_minute
"""
