"""Alembic's part of `schema`, by itself: with SQLAlchemy it takes 27 MiB that most processes never need."""

from __future__ import annotations

from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command, config, context, op
from sqlalchemy import exc, pool

from pipewright.store import roles, schema, trouble

_FOLDER = Path(__file__).parent

_LOCK = 7_264_101
"""Advisory lock in the database that is upgraded: two operators never migrate it at once."""


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
    """Execute statements of plain SQL in the revision that is being run."""
    op.get_bind().exec_driver_sql(sql, execution_options={"no_parameters": True})


def migrate() -> None:
    """Run the chosen steps on the connection that `upgrade` opened."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection, version_table=schema.VERSION_TABLE, version_table_schema=roles.SCHEMA
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(tree: str, info: str) -> None:
    settings = _config(tree)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(info), poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        connection.commit()  # the lock belongs to the session and ends with it
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def _config(tree: str) -> config.Config:
    settings = config.Config()
    settings.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    settings.set_main_option("path_separator", "newline")
    settings.set_main_option("version_locations", str(_FOLDER / tree / "versions").replace("%", "%%"))
    return settings
