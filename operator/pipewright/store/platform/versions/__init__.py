"""Revisions of a platform database, oldest first. Alembic loads them by path."""
