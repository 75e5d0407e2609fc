"""Where psycopg's exceptions die: each becomes one of `pipewright.errors`, by its SQLSTATE.

The server's own text never passes: it may quote a connection string, a value or a statement. What is left
is the class of the trouble, the SQLSTATE for whoever reads the server's log, and where it happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pipewright import errors


class Full(errors.Unreachable):
    """The server has no connection left for the login."""


_UNREACHABLE = {
    "08": "the connection broke",
    "53": "it is out of connections, memory or disk space",
    "57": "it is starting, stopping, or cancelled the statement after its time limit",
}
_UNREACHABLE_EXACT = {
    "25006": "it is read-only, as a standby is; name the primary server",
    "55006": "the object is in use by another session",
    "55P03": "a lock was not to be had in time",
    "3D000": "the database is not there",
}
_CONFLICT = {
    "23505": "somebody else wrote the same key",
    "40001": "a concurrent transaction was first",
    "40P01": "a concurrent transaction was first",
}
PASSWORD_REFUSED = "it refused the login's password; set it again (bootstrap or rotation)"  # noqa: S105
LOGIN_DISABLED = "the login is disabled"
CONNECT_REFUSED = "the login may not connect to this database"
NO_CONNECTION_LEFT = (
    "it has no connection left for this login; raise its max_connections, or the limit of the role or"
    " database, or lower gateway.databaseConnections or the gateway's replicas: their product must fit"
)
_FULL = ("sorry, too many clients", "remaining connection slots are reserved", "too many connections for")
_CONNECTING = (
    ("password authentication failed", PASSWORD_REFUSED),
    ("permission denied for database", CONNECT_REFUSED),
    ("is not permitted to log in", LOGIN_DISABLED),
    ("no pg_hba.conf entry", "its pg_hba.conf has no entry for this login from here"),
)
"""A refused connection has no SQLSTATE in libpq, only this text (in English, or it counts as unreachable)."""


def translate(error: psycopg.Error, *, where: str) -> errors.BackendError:
    """The same trouble in our words. `where` names the server or database, never a connection string."""
    state = error.sqlstate
    if state is None:
        return _while_connecting(error, where=where)
    note = f"(SQLSTATE {state})"
    if reason := _CONFLICT.get(state):
        return errors.Conflict(f"PostgreSQL, {where}: {reason} {note}")
    if reason := _UNREACHABLE_EXACT.get(state) or _UNREACHABLE.get(state[:2]):
        return errors.Unreachable(f"PostgreSQL, {where}: {reason} {note}")
    if state == "42501" or state.startswith("28"):
        return errors.Forbidden(
            f"PostgreSQL, {where}: our login lacks a right {note}; run the bootstrap again"
        )
    return errors.BackendError(f"PostgreSQL, {where}: {type(error).__name__} {note}; see the server's log")


def _while_connecting(error: psycopg.Error, *, where: str) -> errors.BackendError:
    text = str(error)
    for sign, reason in _CONNECTING:
        if sign in text:
            return errors.Forbidden(f"PostgreSQL, {where}: {reason}")
    if any(sign in text for sign in _FULL):
        return Full(f"PostgreSQL, {where}: {NO_CONNECTION_LEFT}")
    if isinstance(error, psycopg.OperationalError):
        return errors.Unreachable(f"PostgreSQL, {where}: no answer; is the server up and the address right?")
    return errors.BackendError(f"PostgreSQL, {where}: {type(error).__name__}")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Let no exception of psycopg out of this block."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, where=where) from None
