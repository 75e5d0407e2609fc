"""Connections to tenants' databases as the runner's login, whose password Vault has.

The password is read when it is first needed and again when the server refuses it (it was rotated). It is held
in this object only, for as long as the tenant is among the recently used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
            Forbidden: the server refuses the login; the password is read anew next time.
        """
        dsn = await self._dsn(tenant)
        try:
            async with self._connections.connection(f"{tenant.id}/{PURPOSE}", dsn) as conn:
                yield conn
        except errors.Forbidden:
            self._dsns.pop(tenant.id, None)
            raise

    async def _dsn(self, tenant: TenantRef) -> Secret:
        found = self._dsns.get(tenant.id)
        if found is None:
            found = await self._read(tenant)
            self._dsns[tenant.id] = found
            if len(self._dsns) > REMEMBERED:
                self._dsns.popitem(last=False)
        self._dsns.move_to_end(tenant.id)
        return found

    async def _read(self, tenant: TenantRef) -> Secret:
        server = self._servers.get(tenant.server)
        if server is None:
            known = ", ".join(sorted(self._servers))
            raise errors.Stalled(
                "UnknownServer",
                f"the settings know no server {tenant.server} for databases; there is {known}",
            )
        passwords = await self._secrets.read(names.platform_path(tenant.id))
        if passwords is None or PURPOSE not in passwords:
            raise errors.Waiting("CredentialsMissing", "Vault has no password of the runner's login yet")
        place = Connection(
            server=tenant.server, host=server.host, port=server.port, database=roles.database(tenant.id)
        )
        return connect.tenant_dsn(place, user=roles.login(tenant.id, PURPOSE), password=passwords[PURPOSE])
