"""Alembic loads this file by its path for every command; the work is in `schema`."""

from pipewright.store import schema

schema.migrate()
