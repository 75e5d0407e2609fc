"""The gateway's ear: which table of the platform database changed, as the server announces it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pipewright.ports import Secret
from pipewright.store import connect, trouble

CHANNEL = "pipewright_changes"

EVERYTHING = "*"
"""The first announcement of every connection: what happened before it listened is unknown, so load all."""


async def changes(dsn: str | Secret, *, idle_seconds: float = 60.0) -> AsyncIterator[str]:
    """Names of tables, as they change; `EVERYTHING` first, and again after each quiet `idle_seconds`.

    One connection for as long as it lasts. Announcements of one transaction come once for each table.

    Raises:
        Unreachable: no connection, or it broke. Start again; the first announcement covers the gap.
    """
    where = connect.place(dsn)
    connection = await connect.connect(connect.conninfo(dsn), where=where)
    try:
        with trouble.translated(where):
            await connection.execute(f"LISTEN {CHANNEL}")
            while True:
                yield EVERYTHING
                # The generator ends after a quiet spell; asking anything then finds a connection that died.
                async for notice in connection.notifies(timeout=idle_seconds):
                    yield notice.payload
                await connection.execute("SELECT 1")
    finally:
        await connection.close()
