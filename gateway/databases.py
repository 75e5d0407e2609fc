"""The tenants' databases as the gateway reaches them: by id, with what is sealed for it, pooled for each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date

import psycopg

from gateway import problems
from gateway.directory import GONE, Directory
from gateway.keys import Access, Keys
from pipewright import errors
from pipewright.runner_facts import ACTIVE, SUSPENDED
from pipewright.store import arrivals, pools
from pipewright.store.records import Tenant

AWAY = 3.0
"""So many seconds after a database did not answer no delivery waits for it: what waits holds its lane."""

DAY_KNOWN = 60.0
"""So many seconds a day's partition is believed to be there: retention drops old ones."""


class Databases:
    """Finds a tenant's database and opens connections to it."""

    def __init__(
        self,
        *,
        connections: pools.Pools,
        directory: Directory,
        keys: Keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._users: list[Callable[[str], None]] = []
        self._away: dict[str, float] = {}
        """Tenant's id → until when its database is not expected to answer."""
        self._days: dict[tuple[str, date], float] = {}
        """Tenant's id and day → until when its partition is believed to be there."""

    def tenants(self) -> Iterable[str]:
        """Ids of all tenants whose databases are in use."""
        found = self._directory.view.tenants.values() if self._directory.loaded else ()
        return [tenant.id for tenant in found if tenant.state == ACTIVE and tenant.bundle is not None]

    def suspended(self, tenant_id: str) -> bool:
        """Whether nothing is to be begun for the tenant now."""
        tenant = self._directory.view.tenants.get(tenant_id)
        return tenant is not None and tenant.state == SUSPENDED

    def access(self, tenant_id: str) -> Access:
        """How to reach the tenant's database, and its data key.

        Raises:
            Problem: 404, the tenant is gone; 503, it is on its way.
            BackendError: what is sealed for us does not open.
        """
        return self._keys.access(serving(self._directory.view.tenants.get(tenant_id)))

    def bound(self, tenant_id: str, namespace: str) -> bool:
        """Whether the namespace is the tenant's now: a name may have passed to another since."""
        return list(self._directory.view.namespaces.get(namespace, ())) == [tenant_id]

    def on_use(self, told: Callable[[str], None]) -> None:
        """Call this with the tenant's id after each transaction that was committed."""
        self._users.append(told)

    @asynccontextmanager
    async def transaction(self, tenant_id: str) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection to the tenant's database, within a transaction.

        Raises:
            Problem, BackendError: as `access` says, and when the database does not answer within two seconds.
        """
        async with self.upkeep(tenant_id) as conn:
            yield conn
        self._tell(tenant_id)

    @asynccontextmanager
    async def pipeline(self, tenant_id: str) -> AsyncIterator[psycopg.AsyncConnection]:
        """The same, where statements go out together as far as nobody needs the answer of one for the next.

        BEGIN goes out with the first of them, and COMMIT with the last: it is done when this block is left.

        Raises:
            Problem, BackendError: as `transaction` says.
        """
        async with AsyncExitStack() as stack:
            conn = await self._reach(stack, tenant_id, self.access(tenant_id))
            await stack.enter_async_context(conn.pipeline())
            await stack.enter_async_context(conn.transaction())
            yield conn
        self._tell(tenant_id)

    async def ensure_days(self, tenant_id: str, days: Iterable[date]) -> None:
        """Make the partitions for the raw bodies of these days; those that were there a moment ago are.

        Raises:
            Problem, BackendError: as `transaction` says.
        """
        now = self._clock()
        if missing := {day for day in days if self._days.get((tenant_id, day), 0.0) < now}:
            async with self.upkeep(tenant_id) as conn:
                for day in sorted(missing):
                    await arrivals.ensure_partition(conn, day)
            self._days = {known: until for known, until in self._days.items() if until > now}
            self._days |= {(tenant_id, day): now + DAY_KNOWN for day in missing}

    def _tell(self, tenant_id: str) -> None:
        for told in self._users:
            told(tenant_id)

    @asynccontextmanager
    async def upkeep(self, tenant_id: str) -> AsyncIterator[psycopg.AsyncConnection]:
        """The same for work that follows from the others' transactions: nobody is told of it.

        Raises:
            Problem, BackendError: as `transaction` says.
        """
        async with AsyncExitStack() as stack:
            conn = await self._reach(stack, tenant_id, self.access(tenant_id))
            await stack.enter_async_context(conn.transaction())
            yield conn

    def expect(self, tenant_id: str) -> None:
        """Return unless the database has just not answered somebody: for who can do without it for now.

        Raises:
            Unreachable: it has.
        """
        if self._clock() < self._away.get(tenant_id, 0.0):
            raise errors.Unreachable("the tenant's database did not answer a moment ago")

    async def _reach(self, stack: AsyncExitStack, tenant_id: str, access: Access) -> psycopg.AsyncConnection:
        try:
            found = await self._connect(stack, tenant_id, access)
        except pools.AllBusy:
            raise  # that says nothing about the database
        except errors.Unreachable:
            self._away[tenant_id] = self._clock() + AWAY
            raise
        self._away.pop(tenant_id, None)
        return found

    async def _connect(
        self, stack: AsyncExitStack, tenant_id: str, access: Access
    ) -> psycopg.AsyncConnection:
        """By the password of now, or while a rotation is on its way by the one before."""
        try:
            return await stack.enter_async_context(self._connections.connection(tenant_id, access.dsn))
        except errors.Forbidden:
            if access.previous_dsn is None:
                raise
        before = self._connections.connection(f"{tenant_id}/before", access.previous_dsn)
        return await stack.enter_async_context(before)


def serving(tenant: Tenant | None) -> Tenant:
    """The tenant, if it is served. One that is suspended is: what it has can be read, its hooks are kept.

    Raises:
        Problem: 404, it is gone; 503, it is on its way.
    """
    if tenant is None or tenant.state in GONE:
        raise problems.not_found("there is nothing here")
    if tenant.state not in (ACTIVE, SUSPENDED) or tenant.bundle is None:
        raise problems.unavailable("TenantNotActive", "the tenant is still being set up; try again later")
    return tenant
