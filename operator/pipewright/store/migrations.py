"""Alembic's part of `schema`, by itself: with SQLAlchemy it takes 27 MiB that most processes never need."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import exc, pool

from pipewright.store import roles, schema, trouble

_FOLDER = Path(__file__).parent

LOCK = 7_264_101
"""Advisory lock in the database that is upgraded: two operators never migrate it at once."""
_CONNECTION: ContextVar[sqlalchemy.Connection] = ContextVar("_CONNECTION")
"""Of the upgrade in this thread; Alembic's own `op` is one for the process, which lets one run at a time."""


def upgrade(tree: str, info: str, *, where: str) -> None:
    """Bring the database to the newest revision of the tree, as the login that `info` names.

    Raises:
        BackendError: PostgreSQL's trouble, translated.
    """
    try:
        _upgrade(tree, info)
    except exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise trouble.translate(error.orig, where=where) from None
        raise


def run(sql: str) -> None:
    """Execute statements of plain SQL in the revision that is being run in this thread."""
    _CONNECTION.get().exec_driver_sql(sql, execution_options={"no_parameters": True})


def _upgrade(tree: str, info: str) -> None:
    scripts = ScriptDirectory(str(_FOLDER), version_locations=[str(_FOLDER / tree / "versions")])
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(info), poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
        connection.commit()  # the lock belongs to the session and ends with it
        context = MigrationContext.configure(
            connection,
            opts={
                "fn": partial(_steps, scripts),
                "version_table": schema.VERSION_TABLE,
                "version_table_schema": roles.SCHEMA,
            },
        )
        before = _CONNECTION.set(connection)
        try:
            with context.begin_transaction():
                context.run_migrations()
        finally:
            _CONNECTION.reset(before)


def _steps(scripts: ScriptDirectory, heads: Any, _context: MigrationContext) -> list[RevisionStep]:
    ahead = scripts.iterate_revisions("head", heads, implicit_base=True)
    oldest_first = reversed(list(ahead))
    return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in oldest_first]
