"""Tenants' databases: cloned from the template, closed to everybody else, migrated, dropped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql

from pipewright import errors
from pipewright.backends.postgres import dynamic, extensions
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import (
    ENDING,
    SUSPENDED,
    Server,
    by_maker,
    execute,
    execute_all,
    making,
    statement,
)
from pipewright.facts import LOGINS, TENANT_LOGINS, Database, Expired, Login
from pipewright.store import connect, retention, roles, schema, trouble

_FIND = """
SELECT shobj_description(oid, 'pg_database'), datallowconn,
    NOT has_database_privilege('public', oid, 'CONNECT, TEMPORARY')
FROM pg_database WHERE datname = %s
"""
FRESH = timedelta(seconds=30)
"""So long the next look believes what `create` saw inside."""
_SUSPENSIONS: Mapping[Any, Literal["Ending", "Suspended"]] = {ENDING: "Ending", SUSPENDED: "Suspended"}


class PostgresDatabases:
    """`ports.Databases` on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen: dict[str, _Inside] = {}
        """By tenant id, what `create` saw a moment ago; the next `find` needs no session of its own."""

    async def find(self, tenant_id: str) -> Database | None:
        """What the server has for this tenant. The schema's version is read inside, as the migrator."""
        seen = self._seen.pop(tenant_id, None)
        name = roles.database(tenant_id)
        async with self._server.provisioner() as conn:
            row = await (await conn.execute(_FIND, [name])).fetchone()
            if row is None:
                return None
            found = await servers.existing_roles(conn, tenant_id)
            lent = roles.dynamic_group(tenant_id) in found
            dynamic_logins = await dynamic.find(conn, tenant_id) if lent else None
        comment, open_to_connections, closed = row
        uid = servers.read_mark(comment).get("uid")
        inside = _Inside(version=None, extensions=frozenset())
        if open_to_connections and uid:
            inside = seen if seen and seen.is_fresh() else await self._inside(name)
        return Database(
            name=name,
            owner_uid=uid,
            connection_limit=_limit(found, tenant_id),
            schema_version=inside.version,
            current=inside.version == schema.head("tenant"),
            closed_to_public=closed,
            extensions=inside.extensions,
            logins={
                purpose: Login(
                    enabled=role["enabled"],
                    version=role.get("version"),
                    overlap_since=_instant(role.get("overlapSince")),
                    refused_at=_instant(role.get("refusedAt")),
                    suspension=_SUSPENSIONS.get(role.get("suspended")),
                )
                for purpose in LOGINS
                if (role := found.get(roles.login(tenant_id, purpose)))
            },
            dynamic=dynamic_logins,
        )

    async def create(self, tenant_id: str, *, uid: str, connection_limit: int) -> None:
        """Clone from the template and hand over; each step looks first, so a half-done one is finished.

        Nobody can connect before the database is closed to PUBLIC, and the mark comes last: a database
        without one is half-done.
        """
        name = roles.database(tenant_id)
        async with self._server.provisioner() as conn:
            if not await servers.require_owner(conn, tenant_id, uid=uid):
                await _clone(conn, name)
            async with conn.transaction():
                limits = _limits(tenant_id, connection_limit)
                await execute_all(conn, await roles_and_grants(conn, tenant_id, uid=uid, also=limits))
            await execute(conn, "ALTER DATABASE {} ALLOW_CONNECTIONS true", name)
            async with self._server.provisioner(name) as inside:
                await _hand_over(inside, tenant_id)
                seen = await _look(inside)
            await execute(conn, "COMMENT ON DATABASE {} IS {mark}", name, mark=servers.mark(uid))
        if seen is not None:
            self._seen[tenant_id] = seen

    async def hand_over(self, tenant_id: str, *, uid: str, previous: Collection[str]) -> None:
        """Mark database and roles with this UID, all or none; nothing else of them changes."""
        allowed = (None, uid, *previous)
        async with self._server.provisioner() as conn, conn.transaction():
            exists, owner = await servers.owner_uid(conn, tenant_id)
            found = await servers.existing_roles(conn, tenant_id)
            if owner not in allowed or any(role.get("uid") not in allowed for role in found.values()):
                raise errors.OwnedByOther(f"database {roles.database(tenant_id)} belongs to another Tenant")
            async with making(conn, tenant_id):
                for name, role in found.items():
                    rest = {key: role[key] for key in role if key not in ("uid", "enabled", "limit")}
                    await execute(conn, "COMMENT ON ROLE {} IS {mark}", name, mark=servers.mark(uid, **rest))
            if exists and owner is not None:  # one without a mark is half-done, and finished by `create`
                name = roles.database(tenant_id)
                await execute(conn, "COMMENT ON DATABASE {} IS {mark}", name, mark=servers.mark(uid))

    async def size(self, tenant_id: str) -> int | None:
        """How many bytes the database takes; None when there is none."""
        async with self._server.provisioner() as conn:
            query = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s"
            row = await (await conn.execute(query, [roles.database(tenant_id)])).fetchone()
        return row[0] if row else None

    async def limit_connections(self, tenant_id: str, *, connection_limit: int) -> None:
        """Set CONNECTION LIMIT of each of the tenant's own logins."""
        async with self._server.provisioner() as conn, conn.transaction():
            await execute_all(conn, by_maker(tenant_id, _limits(tenant_id, connection_limit)))

    async def migrate(self, tenant_id: str) -> None:
        """Upgrade the schema `pipewright` to this release's version, as the migrator."""
        dsn, name = self._server.migrator_dsn, roles.database(tenant_id)
        self._seen.pop(tenant_id, None)
        await asyncio.to_thread(schema.upgrade, "tenant", dsn, database=name)

    async def expire_history(
        self, tenant_id: str, *, events_before: datetime, runs_before: datetime
    ) -> Expired:
        """Delete history that is older, as the migrator, who acts as the owner and reads no row of it."""
        name = roles.database(tenant_id)
        where = f"server {self._server.name}, database {name}"
        info = schema.migrator(self._server.migrator_dsn, database=name)
        connection = await connect.connect(info, where=where)
        try:
            with trouble.translated(where):
                return await retention.expire(
                    connection, events_before=events_before, runs_before=runs_before
                )
        finally:
            await connection.close()

    async def create_extension(self, tenant_id: str, *, name: str) -> None:
        """Create a trusted extension in the schema `extensions`, as the migrator."""
        self._seen.pop(tenant_id, None)
        await extensions.create(self._server, tenant_id, name)

    async def drop(self, tenant_id: str, *, uid: str) -> None:
        """Drop database and roles after reading the owner live; what is gone already counts as done."""
        name = roles.database(tenant_id)
        self._seen.pop(tenant_id, None)
        async with self._server.provisioner() as conn:
            if await servers.require_owner(conn, tenant_id, uid=uid):
                if not await servers.is_half_dropped(conn, tenant_id):
                    await execute(conn, "ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
                await execute(conn, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
            found = await servers.existing_roles(conn, tenant_id)
            async with making(conn, tenant_id):
                if found.get(roles.dynamic_group(tenant_id), {}).get("uid") == uid:
                    await dynamic.drop_all(conn, tenant_id)
                for role in roles.all_roles(tenant_id):
                    if role in found and found[role].get("uid", uid) == uid:
                        await execute(conn, "DROP ROLE IF EXISTS {}", role)

    async def _inside(self, name: str) -> _Inside:
        where = f"server {self._server.name}, database {name}"
        info = schema.migrator(self._server.migrator_dsn, database=name)
        connection = await connect.connect(info, where=where)
        try:
            with trouble.translated(where):
                return await _read(connection)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inside:
    """What only a session in the database can see."""

    version: str | None
    extensions: frozenset[str]
    at: float = field(default_factory=time.monotonic)

    def is_fresh(self) -> bool:
        return time.monotonic() - self.at < FRESH.total_seconds()


async def _read(inside: psycopg.AsyncConnection) -> _Inside:
    return _Inside(version=await schema.version(inside), extensions=await extensions.installed(inside))


async def _look(inside: psycopg.AsyncConnection) -> _Inside | None:
    """The same as the provisioner; None in a clone of an older release's template, which is shut to it."""
    try:
        return await _read(inside)
    except psycopg.errors.InsufficientPrivilege:
        return None


def _instant(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)


def _limits(tenant_id: str, limit: int) -> Iterable[sql.Composed]:
    # per login, not per database: a tenant that uses its share up must not lock out ingest and runner
    for purpose in TENANT_LOGINS:
        yield statement(f"ALTER ROLE {{}} CONNECTION LIMIT {limit:d}", roles.login(tenant_id, purpose))


def _limit(found: Mapping[str, Mapping[str, Any]], tenant_id: str) -> int:
    """The limit that the tenant's logins share; 0, which no spec asks for, when they differ."""
    limits = {found.get(roles.login(tenant_id, purpose), {}).get("limit") for purpose in TENANT_LOGINS}
    return limits.pop() or 0 if len(limits) == 1 else 0


async def _clone(conn: psycopg.AsyncConnection, name: str) -> None:
    # WAL_LOG: the template is small, and FILE_COPY forces two checkpoints.
    statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG ALLOW_CONNECTIONS false"
    # Another process may be first: what is missing then is added by the steps that follow.
    with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        await execute(conn, statement, name, roles.TEMPLATE)


async def roles_and_grants(
    conn: psycopg.AsyncConnection, tenant_id: str, *, uid: str, also: Iterable[sql.Composed] = ()
) -> Sequence[sql.Composed]:
    """Statements for the owner of `app`, for the logins, disabled until they have passwords, and for CONNECT.

    `also` is more for the maker to do: to become one costs a look at all that makers ever made.

    Raises:
        OwnedByOther: a role carries another UID.
    """
    found = await servers.existing_roles(conn, tenant_id)
    for role in roles.all_roles(tenant_id):
        if role in found and found[role].get("uid", uid) != uid:
            raise errors.OwnedByOther(f"role {role} belongs to another Tenant")
    made = (*_roles(tenant_id, found, uid=uid), *_memberships(tenant_id), *_settings(tenant_id), *also)
    return [*by_maker(tenant_id, made), *_open_to_tenant(tenant_id)]


def _roles(tenant_id: str, found: Mapping[str, Mapping[str, Any]], *, uid: str) -> Iterable[sql.Composed]:
    for role in roles.all_roles(tenant_id):
        if role not in found:
            # NOINHERIT: an `app` login can only act as the owner, so all that it makes is the owner's.
            inherit = "NOINHERIT" if role in _app_logins(tenant_id) else "INHERIT"
            yield statement(f"CREATE ROLE {{}} NOLOGIN {inherit}", role)
    for role in roles.all_roles(tenant_id):
        if "uid" not in found.get(role, {}):
            yield statement("COMMENT ON ROLE {} IS {mark}", role, mark=servers.mark(uid))


def _memberships(tenant_id: str) -> Iterable[sql.Composed]:
    owner = roles.app_owner(tenant_id)
    yield statement("GRANT {} TO {}, {}", owner, *_app_logins(tenant_id))
    for purpose, group in roles.MEMBERSHIP.items():
        yield statement("GRANT {} TO {}", group, roles.login(tenant_id, purpose))
    yield statement("GRANT {} TO {}", roles.READER, owner)


def _settings(tenant_id: str) -> Iterable[sql.Composed]:
    owner = roles.app_owner(tenant_id)
    for role in _app_logins(tenant_id):
        yield statement("ALTER ROLE {} SET role = {owner}", role, owner=owner)
        yield statement("ALTER ROLE {} SET search_path = app, history, extensions", role)
    readonly = roles.login(tenant_id, "readonly")
    yield statement("ALTER ROLE {} SET search_path = history, app, extensions", readonly)
    for purpose in ("ingest", "runner"):
        yield statement("ALTER ROLE {} SET search_path = pg_catalog", roles.login(tenant_id, purpose))


def _open_to_tenant(tenant_id: str) -> Iterable[sql.Composed]:
    """CONNECT for this tenant's logins and the migrator; temporary tables for who needs them."""
    name = roles.database(tenant_id)
    yield statement("REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
    # had for the time that an extension takes to be made, and left behind by a crash
    yield statement("REVOKE CREATE ON DATABASE {} FROM {}", name, roles.OWNER)
    for role in (*(roles.login(tenant_id, purpose) for purpose in LOGINS), roles.MIGRATOR):
        yield statement("GRANT CONNECT ON DATABASE {} TO {}", name, role)
    for role in (roles.app_owner(tenant_id), roles.login(tenant_id, "ingest")):
        yield statement("GRANT TEMPORARY ON DATABASE {} TO {}", name, role)


async def _hand_over(inside: psycopg.AsyncConnection, tenant_id: str) -> None:
    """Make the schema `app` for its owner. Only a member can: the provisioner is one in this transaction."""
    owner, readonly = roles.app_owner(tenant_id), roles.login(tenant_id, "readonly")
    readable = "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {}"
    steps = (
        *by_maker(tenant_id, [servers.join(inside, owner)]),
        statement("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", roles.APP, owner),
        statement("GRANT USAGE ON SCHEMA {} TO {}", roles.APP, readonly),
        statement(readable, owner, roles.APP, readonly),
        *by_maker(tenant_id, [statement("REVOKE {} FROM SESSION_USER", owner)]),
    )
    async with inside.transaction():
        await execute_all(inside, steps)


def _app_logins(tenant_id: str) -> tuple[str, str]:
    return roles.login(tenant_id, "app_a"), roles.login(tenant_id, "app_b")
