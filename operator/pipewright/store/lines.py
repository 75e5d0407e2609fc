"""Lines of work: for each, the last outcomes, as one JSON value that the prediction's own code encodes.

They are updated in the transaction of the run that finished, so that every replica scores alike. A line's
name is (scope, key), both text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import orjson
import psycopg
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Outcomes

Line = tuple[str, str]

_LONGEST_KEY = 1000
"""Bytes. A B-tree's row holds 2704, and a name of four-byte letters is long."""


async def read_lines(
    conn: psycopg.AsyncConnection, lines: Iterable[Line], *, lock: bool = False
) -> dict[Line, Outcomes]:
    """The outcomes of these lines, empty where there are none yet.

    With `lock`, nobody else changes them until the transaction ends: read so before `write_lines`.
    """
    wanted = sorted(set(lines), key=_stored)
    names = rows.packed([_stored(line) for line in wanted])
    found = await _read(conn, _HOLD if lock else _READ, names)
    if lock and len(found) < len(wanted):  # somebody else made one at this moment
        found = await _read(conn, _LOCK, names)
    return {line: found.get(_stored(line), []) for line in wanted}


async def _read(conn: psycopg.AsyncConnection, query: str, names: Jsonb) -> dict[Line, Outcomes]:
    cursor = await conn.execute(query, {"names": names})
    return {(scope, key): orjson.loads(outcomes) for scope, key, outcomes in await cursor.fetchall()}


async def write_lines(conn: psycopg.AsyncConnection, lines: Mapping[Line, str]) -> None:
    """Store the outcomes of these lines, each as JSON text of one value."""
    # The texts become part of one JSON value as they are: in an array of text each quote would be escaped.
    entries = (f"[{_quoted(_stored(line))},{lines[line]}]" for line in sorted(lines, key=_stored))
    await conn.execute(_WRITE, [f"[{','.join(entries)}]"])


def _stored(line: Line) -> Line:
    """The line's name in the table: a key that is too long for the index is known by its digest."""
    scope, key = line
    text = key.encode()
    return (
        (scope, key) if len(text) <= _LONGEST_KEY else (scope, f"sha256:{hashlib.sha256(text).hexdigest()}")
    )


def _quoted(line: Line) -> str:
    return orjson.dumps(line).decode()


_WRITE = """
INSERT INTO pipewright.lines (scope, key, outcomes)
SELECT new.line -> 0 ->> 0, new.line -> 0 ->> 1, new.line -> 1
FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS new (line, at)
ORDER BY new.at ON CONFLICT (scope, key) DO UPDATE SET outcomes = excluded.outcomes
"""
_WANTED = """(SELECT name ->> 0 AS scope, name ->> 1 AS key, at
    FROM jsonb_array_elements(%(names)s) WITH ORDINALITY AS new (name, at)) AS wanted"""
_READ = f"SELECT l.scope, l.key, l.outcomes::text FROM {_WANTED} JOIN pipewright.lines l USING (scope, key)"  # noqa: S608 - names are ours
_LOCK = f"{_READ} ORDER BY wanted.at FOR UPDATE OF l"
# A line that is not there cannot be locked. First those are made, then the others are locked, each in one
# order, so that no two deliveries wait crosswise: what the second part has not found is what the first made.
_HOLD = f"""
WITH made AS (
    INSERT INTO pipewright.lines (scope, key) SELECT scope, key FROM {_WANTED}
    WHERE NOT EXISTS (SELECT FROM pipewright.lines l WHERE l.scope = wanted.scope AND l.key = wanted.key)
    ORDER BY wanted.at ON CONFLICT DO NOTHING
    RETURNING scope, key, outcomes::text
)
SELECT scope, key, outcomes FROM made UNION ALL SELECT scope, key, outcomes FROM ({_LOCK}) AS known
"""  # noqa: S608 - names are ours
