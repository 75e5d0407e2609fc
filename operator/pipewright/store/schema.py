"""Alembic's two script trees, `platform` and `tenant`, upgraded from code: no ini file, no command line.

Migrations run as the login `pipewright_migrator` acting as `pipewright_owner`, so that all objects have one
owner in every database. They go forward only, in one transaction, and hold plain SQL. Alembic itself is
loaded by the first of them.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Literal

import psycopg

from pipewright.ports import Secret
from pipewright.store import connect, roles, trouble

Tree = Literal["platform", "tenant"]

VERSION_TABLE = "schema_version"

_FOLDER = Path(__file__).parent
_AT_ONCE = threading.BoundedSemaphore(4)
"""Upgrades of a process under way: each holds a thread and a connection."""


@functools.cache
def head(tree: Tree) -> str:
    """The revision that this release carries: files are named by theirs, and stand in their order."""
    files = sorted((_FOLDER / tree / "versions").glob(f"{tree[0]}[0-9]*_*.py"))
    return files[-1].name.partition("_")[0]


def migrator(dsn: str | Secret, *, database: str) -> str:
    """Connection string of the migrator, acting as the owner, in this database."""
    limits = {"role": roles.OWNER, "statement_timeout": "0", "lock_timeout": "10s"}
    return connect.conninfo(dsn, settings=limits, dbname=database)


def upgrade(tree: Tree, dsn: str | Secret, *, database: str) -> None:
    """Bring the database to `head`, if it is behind. Blocks: call it in a thread from asyncio.

    Raises:
        Unreachable: no connection, or another session holds a lock that the upgrade needs.
    """
    from pipewright.store import migrations

    where = f"migrating database {database}"
    info = migrator(dsn, database=database)
    with _AT_ONCE, trouble.translated(where):
        migrations.upgrade(tree, info, where=where)


async def version(connection: psycopg.AsyncConnection) -> str | None:
    """The database's revision, read as the migrator; None before the first migration."""
    cursor = await connection.execute("SELECT to_regclass(%s)", [f"{roles.SCHEMA}.{VERSION_TABLE}"])
    if (await cursor.fetchone()) == (None,):
        return None
    cursor = await connection.execute("SELECT version_num FROM pipewright.schema_version")
    row = await cursor.fetchone()
    return str(row[0]) if row else None


def run(sql: str) -> None:
    """For revisions: execute statements of plain SQL as they stand (no parameters, `%` is itself)."""
    from pipewright.store import migrations

    migrations.run(sql)
