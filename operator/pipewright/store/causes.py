"""Causes of failures, once for each attempt and kept as they were judged; and how re-runs ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Attempt, Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """Judged failures, alike in kind, tenth of the probability, and outcome of the next attempt."""

    kind: str
    bin: int
    """The tenth of the scale, 0 to 9."""
    passed: bool | None
    """Whether the run's next attempt passed; None: there is none that passed or failed."""
    rows: int
    right: int
    """Of those with an answer, how many were called right, from an even chance on."""
    total: float
    """The sum of their probabilities of passing."""
    squares: float
    """The sum of squared distances between that and the answer."""


async def record(conn: psycopg.AsyncConnection, judged: Sequence[Judged]) -> None:
    """Keep what was judged; an attempt that has a cause keeps it."""
    values = [rows.values(each) | {"reasons": Jsonb(list(each.reasons))} for each in judged]
    async with conn.cursor() as cursor:
        await cursor.executemany(_INSERT, values)


async def find_many(conn: psycopg.AsyncConnection, attempts: Collection[Attempt]) -> dict[Attempt, Judged]:
    """The causes of attempts; those without one are left out."""
    wanted = [[attempt[at] for attempt in attempts] for at in range(3)]
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND, wanted)
        found = [_judged(row) async for row in cursor]
    return {(each.integration, each.provider_id, each.attempt): each for each in found}


async def recent(
    conn: psycopg.AsyncConnection,
    *,
    integrations: Sequence[str],
    versions: Sequence[str],
    model_uid: str,
    run: str | None,
    limit: int,
) -> list[Judged]:
    """The newest causes by these versions, or by any that was trained for the model.

    `run`: only of this run of the provider.
    """
    values = {
        "integrations": list(integrations),
        "versions": list(versions),
        "model": model_uid,
        "run": run,
        "limit": limit,
    }
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_RECENT, values)
        return [_judged(row) async for row in cursor]


async def reruns(conn: psycopg.AsyncConnection, *, version: str, since: datetime) -> list[Rerun]:
    """What a version judged since then, and how the next attempts ended."""
    async with conn.cursor(row_factory=class_row(Rerun)) as cursor:
        await cursor.execute(_RERUNS, {"version": version, "since": since})
        return await cursor.fetchall()


def _judged(row: dict[str, object]) -> Judged:
    return Judged(**row | {"reasons": tuple(row["reasons"])})  # type: ignore[arg-type]


_INSERT = rows.insert("failure_causes", Judged) + " ON CONFLICT DO NOTHING"
_FIND = f"""
SELECT {rows.columns(Judged)} FROM pipewright.failure_causes
WHERE (integration, provider_id, attempt) IN (SELECT * FROM unnest(%s::uuid[], %s::text[], %s::integer[]))
"""  # noqa: S608 - names are ours
_RECENT = f"""
SELECT {rows.columns(Judged)} FROM pipewright.failure_causes
WHERE integration = ANY(%(integrations)s::uuid[])
    AND (%(run)s::text IS NULL OR provider_id = %(run)s)
    AND (model_version = ANY(%(versions)s) OR model_version IN (
        SELECT left(report ->> 'artifactSha256', 12) FROM pipewright.trainings WHERE model_uid = %(model)s))
ORDER BY made_at DESC, provider_id DESC, attempt DESC LIMIT %(limit)s
"""  # noqa: S608 - names are ours
_RERUNS = """
SELECT kind, least(floor(transient * 10), 9)::integer AS bin, passed, count(*) AS rows,
    count(*) FILTER (WHERE (transient >= 0.5) = passed) AS right,
    sum(transient) AS total,
    coalesce(sum((transient - passed::integer) ^ 2), 0)::double precision AS squares
FROM (
    SELECT c.kind, c.transient,
        CASE r.outcome WHEN 'success' THEN true WHEN 'failure' THEN false END AS passed
    FROM pipewright.failure_causes c
    LEFT JOIN pipewright.runs r ON r.integration = c.integration AND r.provider_id = c.provider_id
        AND r.attempt = c.attempt + 1 AND r.phase = 'finished'
    WHERE c.model_version = %(version)s AND c.made_at >= %(since)s
) AS judged GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
