"""Tenants' logins: passwords set and noted with their version, or refused altogether."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import psycopg

from pipewright import errors
from pipewright.backends.postgres import databases
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import Server, execute
from pipewright.ports import LOGINS, Connection, Secret
from pipewright.store import connect, roles, trouble
from pipewright.store import passwords as verifiers

_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND usename = ANY(%s)
"""

_NOTED = ("version", "overlapSince", "refusedAt")
"""What a login's mark may say besides whose it is; `set` begins anew with the version alone."""


class PostgresLogins:
    """`ports.Logins` on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def set(
        self, tenant_id: str, *, passwords: Mapping[str, Secret], version: int, granted: bool = False
    ) -> None:
        """Create the logins that are missing, set the passwords, enable, and note the version on each."""
        async with self._server.provisioner() as conn, conn.transaction(), conn.pipeline():
            exists, uid = await servers.owner_uid(conn, tenant_id)
            if not exists or uid is None:
                raise errors.Conflict(
                    f"database {roles.database(tenant_id)} is not complete; it is created first"
                )
            if not granted:
                for made in await databases.roles_and_grants(conn, tenant_id, uid=uid):
                    await conn.execute(made)
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

    async def begin_overlap(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note on the login since when its successor is in all clients' hands."""
        await self._note(tenant_id, purpose, overlapSince=int(at.timestamp()))

    async def retire(self, tenant_id: str, *, purpose: str, uid: str) -> None:
        """NOLOGIN for one of them, without a password, and end its sessions."""
        role = roles.login(tenant_id, purpose)
        async with self._server.provisioner() as conn:
            await servers.require_owner(conn, tenant_id, uid=uid)
            found = await servers.existing_roles(conn, tenant_id)
            if role not in found:
                return
            if found[role].get("uid", uid) != uid:
                raise errors.OwnedByOther(f"role {role} belongs to another Tenant")
            await execute(conn, "ALTER ROLE {} NOLOGIN PASSWORD NULL", role)
            await _end_sessions(conn, roles.database(tenant_id), [role])

    async def is_refused(self, tenant_id: str, *, purpose: str, password: Secret) -> bool:
        """Whether the server refuses this login with this password, tried as a client would."""
        where = self.connection(tenant_id)
        dsn = connect.tenant_dsn(where, user=roles.login(tenant_id, purpose), password=password)
        try:
            session = await connect.connect(
                connect.conninfo(dsn), where=f"server {where.server}, database {where.database}"
            )
        except errors.Forbidden as refused:
            if refused.message.endswith((trouble.PASSWORD_REFUSED, trouble.LOGIN_DISABLED)):
                return True
            raise  # refused from where we ask, whoever asks: that says nothing about the credential
        await session.close()
        return False

    async def note_refused(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note on the login that its old password was tried and refused."""
        await self._note(tenant_id, purpose, refusedAt=int(at.timestamp()))

    async def _note(self, tenant_id: str, purpose: str, **more: int) -> None:
        role = roles.login(tenant_id, purpose)
        async with self._server.provisioner() as conn, conn.transaction():
            found = (await servers.existing_roles(conn, tenant_id)).get(role)
            if found is None or "uid" not in found:
                raise errors.Conflict(f"role {role} is not there any more, or nobody's")
            kept = {key: found[key] for key in _NOTED if key in found}
            mark = servers.mark(found["uid"], **{**kept, **more})
            await execute(conn, "COMMENT ON ROLE {} IS {mark}", role, mark=mark)

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
