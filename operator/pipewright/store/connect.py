"""How every connection of ours is opened: catalog-only search path, time limits, UTC, a quick answer or none.

All of it is in the startup packet, so there is no moment with other settings.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import conninfo as libpq

from pipewright import errors
from pipewright.ports import Connection, Secret
from pipewright.store import trouble

CONNECT_SECONDS = 2
"""After this long without a session a server counts as unreachable."""

_SETTINGS = {
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}
"""A peer that vanished without a word is noticed within seconds, not after the kernel's hours."""


def conninfo(dsn: str | Secret, *, settings: dict[str, str] | None = None, **overrides: str) -> str:
    """A libpq connection string with our settings; `overrides` are libpq words such as dbname."""
    chosen = _SETTINGS | (settings or {})
    options = " ".join(f"-c {name}={value}" for name, value in chosen.items())
    text = dsn.reveal() if isinstance(dsn, Secret) else dsn
    words: dict[str, Any] = {
        "application_name": "pipewright",
        **_KEEPALIVE,
        **libpq.conninfo_to_dict(text),
        **overrides,
        "connect_timeout": CONNECT_SECONDS,
        "options": options,
    }
    return libpq.make_conninfo("", **words)


def tenant_dsn(connection: Connection, *, user: str, password: Secret) -> Secret:
    """The connection string of one of a tenant's logins."""
    return Secret(
        libpq.make_conninfo(
            "",
            host=connection.host,
            port=connection.port,
            dbname=connection.database,
            user=user,
            password=password.reveal(),
        )
    )


def place(dsn: str | Secret) -> str:
    """Where a connection string leads, for messages: the database and host, no more."""
    words = libpq.conninfo_to_dict(dsn.reveal() if isinstance(dsn, Secret) else dsn)
    return f"database {words.get('dbname', '?')} on {words.get('host', 'the local socket')}"


def server(dsn: str | Secret) -> str:
    """The server that a connection string leads to: host and port."""
    words = libpq.conninfo_to_dict(dsn.reveal() if isinstance(dsn, Secret) else dsn)
    return f"{words.get('host', '')}:{words.get('port', '')}"


def has_membership_options(connection: psycopg.Connection | psycopg.AsyncConnection) -> bool:
    """Whether the server knows GRANT … WITH INHERIT, SET: 16 and newer."""
    return connection.info.server_version >= 160000


async def room(connection: psycopg.AsyncConnection) -> int:
    """How many connections the server takes from logins that are no superusers, all of them together."""
    row = await (await connection.execute(_ROOM)).fetchone()
    assert row is not None, "a SELECT of settings has a row"
    return int(row[0])


_ROOM = """
SELECT current_setting('max_connections')::integer
    - current_setting('superuser_reserved_connections')::integer
    - coalesce(current_setting('reserved_connections', true)::integer, 0)
"""


async def connect(info: str, *, where: str) -> psycopg.AsyncConnection:
    """An autocommit connection to `info` (made by `conninfo`); the caller closes it.

    Raises:
        Unreachable: no session within two seconds.
        Forbidden: the server refused the login.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            with trouble.translated(where):
                return await psycopg.AsyncConnection.connect(info, autocommit=True)
    except TimeoutError:
        raise errors.Unreachable(f"PostgreSQL, {where}: no answer within {CONNECT_SECONDS} s") from None
