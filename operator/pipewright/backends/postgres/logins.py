"""Tenants' logins: passwords set and noted with their version, or refused altogether."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg

from pipewright import errors
from pipewright.backends.postgres import databases, dynamic
from pipewright.backends.postgres import server as servers
from pipewright.backends.postgres.server import ENDING, SUSPENDED, Server, execute, making
from pipewright.facts import TENANT_LOGINS
from pipewright.ports import LOGINS, Connection, Secret
from pipewright.store import connect, roles, trouble
from pipewright.store import passwords as verifiers

_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND usename = ANY(%s)
"""

_NOTED = ("version", "overlapSince", "refusedAt", "suspended")
"""What a login's mark may say besides whose it is; `set` begins anew with the version."""


class PostgresLogins:
    """`ports.Logins` on one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def set(
        self,
        tenant_id: str,
        *,
        passwords: Mapping[str, Secret],
        version: int,
        granted: bool = False,
        suspended: bool = False,
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
            async with making(conn, tenant_id):
                for purpose, password in passwords.items():
                    role = roles.login(tenant_id, purpose)
                    verifier = verifiers.verifier(conn, user=role, password=password.reveal())
                    shut = suspended and purpose in TENANT_LOGINS
                    login = "NOLOGIN" if shut else "LOGIN"
                    text = f"ALTER ROLE {{}} {login} PASSWORD {{verifier}}"
                    await execute(conn, text, role, verifier=verifier)
                    # sessions may be there from before: `suspend` ends them, and then says so
                    noted = {"version": version, **({"suspended": ENDING} if shut else {})}
                    await execute(conn, "COMMENT ON ROLE {} IS {mark}", role, mark=servers.mark(uid, **noted))

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for all of them, and end their sessions. Without a database there is nothing to disable."""
        async with self._server.provisioner() as conn:
            await servers.require_owner(conn, tenant_id, uid=uid)
            found = await servers.existing_roles(conn, tenant_id)
            logins = [login for login in self._names(tenant_id) if login in found]
            if any(found[login].get("uid", uid) != uid for login in logins):
                raise errors.OwnedByOther(f"roles of {roles.database(tenant_id)} belong to another Tenant")
            async with making(conn, tenant_id):
                for login in logins:
                    await execute(conn, "ALTER ROLE {} NOLOGIN", login)
                    if "suspended" in found[login]:  # no resume lets it in any more
                        await _remark(conn, login, found[login], suspended=None)
            lent = await dynamic.close_to(conn, tenant_id)
            await _end_sessions(conn, roles.database(tenant_id), [*logins, *lent])

    async def suspend(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for the tenant's own; that it is so is noted when their sessions have ended, too."""
        async with self._server.provisioner() as conn:
            found = await self._tenants_own(conn, tenant_id, uid=uid)
            shut = {
                name: role
                for name, role in found.items()
                if role["enabled"] or role.get("suspended") == ENDING
            }
            async with making(conn, tenant_id):
                for name, role in shut.items():
                    await execute(conn, "ALTER ROLE {} NOLOGIN", name)
                    await _remark(conn, name, role, suspended=ENDING)
            lent = await dynamic.close_to(conn, tenant_id)
            await _end_sessions(conn, roles.database(tenant_id), [*found, *lent])
            async with making(conn, tenant_id):
                for name, role in shut.items():
                    await _remark(conn, name, role, suspended=SUSPENDED)

    async def resume(self, tenant_id: str, *, uid: str) -> None:
        """LOGIN for those that are noted as shut out with the tenant; the passwords were never touched."""
        async with self._server.provisioner() as conn, making(conn, tenant_id):
            for name, role in (await self._tenants_own(conn, tenant_id, uid=uid)).items():
                if "suspended" in role:
                    await execute(conn, "ALTER ROLE {} LOGIN", name)
                    await _remark(conn, name, role, suspended=None)

    async def _tenants_own(
        self, conn: psycopg.AsyncConnection, tenant_id: str, *, uid: str
    ) -> dict[str, dict[str, Any]]:
        """The roles that the tenant itself logs in with, and their marks; all of them this Tenant's."""
        await servers.require_owner(conn, tenant_id, uid=uid)
        wanted = {roles.login(tenant_id, purpose) for purpose in TENANT_LOGINS}
        existing = await servers.existing_roles(conn, tenant_id)
        found = {name: {"uid": uid, **role} for name, role in existing.items() if name in wanted}
        if any(role["uid"] != uid for role in found.values()):
            raise errors.OwnedByOther(f"roles of {roles.database(tenant_id)} belong to another Tenant")
        return found

    async def open_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Make the group of the logins that Vault makes, and let it connect."""
        async with self._server.provisioner() as conn:
            if not await servers.require_owner(conn, tenant_id, uid=uid):
                raise errors.Conflict(f"database {roles.database(tenant_id)} is not there any more")
            await dynamic.open_to(conn, tenant_id, uid=uid)

    async def close_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Let the group connect no more, and end its sessions."""
        async with self._server.provisioner() as conn:
            await servers.require_owner(conn, tenant_id, uid=uid)
            lent = await dynamic.close_to(conn, tenant_id)
            await _end_sessions(conn, roles.database(tenant_id), list(lent))

    async def drop_ended(self, tenant_id: str, *, uid: str) -> None:
        """Drop those that Vault locked and could not drop."""
        async with self._server.provisioner() as conn:
            await servers.require_owner(conn, tenant_id, uid=uid)
        await dynamic.drop_ended(self._server, tenant_id)

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
            async with making(conn, tenant_id):
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
        """Note on the login that its old password was tried and refused; no resume lets it in again."""
        await self._note(tenant_id, purpose, refusedAt=int(at.timestamp()), suspended=None)

    async def _note(self, tenant_id: str, purpose: str, **more: int | None) -> None:
        role = roles.login(tenant_id, purpose)
        async with self._server.provisioner() as conn, making(conn, tenant_id):
            found = (await servers.existing_roles(conn, tenant_id)).get(role)
            if found is None or "uid" not in found:
                raise errors.Conflict(f"role {role} is not there any more, or nobody's")
            await _remark(conn, role, found, **more)

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


async def _remark(
    conn: psycopg.AsyncConnection, name: str, role: Mapping[str, Any], **changes: int | None
) -> None:
    """Write a role's mark anew with these changes; None takes a note away."""
    noted = {key: role[key] for key in _NOTED if key in role} | changes
    mark = servers.mark(role["uid"], **{key: value for key, value in noted.items() if value is not None})
    await execute(conn, "COMMENT ON ROLE {} IS {mark}", name, mark=mark)


async def _end_sessions(conn: psycopg.AsyncConnection, database: str, logins: list[str]) -> None:
    """End sessions until there are none: one that was logging in during a pass shows in the next."""
    for _ in range(50):
        row = await (await conn.execute(_SESSIONS, [database, logins])).fetchone()
        if row == (0,):
            return
        await conn.execute("SELECT pg_sleep(0.02)")
    raise errors.Unreachable(f"PostgreSQL, database {database}: sessions do not end; they are tried again")
