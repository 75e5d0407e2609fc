"""What the model said, once for each attempt and kind: a prediction is kept as it was made."""

from __future__ import annotations

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import PredictionKind, Scored


async def record(conn: psycopg.AsyncConnection, scored: Scored) -> bool:
    """Keep a prediction; False when this attempt has one of this kind: the first stands."""
    values = rows.values(scored) | {"reasons": Jsonb(list(scored.reasons))}
    cursor = await conn.execute(_INSERT, values)
    return cursor.rowcount == 1


async def find(
    conn: psycopg.AsyncConnection, *, integration: str, run_id: str, attempt: int
) -> dict[PredictionKind, Scored]:
    """The predictions of an attempt, by kind."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND, [integration, run_id, attempt])
        found = [Scored(**row | {"reasons": tuple(row["reasons"])}) async for row in cursor]
    return {scored.kind: scored for scored in found}


_INSERT = rows.insert("predictions", Scored) + " ON CONFLICT DO NOTHING"
_FIND = f"""
SELECT {rows.columns(Scored)} FROM pipewright.predictions
WHERE integration = %s AND provider_id = %s AND attempt = %s
"""  # noqa: S608 - names are ours
