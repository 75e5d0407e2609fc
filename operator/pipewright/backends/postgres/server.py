"""One PostgreSQL server of tenants as the provisioner reaches it, and the marks of our objects on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from pipewright import errors
from pipewright.ports import Secret
from pipewright.store import connect, roles, trouble
from pipewright.store.pools import Pools

MAINTENANCE = "postgres"
"""The database of sessions that are kept: nobody ever drops it."""

SESSIONS = 16
"""To one server at a time; `pools` must allow so many to one database."""

ENDING, SUSPENDED = 0, 1
"""What a login's note `suspended` may say: it is shut, and then its sessions have ended, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where tenants' databases lie. Host and port are what tenants use; the DSNs are ours."""

    name: str
    host: str
    port: int
    provisioner_dsn: Secret = field(repr=False)
    migrator_dsn: Secret = field(repr=False)
    dumper_dsn: Secret | None = field(default=None, repr=False)
    pools: Pools | None = field(default=None, repr=False)
    """Keeps sessions in the maintenance database; None: each use opens its own."""

    @asynccontextmanager
    async def provisioner(self, database: str = MAINTENANCE) -> AsyncIterator[psycopg.AsyncConnection]:
        """An autocommit connection as the provisioner; psycopg's exceptions leave the block translated.

        One to a tenant's database is opened for each use: a session in there is in the way of its drop.
        """
        where = f"server {self.name}, database {database}"
        info = connect.conninfo(
            self.provisioner_dsn, dbname=database, application_name="pipewright-provisioner"
        )
        if self.pools is not None and database == MAINTENANCE:
            async with self.pools.connection(f"server {self.name}", Secret(info)) as kept:
                with trouble.translated(where):
                    yield kept
            return
        connection = await connect.connect(info, where=where)
        try:
            with trouble.translated(where):
                yield connection
        finally:
            await connection.close()


def mark(uid: str, **more: int) -> str:
    """The COMMENT of a database or role of ours: whose it is."""
    return json.dumps({"uid": uid, **more}, separators=(",", ":"))


def read_mark(comment: str | None) -> dict[str, Any]:
    """What a COMMENT says; empty when there is none, or it is not one of ours."""
    try:
        found = json.loads(comment or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def require_owner(conn: psycopg.AsyncConnection, tenant_id: str, *, uid: str) -> bool:
    """Whether the tenant's database is there: read live, before every change. An unmarked one is half-done.

    Raises:
        OwnedByOther: it carries another UID.
    """
    exists, owner = await owner_uid(conn, tenant_id)
    if owner not in (None, uid):
        raise errors.OwnedByOther(f"database {roles.database(tenant_id)} belongs to another Tenant")
    return exists


async def owner_uid(conn: psycopg.AsyncConnection, tenant_id: str) -> tuple[bool, str | None]:
    """Whether the tenant's database is there, and the UID in its COMMENT."""
    cursor = await conn.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        [roles.database(tenant_id)],
    )
    row = await cursor.fetchone()
    return row is not None, None if row is None else read_mark(row[0]).get("uid")


async def is_half_dropped(conn: psycopg.AsyncConnection, tenant_id: str) -> bool:
    """Whether a drop of the tenant's database was cut short.

    Nobody gets into such a database, and all that it takes is a drop: PostgreSQL ends a session that asks
    for anything else. `pg_database` says -2 then (DATCONNLIMIT_INVALID_DB, PostgreSQL 15.4 and newer).
    """
    query = "SELECT FROM pg_database WHERE datname = %s AND datconnlimit = -2"
    return await (await conn.execute(query, [roles.database(tenant_id)])).fetchone() is not None


async def existing_roles(conn: psycopg.AsyncConnection, tenant_id: str) -> dict[str, dict[str, Any]]:
    """The tenant's roles that exist, with their marks, `enabled` and `limit`."""
    cursor = await conn.execute(
        "SELECT rolname, rolcanlogin, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_roles"
        " WHERE rolname = ANY(%s)",
        [[*roles.all_roles(tenant_id), roles.dynamic_group(tenant_id)]],
    )
    return {
        name: {**read_mark(comment), "enabled": enabled, "limit": limit}
        async for name, enabled, limit, comment in cursor
    }


def statement(text: str, *names: str, **values: str | int) -> sql.Composed:
    """A statement whose `{}` are identifiers and whose `{name}` are literals: DDL takes no parameters."""
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(text).format(*map(sql.Identifier, names), **literals)


def by_maker(tenant_id: str, statements: Iterable[sql.Composed]) -> Sequence[sql.Composed]:
    """These statements about the tenant's roles, executed as their maker; they need a transaction."""
    become, begin_again = (
        statement("SET LOCAL ROLE {}", roles.maker(tenant_id)),
        statement("SET LOCAL ROLE NONE"),
    )
    return [become, *statements, begin_again]


@asynccontextmanager
async def making(conn: psycopg.AsyncConnection, tenant_id: str) -> AsyncIterator[None]:
    """A transaction as the maker of this tenant's roles. Nothing else is the maker's to do."""
    async with conn.transaction():
        await execute(conn, "SET LOCAL ROLE {}", roles.maker(tenant_id))
        yield
        await conn.execute("SET LOCAL ROLE NONE")


def join(conn: psycopg.AsyncConnection, role: str) -> sql.Composed:
    """Make the provisioner a member that acts as the role: its maker says so, and only for a transaction."""
    options = " WITH INHERIT TRUE, SET TRUE" if connect.has_membership_options(conn) else ""
    return statement(f"GRANT {{}} TO SESSION_USER{options}", role)


async def execute(conn: psycopg.AsyncConnection, text: str, *names: str, **values: str | int) -> None:
    """Execute one `statement`."""
    await conn.execute(statement(text, *names, **values))


async def execute_all(conn: psycopg.AsyncConnection, statements: Iterable[sql.Composed]) -> None:
    """Execute them in one round trip; the caller has opened the transaction that they belong to."""
    await conn.execute(sql.SQL(";\n").join(statements))
