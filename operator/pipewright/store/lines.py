"""Lines of work: for each, the last outcomes, as one JSON value that the prediction's own code encodes.

They are updated in the transaction of the run that finished, so that every replica scores alike. A line's
name is (scope, key), both text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import psycopg

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
    scopes, keys = [scope for scope, _ in wanted], [_stored(line)[1] for line in wanted]
    if lock:
        # A line that is not there cannot be locked; in order, so that no two deliveries wait crosswise.
        await conn.execute(
            "INSERT INTO pipewright.lines (scope, key) SELECT new.scope, new.key"
            " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (scope, key, at)"
            " ORDER BY new.at ON CONFLICT DO NOTHING",
            [scopes, keys],
        )
    cursor = await conn.execute(
        _READ + (" ORDER BY wanted.at FOR UPDATE OF l" if lock else ""), [scopes, keys]
    )
    found: dict[Line, Outcomes] = {(scope, key): outcomes async for scope, key, outcomes in cursor}
    return {line: found.get(_stored(line), []) for line in wanted}


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
    return json.dumps(line, ensure_ascii=False)


_WRITE = """
INSERT INTO pipewright.lines (scope, key, outcomes)
SELECT new.line -> 0 ->> 0, new.line -> 0 ->> 1, new.line -> 1
FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS new (line, at)
ORDER BY new.at ON CONFLICT (scope, key) DO UPDATE SET outcomes = excluded.outcomes
"""
_READ = """
SELECT l.scope, l.key, l.outcomes
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (scope, key, at)
JOIN pipewright.lines l ON l.scope = wanted.scope AND l.key = wanted.key
"""
