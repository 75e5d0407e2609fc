"""How predictions turned out: counted where they lie, by probability and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg
from psycopg.rows import class_row

from pipewright.store.records import ModelPointer


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Predictions that were made on one day (UTC), alike in probability, band and outcome."""

    day: date
    decile: int
    """1 for those below the second of the `bounds`, and so on; 0 below the first."""
    bin: int
    """The tenth of the scale, 0 to 9."""
    band: str
    failed: bool | None
    """None: the run has not finished, or ended as neither passed nor failed."""
    control: bool
    """Whether they are of the model's control group, by the share that is set now."""
    rows: int
    total: float
    """The sum of their probabilities."""


async def count(
    conn: psycopg.AsyncConnection, pointer: ModelPointer, *, since: datetime, bounds: Sequence[float]
) -> list[Verdicts]:
    """What the active version said of runs when they started, since then, and what became of them.

    `bounds` are the rising lower ends of the deciles that `Verdicts.decile` counts by.
    """
    values = {
        "version": pointer.artifact_sha256[:12],
        "model": pointer.model_uid,
        "share": pointer.control_share,
        "since": since,
        "bounds": list(bounds) or [0.0],
    }
    async with conn.cursor(row_factory=class_row(Verdicts)) as cursor:
        await cursor.execute(_COUNT, values)
        return await cursor.fetchall()


async def spread(
    conn: psycopg.AsyncConnection, *, version: str, since: datetime, bounds: Sequence[float]
) -> list[int]:
    """How many of a version's predictions since then lie from each of these rising bounds to the next.

    What lies below the first counts with it.
    """
    cursor = await conn.execute(_SPREAD, {"version": version, "since": since, "bounds": list(bounds)})
    found: dict[int, int] = dict(await cursor.fetchall())
    return [found.get(at, 0) for at in range(1, len(bounds) + 1)]


_SPREAD = """
SELECT greatest(width_bucket(probability, %(bounds)s::float8[]), 1) AS decile, count(*)
FROM pipewright.predictions
WHERE kind = 'run' AND model_version = %(version)s AND scored_at >= %(since)s
GROUP BY 1
"""
_COUNT = """
SELECT (p.scored_at AT TIME ZONE 'UTC')::date AS day,
    width_bucket(p.probability, %(bounds)s::float8[]) AS decile,
    least(floor(p.probability * 10), 9)::integer AS bin,
    p.band,
    CASE WHEN r.phase = 'finished' AND r.outcome = 'failure' THEN true
        WHEN r.phase = 'finished' AND r.outcome = 'success' THEN false END AS failed,
    -- as `gateway.control` has it: of 4 bytes of the digest, 2^32 values
    ('x' || left(encode(sha256(convert_to(
        concat_ws('|', %(model)s::text, p.integration, p.provider_id), 'UTF8')), 'hex'), 8))::bit(32)::bigint
        < %(share)s::float8 * 4294967296 AS control,
    count(*) AS rows,
    sum(p.probability) AS total
FROM pipewright.predictions p
LEFT JOIN pipewright.runs r USING (integration, provider_id, attempt)
WHERE p.kind = 'run' AND p.model_version = %(version)s AND p.scored_at >= %(since)s
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 1, 2, 3, 4, 5, 6
"""
