"""Connections to many databases from one process: a few idle ones for each, a bound on all of them.

A tenant must not starve another, a dead server must not hold a request: so there is a limit for each database
and one for the process, the least recently used databases lose their idle connections first, only a few
connections are being opened to a server at a time, and whoever gets none within two seconds gets
`errors.Unreachable`. psycopg_pool would cost background tasks for
every tenant and lets callers wait while it reconnects to a server that refuses at once.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import pq

from pipewright import errors
from pipewright.ports import Secret
from pipewright.store import connect, trouble


class AllBusy(errors.Unreachable):
    """No connection came free in time; whether the server would answer is not known."""


@dataclass(slots=True)
class _Database:
    """One database's connections."""

    dsn: Secret
    info: str = field(repr=False)
    where: str
    server: str
    """Host and port."""
    idle: deque[tuple[psycopg.AsyncConnection, float]] = field(default_factory=deque)
    """Youngest last, with the time since when it rests."""
    busy: int = 0
    timer: asyncio.TimerHandle | None = None
    """Rings when the oldest idle connection has rested long enough."""


class Pools:
    """Pools by key (a tenant's id and purpose, or any name), each to one connection string.

    Args:
        max_databases: how many databases may have idle connections.
        per_database: connections to one database.
        max_connections: connections of the process, idle ones included.
        max_opening: connections that are being opened to one server, all its databases together: while it is
            silent, those who wait for it must not hold what others need.
        on_full: called each time that a server has no connection left for us.
        idle_seconds: an idle connection is closed after this long.
        application: the application_name that the server shows.
    """

    def __init__(
        self,
        *,
        max_databases: int = 64,
        per_database: int = 4,
        max_connections: int = 128,
        max_opening: int = 16,
        idle_seconds: float = 60.0,
        application: str = "pipewright",
        on_full: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_databases = max_databases
        self._per_database = per_database
        self._max_connections = max_connections
        self._max_opening = max_opening
        self._idle_seconds = idle_seconds
        self._application = application
        self._on_full = on_full
        self._clock = clock
        self._databases: OrderedDict[str, _Database] = OrderedDict()
        self._open = 0
        self._opening: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections that this process holds now, idle ones included."""
        return self._open

    @property
    def max_connections(self) -> int:
        """Connections that this process may hold."""
        return self._max_connections

    @property
    def idle_databases(self) -> int:
        """Databases with at least one idle connection."""
        return sum(1 for database in self._databases.values() if database.idle)

    @asynccontextmanager
    async def connection(self, key: str, dsn: str | Secret) -> AsyncIterator[psycopg.AsyncConnection]:
        """An autocommit connection for this block; open a transaction with `conn.transaction()`.

        A changed `dsn` (a rotated password) replaces the key's pool. psycopg's exceptions leave the block as
        `pipewright.errors`.

        Raises:
            Unreachable: no connection within two seconds (`AllBusy`: all are in use), or it broke.
            Forbidden, Conflict, BackendError: as `trouble.translate` says.
        """
        database = self._database(key, dsn)
        connection = await self._take(database)
        try:
            with trouble.translated(database.where):
                yield connection
        finally:
            await self._give(database, connection, current=self._databases.get(key) is database)

    async def close(self) -> None:
        """Close what is idle, and from now on whatever comes back."""
        self._closed = True
        for database in self._databases.values():
            self._abandon(database)
            if database.timer is not None:
                database.timer.cancel()
        self._databases.clear()

    # --- taking -------------------------------------------------------------------------------------------

    def _database(self, key: str, dsn: str | Secret) -> _Database:
        if self._closed:
            raise errors.Unreachable("PostgreSQL: this process is shutting down")
        secret = dsn if isinstance(dsn, Secret) else Secret(dsn)
        found = self._databases.get(key)
        if found is None or found.dsn != secret:
            if found is not None:
                self._abandon(found)
            info = connect.conninfo(secret, application_name=self._application)
            found = _Database(
                dsn=secret, info=info, where=connect.place(secret), server=connect.server(secret)
            )
            self._databases[key] = found
        self._databases.move_to_end(key)
        return found

    async def _take(self, database: _Database) -> psycopg.AsyncConnection:
        """An idle connection that still lives, else a new one, else wait for somebody else's."""
        try:
            async with asyncio.timeout(connect.CONNECT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._may_take(database))
                connection = self._pop(database)
                database.busy += 1
                if connection is None:
                    self._open += 1
                    self._opening[database.server] += 1
        except TimeoutError:
            raise AllBusy(
                f"PostgreSQL, {database.where}: all of this process's connections are busy"
            ) from None
        if connection is not None:
            return connection
        try:
            made = await connect.connect(database.info, where=database.where)
        except BaseException as error:
            self._opened(database)
            await self._gone(database)
            if isinstance(error, trouble.Full):
                self._on_full()
            raise
        self._opened(database)
        async with self._changed:
            self._changed.notify_all()
        return made

    def _opened(self, database: _Database) -> None:
        self._opening[database.server] -= 1
        if not self._opening[database.server]:
            del self._opening[database.server]

    def _may_take(self, database: _Database) -> bool:
        if database.busy >= self._per_database:
            return False
        if database.idle:
            return True
        if self._opening[database.server] >= self._max_opening:
            return False
        return self._open < self._max_connections or self._evict_one()

    def _pop(self, database: _Database) -> psycopg.AsyncConnection | None:
        while database.idle:
            connection, _ = database.idle.pop()
            if _lives(connection):
                return connection
            self._open -= 1
            _finish(connection)
        return None

    # --- giving back --------------------------------------------------------------------------------------

    async def _give(self, database: _Database, connection: psycopg.AsyncConnection, *, current: bool) -> None:
        clean = connection.info.transaction_status is pq.TransactionStatus.IDLE and not connection.closed
        if self._closed or not current or not clean:
            _finish(connection)
            await self._gone(database)
            return
        async with self._changed:
            database.busy -= 1
            database.idle.append((connection, self._clock()))
            self._trim()
            self._changed.notify_all()
        self._set_timer(database)

    async def _gone(self, database: _Database) -> None:
        async with self._changed:
            database.busy -= 1
            self._open -= 1
            self._changed.notify_all()

    def _set_timer(self, database: _Database) -> None:
        if database.timer is None and database.idle:
            rest = database.idle[0][1] + self._idle_seconds - self._clock()
            loop = asyncio.get_running_loop()
            database.timer = loop.call_later(max(rest, 0.001), self._expire, database)

    def _expire(self, database: _Database) -> None:
        database.timer = None
        before = self._clock() - self._idle_seconds
        while database.idle and database.idle[0][1] <= before:
            self._close_oldest(database)
        self._set_timer(database)

    def _trim(self) -> None:
        """Close what idles in the least recently used databases beyond the limit; forget the empty ones."""
        resting = [database for database in self._databases.values() if database.idle]
        for database in resting[: max(0, len(resting) - self._max_databases)]:
            self._abandon(database)
        for key in [
            key for key, database in self._databases.items() if not database.idle and not database.busy
        ]:
            if len(self._databases) <= self._max_databases:
                break
            del self._databases[key]

    def _evict_one(self) -> bool:
        for database in self._databases.values():
            if database.idle:
                self._close_oldest(database)
                return True
        return False

    def _abandon(self, database: _Database) -> None:
        while database.idle:
            self._close_oldest(database)

    def _close_oldest(self, database: _Database) -> None:
        connection, _ = database.idle.popleft()
        self._open -= 1
        _finish(connection)


def _lives(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server has not hung up meanwhile, told from the socket without a round trip.

    Between statements a server says nothing; what can be read is its goodbye.
    """
    if connection.closed or connection.pgconn.status != pq.ConnStatus.OK:
        return False
    socket = select.poll()
    socket.register(connection.pgconn.socket, select.POLLIN)
    return not socket.poll(0)


def _finish(connection: psycopg.AsyncConnection) -> None:
    """Hang up. `AsyncConnection.close` does no more, but is a coroutine and timers cannot await."""
    connection.pgconn.finish()
