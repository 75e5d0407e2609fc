"""Revisions of a tenant database, oldest first. Alembic loads them by path."""
