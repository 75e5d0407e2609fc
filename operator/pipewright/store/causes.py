"""How re-runs of failures ended whose causes were judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row


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


async def reruns(conn: psycopg.AsyncConnection, *, version: str, since: datetime) -> list[Rerun]:
    """What a version judged since then, and how the next attempts ended."""
    async with conn.cursor(row_factory=class_row(Rerun)) as cursor:
        await cursor.execute(_RERUNS, {"version": version, "since": since})
        return await cursor.fetchall()


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
