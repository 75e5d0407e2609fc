"""The proof of isolation on PostgreSQL: a tenant's own login at another's database, as clients come."""

from __future__ import annotations

from collections.abc import Mapping

from pipewright import errors
from pipewright.backends.postgres.server import Server
from pipewright.facts import Target
from pipewright.ports import Connection, Secret
from pipewright.store import connect, roles, trouble


class PostgresDoor:
    """`pipewright.ports.DatabaseDoor` on all servers."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self._servers = servers

    async def opens(
        self, tenant_id: str, *, server: str, purpose: str, password: Secret, target: Target
    ) -> bool:
        """Whether the login may connect to the target's database. Nothing is read there.

        Refused is: it may not connect. On another server than its own the login is not known at all, and
        that is refused as a wrong password is.
        """
        user = roles.login(tenant_id, purpose)
        try:
            await self._enter(self._place(server, roles.database(tenant_id)), user, password)
        except errors.Forbidden as refused:
            raise errors.BackendError(f"the tenant's own database is closed: {refused.message}") from None
        elsewhere = () if target.server == server else (trouble.PASSWORD_REFUSED,)
        try:
            await self._enter(self._place(target.server, target.database), user, password)
        except errors.Forbidden as refused:
            if refused.message.endswith((trouble.CONNECT_REFUSED, *elsewhere)):
                return False
            raise
        return True

    async def _enter(self, place: Connection, user: str, password: Secret) -> None:
        dsn = connect.tenant_dsn(place, user=user, password=password)
        where = f"server {place.server}, database {place.database}"
        info = connect.conninfo(dsn, application_name="pipewright-proof")
        session = await connect.connect(info, where=where)
        await session.close()

    def _place(self, server: str, database: str) -> Connection:
        found = self._servers.get(server)
        if found is None:
            raise errors.Unreachable(f"server {server} is not in the operator's settings")
        return Connection(server=server, host=found.host, port=found.port, database=database)
