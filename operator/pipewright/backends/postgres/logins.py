"""Tenants' logins: passwords set and noted with their version, or refused altogether."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from pipewright import errors
from pipewright.backends.postgres import databases
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import Server, execute
from pipewright.ports import LOGINS, Connection, Secret
from pipewright.store import passwords as verifiers
from pipewright.store import roles

_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND usename = ANY(%s)
"""


class PostgresLogins:
    """`ports.Logins` on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def set(self, tenant_id: str, *, passwords: Mapping[str, Secret], version: int) -> None:
        """Create the logins that are missing, set the passwords, enable, and note the version on each."""
        async with self._server.provisioner() as conn, conn.transaction(), conn.pipeline():
            exists, uid = await servers.owner_uid(conn, tenant_id)
            if not exists or uid is None:
                raise errors.Conflict(
                    f"database {roles.database(tenant_id)} is not complete; it is created first"
                )
            await databases.make_roles(conn, tenant_id, uid=uid)
            await databases.open_to_tenant(conn, tenant_id)
            for purpose, password in passwords.items():
                role = roles.login(tenant_id, purpose)
                verifier = verifiers.verifier(conn, user=role, password=password.reveal())
                await execute(conn, "ALTER ROLE {} LOGIN PASSWORD {verifier}", role, verifier=verifier)
                await execute(
                    conn, "COMMENT ON ROLE {} IS {mark}", role, mark=servers.mark(uid, version=version)
                )

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for all of them, and end their sessions. Without a database there is nothing to disable."""
        async with self._server.provisioner() as conn:
            await servers.require_owner(conn, tenant_id, uid=uid)
            found = await servers.existing_roles(conn, tenant_id)
            logins = [login for login in self._names(tenant_id) if login in found]
            if any(found[login].get("uid", uid) != uid for login in logins):
                raise errors.OwnedByOther(f"roles of {roles.database(tenant_id)} belong to another Tenant")
            for login in logins:
                await execute(conn, "ALTER ROLE {} NOLOGIN", login)
            await _end_sessions(conn, roles.database(tenant_id), logins)

    def connection(self, tenant_id: str) -> Connection:
        """Where clients find the tenant's database."""
        return Connection(
            server=self._server.name,
            host=self._server.host,
            port=self._server.port,
            database=roles.database(tenant_id),
        )

    def username(self, tenant_id: str, purpose: str) -> str:
        """The role's name for a purpose of `LOGINS`."""
        return roles.login(tenant_id, purpose)

    def _names(self, tenant_id: str) -> list[str]:
        return [roles.login(tenant_id, purpose) for purpose in LOGINS]


async def _end_sessions(conn: psycopg.AsyncConnection, database: str, logins: list[str]) -> None:
    """End sessions until there are none: one that was logging in during a pass shows in the next."""
    for _ in range(50):
        row = await (await conn.execute(_SESSIONS, [database, logins])).fetchone()
        if row == (0,):
            return
        await conn.execute("SELECT pg_sleep(0.02)")
    raise errors.Unreachable(f"PostgreSQL, database {database}: sessions do not end; they are tried again")
