"""Alembic's two script trees, `platform` and `tenant`, upgraded from code: no ini file, no command line.

Migrations run as the login `pipewright_migrator` acting as `pipewright_owner`, so that all objects have one
owner in every database. They go forward only, in one transaction, and hold plain SQL.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Literal

import psycopg
import sqlalchemy
from alembic import command, config, context, op
from alembic.script import ScriptDirectory
from sqlalchemy import exc, pool

from pipewright.ports import Secret
from pipewright.store import connect, roles, trouble

Tree = Literal["platform", "tenant"]

VERSION_TABLE = "schema_version"

_FOLDER = Path(__file__).parent
_ONE_AT_A_TIME = threading.Lock()
"""Alembic's `op` and `context` are global to the process."""

_LOCK = 7_264_101
"""Advisory lock in the database that is upgraded: two operators never migrate it at once."""


@functools.cache
def head(tree: Tree) -> str:
    """The revision that this release carries."""
    found = ScriptDirectory.from_config(_config(tree)).get_current_head()
    assert found is not None
    return found


def migrator(dsn: str | Secret, *, database: str) -> str:
    """Connection string of the migrator, acting as the owner, in this database."""
    limits = {"role": roles.OWNER, "statement_timeout": "0", "lock_timeout": "10s"}
    return connect.conninfo(dsn, settings=limits, dbname=database)


def upgrade(tree: Tree, dsn: str | Secret, *, database: str) -> None:
    """Bring the database to `head`, if it is behind. Blocks: call it in a thread from asyncio.

    Raises:
        Unreachable: no connection, or another session holds a lock that the upgrade needs.
    """
    where = f"migrating database {database}"
    info = migrator(dsn, database=database)
    try:
        with _ONE_AT_A_TIME, trouble.translated(where):
            _upgrade(tree, info)
    except exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise trouble.translate(error.orig, where=where) from None
        raise


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
    op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})


def migrate() -> None:
    """What Alembic's env.py does: run the chosen steps on the connection that `upgrade` opened."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=roles.SCHEMA)
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(tree: Tree, info: str) -> None:
    settings = _config(tree)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(info), poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        connection.commit()  # the lock belongs to the session and ends with it
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def _config(tree: Tree) -> config.Config:
    settings = config.Config()
    settings.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    settings.set_main_option("path_separator", "newline")
    settings.set_main_option("version_locations", str(_FOLDER / tree / "versions").replace("%", "%%"))
    return settings
