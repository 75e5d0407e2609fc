"""Passwords reach the server as SCRAM verifiers only: its log may hold statements, and never a password."""

from __future__ import annotations

import psycopg


def verifier(connection: psycopg.Connection | psycopg.AsyncConnection, *, user: str, password: str) -> str:
    """What PostgreSQL stores for this password (SCRAM-SHA-256, fresh salt), computed on our side."""
    made = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256")
    return made.decode()
