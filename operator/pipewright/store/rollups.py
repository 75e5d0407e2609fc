"""Keeps a tenant's rollups current: what the migrations' triggers note, `refresh_rollups` takes and recounts.

A note and its rollup change in one transaction each, so that a crash between the two leaves the note.
"""

from __future__ import annotations

import psycopg

BUSY = -1
"""Another session is refreshing: look again."""
MOST = 50_000
"""Notes that one transaction takes: of the newest days, whole ones if it can."""


async def refresh(conn: psycopg.AsyncConnection, *, most: int = MOST) -> int:
    """Recount what up to `most` notes of the newest days touch; how many they were, or `BUSY`.

    0 says that the rollups are current. Call it in a transaction of its own.

    Raises:
        BackendError: it did not end within the statement's time; ask for less.
    """
    row = await (await conn.execute("SELECT pipewright.refresh_rollups(%s)", [most])).fetchone()
    assert row is not None
    return int(row[0])
