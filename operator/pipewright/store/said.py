"""What models said of attempts: once for each attempt, and kept as it was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Attempt, Forecast, Judged, Said, Scored

T = TypeVar("T", bound=Said)


class Sayings(Generic[T]):
    """The table of what one sort of models said. `newest`: by what the newest come first."""

    def __init__(self, table: str, kind: type[T], *, newest: str) -> None:
        self._kind = kind
        self._insert = rows.insert(table, kind) + " ON CONFLICT DO NOTHING"
        select = f"SELECT {rows.columns(kind)} FROM pipewright.{table}"  # noqa: S608 - names are ours
        self._find = select + _OF_ATTEMPTS
        self._recent = f"{select}{_OF_MODEL} ORDER BY {newest} LIMIT %(limit)s"

    async def record(self, conn: psycopg.AsyncConnection, said: Sequence[T]) -> int:
        """Keep what was said; how much of it is new: the first that is said of an attempt stands."""
        if not said:
            return 0
        values = [rows.values(each) | {"reasons": Jsonb(list(each.reasons))} for each in said]
        async with conn.cursor() as cursor:
            await cursor.executemany(self._insert, values)
            return cursor.rowcount

    async def find(self, conn: psycopg.AsyncConnection, attempts: Collection[Attempt]) -> list[T]:
        """What was said of these attempts."""
        if not attempts:
            return []
        return await self._read(conn, self._find, [[attempt[at] for attempt in attempts] for at in range(3)])

    async def recent(
        self,
        conn: psycopg.AsyncConnection,
        *,
        integrations: Sequence[str],
        versions: Sequence[str],
        model_uid: str,
        run: str | None,
        limit: int,
    ) -> list[T]:
        """The newest of these versions, or of any that was trained for the model.

        `run`: only of this run of the provider.
        """
        values = {
            "integrations": list(integrations),
            "versions": list(versions),
            "model": model_uid,
            "run": run,
            "limit": limit,
        }
        return await self._read(conn, self._recent, values)

    async def _read(self, conn: psycopg.AsyncConnection, query: str, values: Any) -> list[T]:
        async with conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, values)
            return [self._kind(**row | {"reasons": tuple(row["reasons"])}) async for row in cursor]


_OF_ATTEMPTS = """
WHERE (integration, provider_id, attempt) IN (SELECT * FROM unnest(%s::uuid[], %s::text[], %s::integer[]))
"""
# A version is the beginning of its file's digest, and the journal has the digest of each file that was made.
_OF_MODEL = """
WHERE integration = ANY(%(integrations)s::uuid[])
    AND (%(run)s::text IS NULL OR provider_id = %(run)s)
    AND (model_version = ANY(%(versions)s) OR model_version IN (
        SELECT left(report ->> 'artifactSha256', 12) FROM pipewright.trainings WHERE model_uid = %(model)s))
"""

PREDICTIONS = Sayings("predictions", Scored, newest="scored_at DESC, provider_id DESC, attempt DESC, kind")
"""Of an attempt there may be one of each kind."""
FORECASTS = Sayings("duration_forecasts", Forecast, newest="made_at DESC, provider_id DESC, attempt DESC")
CAUSES = Sayings("failure_causes", Judged, newest="made_at DESC, provider_id DESC, attempt DESC")
