"""How forecasts of durations turned out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import psycopg
from psycopg.rows import class_row

LONGEST = 24 * 3600
"""Seconds: what took longer is mostly the end of a later re-run; as `ml.duration_features` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasted:
    """Forecasts that were made on one day (UTC), and how long those runs took that have ended since."""

    day: date
    forecasts: int
    judged: int
    """Of these, runs that passed or failed, in a known time."""
    within_p50: int
    """Of these, those that took no longer than that quantile."""
    within_p90: int
    within_p95: int
    off: float
    """Seconds between the median and what it was, added up."""
    pinball: float
    """The pinball losses of the three quantiles, added up, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A run that took longer than nineteen of twenty were said to."""

    integration: str
    provider_id: str
    attempt: int
    project: str
    pipeline: str
    branch: str
    seconds: float
    p50: float
    p95: float
    finished_at: datetime
    url: str


async def lasted(conn: psycopg.AsyncConnection, *, version: str, since: datetime) -> list[Lasted]:
    """How a version's forecasts since then turned out, by day, oldest first."""
    async with conn.cursor(row_factory=class_row(Lasted)) as cursor:
        await cursor.execute(_LASTED, {"version": version, "since": since, "longest": LONGEST})
        return await cursor.fetchall()


async def slow(conn: psycopg.AsyncConnection, *, version: str, since: datetime, limit: int) -> list[Slow]:
    """The runs above the last quantile of a version's forecasts since then, the last finished first."""
    values = {"version": version, "since": since, "longest": LONGEST, "limit": limit}
    async with conn.cursor(row_factory=class_row(Slow)) as cursor:
        await cursor.execute(_SLOW, values)
        return await cursor.fetchall()


async def covered(conn: psycopg.AsyncConnection, *, version: str, since: datetime) -> list[int]:
    """How many of these runs lay up to the first quantile, from there to the next, and above the last."""
    days = await lasted(conn, version=version, since=since)
    half, most, nearly, judged = (
        sum(getattr(each, name) for each in days)
        for name in ("within_p50", "within_p90", "within_p95", "judged")
    )
    return [half, most - half, nearly - most, judged - nearly]


_JOINED = """
SELECT f.*, r.project, r.pipeline, r.branch, r.finished_at, r.url,
    extract(epoch FROM r.finished_at - r.started_at)::double precision AS seconds
FROM pipewright.duration_forecasts f
LEFT JOIN pipewright.runs r ON r.integration = f.integration AND r.provider_id = f.provider_id
    AND r.attempt = f.attempt AND r.phase = 'finished' AND r.outcome IN ('success', 'failure')
    AND r.finished_at > r.started_at AND extract(epoch FROM r.finished_at - r.started_at) <= %(longest)s
WHERE f.model_version = %(version)s AND f.made_at >= %(since)s
"""
_LOSS = " + ".join(
    f"greatest({quantile} * (seconds - {column}), {quantile} * (seconds - {column}) - (seconds - {column}))"
    for column, quantile in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95))
)
_LASTED = f"""
SELECT (made_at AT TIME ZONE 'UTC')::date AS day, count(*) AS forecasts, count(seconds) AS judged,
    count(*) FILTER (WHERE seconds <= p50) AS within_p50,
    count(*) FILTER (WHERE seconds <= p90) AS within_p90,
    count(*) FILTER (WHERE seconds <= p95) AS within_p95,
    coalesce(sum(abs(seconds - p50)), 0) AS off,
    coalesce(sum({_LOSS}), 0) AS pinball
FROM ({_JOINED}) AS joined GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - names are ours
_SLOW = f"""
SELECT integration::text, provider_id, attempt, project, pipeline, branch, seconds, p50, p95, finished_at, url
FROM ({_JOINED}) AS joined WHERE seconds > p95 ORDER BY finished_at DESC, provider_id DESC LIMIT %(limit)s
"""  # noqa: S608 - names are ours
