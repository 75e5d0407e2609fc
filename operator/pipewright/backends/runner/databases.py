"""Connections to tenants' databases as the runner's login, whose password Vault has.

The password is read when it is first needed and again when the server refuses it (it was rotated). It is held
in this object only, for as long as the tenant is among the recently used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import psycopg

from pipewright import errors, names
from pipewright.ports import Connection, Secret, SecretStore
from pipewright.runner_facts import TenantRef
from pipewright.store import connect, pools, roles

PURPOSE = "runner"
REMEMBERED = 256
"""Tenants whose connection string is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server for tenants' databases listens."""

    host: str
    port: int


class TenantDatabases:
    """One connection at a time to a tenant's database, from the process's pools."""

    def __init__(
        self, connections: pools.Pools, *, secrets: SecretStore, servers: Mapping[str, Address]
    ) -> None:
        """`servers` has the addresses by the servers' names, as the registry uses them."""
        self._connections = connections
        self._secrets = secrets
        self._servers = servers
        self._dsns: OrderedDict[str, Secret] = OrderedDict()

    @asynccontextmanager
    async def connection(self, tenant: TenantRef) -> AsyncIterator[psycopg.AsyncConnection]:
        """An autocommit connection for this block.

        Raises:
            Waiting: Vault has no password for the login yet.
            Unreachable: Vault or the server does not answer.
            Forbidden: the server refuses the login with what Vault has.
        """
        async with AsyncExitStack() as stack:
            yield await self._connect(stack, tenant)

    async def _connect(self, stack: AsyncExitStack, tenant: TenantRef) -> psycopg.AsyncConnection:
        known = self._dsns.get(tenant.id)
        if known is not None:
            try:
                return await self._enter(stack, tenant, known)
            except errors.Forbidden:
                del self._dsns[tenant.id]  # it was rotated
        current, previous = await self._read(tenant)
        try:
            return await self._enter(stack, tenant, current)
        except errors.Forbidden:
            if previous is None:
                raise
        return await self._enter(stack, tenant, previous)  # PostgreSQL is not told of the newest yet

    async def _enter(self, stack: AsyncExitStack, tenant: TenantRef, dsn: Secret) -> psycopg.AsyncConnection:
        connection = self._connections.connection(f"{tenant.id}/{PURPOSE}", dsn)
        entered = await stack.enter_async_context(connection)
        self._dsns[tenant.id] = dsn
        self._dsns.move_to_end(tenant.id)
        if len(self._dsns) > REMEMBERED:
            self._dsns.popitem(last=False)
        return entered

    async def _read(self, tenant: TenantRef) -> tuple[Secret, Secret | None]:
        """The connection string by the password that Vault has now, and by the one before."""
        server = self._servers.get(tenant.server)
        if server is None:
            known = ", ".join(sorted(self._servers))
            raise errors.Stalled(
                "UnknownServer",
                f"the settings know no server {tenant.server} for databases; there is {known}",
            )
        path = names.platform_path(tenant.id)
        version = await self._secrets.version(path) or 0
        passwords = await self._secrets.read(path, version=version) if version else None
        if passwords is None or PURPOSE not in passwords:
            raise errors.Waiting("CredentialsMissing", "there is no password of the runner's login yet")
        before = await self._secrets.read(path, version=version - 1) if version > 1 else None
        place = Connection(
            server=tenant.server, host=server.host, port=server.port, database=roles.database(tenant.id)
        )

        def dsn(password: Secret) -> Secret:
            return connect.tenant_dsn(place, user=roles.login(tenant.id, PURPOSE), password=password)

        return dsn(passwords[PURPOSE]), dsn(before[PURPOSE]) if before and PURPOSE in before else None
