"""What the model said, once for each attempt and kind: a prediction is kept as it was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Attempt, PredictionKind, Scored


async def record(conn: psycopg.AsyncConnection, scored: Scored) -> bool:
    """Keep a prediction; False when this attempt has one of this kind: the first stands."""
    values = rows.values(scored) | {"reasons": Jsonb(list(scored.reasons))}
    cursor = await conn.execute(_INSERT, values)
    return cursor.rowcount == 1


async def find(
    conn: psycopg.AsyncConnection, *, integration: str, run_id: str, attempt: int
) -> dict[PredictionKind, Scored]:
    """The predictions of an attempt, by kind."""
    key = (integration, run_id, attempt)
    return (await find_many(conn, [key])).get(key, {})


async def find_many(
    conn: psycopg.AsyncConnection, attempts: Collection[Attempt]
) -> dict[Attempt, dict[PredictionKind, Scored]]:
    """The predictions of attempts, by kind; those without any are left out."""
    wanted = [[attempt[at] for attempt in attempts] for at in range(3)]
    made: dict[Attempt, dict[PredictionKind, Scored]] = {}
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND, wanted)
        async for row in cursor:
            scored = Scored(**row | {"reasons": tuple(row["reasons"])})
            key = (scored.integration, scored.provider_id, scored.attempt)
            made.setdefault(key, {})[scored.kind] = scored
    return made


async def recent(
    conn: psycopg.AsyncConnection,
    *,
    integrations: Sequence[str],
    versions: Sequence[str],
    model_uid: str,
    run: str | None,
    limit: int,
) -> list[Scored]:
    """The newest predictions by these versions, or by any that was trained for the model.

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
        return [Scored(**row | {"reasons": tuple(row["reasons"])}) async for row in cursor]


_INSERT = rows.insert("predictions", Scored) + " ON CONFLICT DO NOTHING"
_FIND = f"""
SELECT {rows.columns(Scored)} FROM pipewright.predictions
WHERE (integration, provider_id, attempt) IN (SELECT * FROM unnest(%s::uuid[], %s::text[], %s::integer[]))
"""  # noqa: S608 - names are ours
# A version is the beginning of its file's digest, and the journal has the digest of each file that was made.
_RECENT = f"""
SELECT {rows.columns(Scored)} FROM pipewright.predictions
WHERE integration = ANY(%(integrations)s::uuid[])
    AND (%(run)s::text IS NULL OR provider_id = %(run)s)
    AND (model_version = ANY(%(versions)s) OR model_version IN (
        SELECT left(report ->> 'artifactSha256', 12) FROM pipewright.trainings WHERE model_uid = %(model)s))
ORDER BY scored_at DESC, provider_id DESC, attempt DESC, kind LIMIT %(limit)s
"""  # noqa: S608 - names are ours
