"""Deliveries of one tenant that wait at the same moment are stored in one transaction.

    alone:      ──► transaction ──commit──► answer
    meanwhile:  whoever comes waits, and all of them together are the next transaction

Who comes alone waits for nobody. Whose request has arrived when a transaction may begin goes along, though
nobody has read it yet: a busy process would come to it when the statements of a small group are under way.
A group of several holds the next one back for a moment (`PACE`): much of a transaction costs the same for two
deliveries and for thirty, so that a busy tenant is served better by fewer, larger groups. Each delivery is
answered by itself after the commit. When a group fails, its members are tried one by one, so that one bad
delivery costs the others time and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway import ingest, problems
from gateway.databases import Databases
from gateway.ingest import Received, Stored
from gateway.metrics import Metrics
from gateway.scoring import Models
from pipewright import errors
from pipewright.runtime import logs, tracing
from pipewright.store import arrivals

log = logs.get(__name__)

TRIES = 3
"""How often a transaction is tried that another one beat to it."""
PATIENCE = 8.0
"""Seconds that a delivery waits for its turn: less than the ten in which GitHub wants its answer."""
MOST = 128
"""Deliveries of a group; a batch that is larger is a group by itself."""
ROUNDS = 2
"""Turns of the event loop from bytes that have arrived to a delivery that waits here."""
PACE, LONGEST = 0.0025, 0.025
"""Seconds from the beginning of a group to that of the next: for each member of several, and at most.

Below 1/PACE deliveries a second groups shrink to one, which holds nobody back; above they grow to LONGEST.
"""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of bodies of a group, as they are stored; one that is larger is a group by itself."""


@dataclass(slots=True, eq=False)
class _Member:
    """Deliveries that are stored together or not at all, and who waits for that."""

    received: Sequence[Received]
    done: asyncio.Future[list[Stored]]
    size: int = 0
    taken: bool = False

    def __post_init__(self) -> None:
        self.size = sum(len(each.body) for each in self.received)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class _Queue:
    """One tenant's members that wait, and the task that stores them."""

    members: deque[_Member] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Groups:
    """Stores deliveries, one transaction of each tenant at a time."""

    def __init__(
        self,
        *,
        databases: Databases,
        models: Models,
        metrics: Metrics,
        patience: float = PATIENCE,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._databases = databases
        self._models = models
        self._metrics = metrics
        self._patience = patience
        self._most, self._most_bytes = most, most_bytes
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    async def store(self, tenant_id: str, received: Sequence[Received]) -> list[Stored]:
        """Store these deliveries, all or none of them, with whatever waits beside; after the commit.

        Raises:
            Problem: 503, no turn came in time; nothing is stored.
            BackendError, Waiting: as `Databases.pipeline`; Unreachable, too, while the database is away.
        """
        loop = asyncio.get_running_loop()
        member = _Member(received, loop.create_future())
        queue = self._queues.setdefault(tenant_id, _Queue())
        queue.members.append(member)
        if queue.task is None:
            queue.task = loop.create_task(self._drain(tenant_id, queue))
        patience = loop.call_later(self._patience, _give_up, member)
        try:
            return await member.done
        finally:
            patience.cancel()

    async def store_alone(self, tenant_id: str, received: Sequence[Received]) -> list[Stored]:
        """Store these deliveries in a transaction of their own, now; once more when another was in the way.

        Raises:
            Problem, BackendError, Waiting: as `Databases.pipeline`.
        """
        begun, days = time.perf_counter(), {arrivals.day_of(each.delivery) for each in received}
        for left in reversed(range(TRIES)):
            try:
                with tracing.span("ingest.store"):
                    await self._databases.ensure_days(tenant_id, days)
                    async with self._databases.pipeline(tenant_id) as conn:
                        stored = await ingest.store(conn, received, self._models)
                self._metrics.ingest_seconds.observe(time.perf_counter() - begun)
                self._metrics.ingest_group.observe(len(received))
                return stored
            except errors.Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _drain(self, tenant_id: str, queue: _Queue) -> None:
        """Store what waits, group by group, until nobody does."""
        loop = asyncio.get_running_loop()
        try:
            while queue.members:
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
                begun = loop.time()
                if group := self._next(queue):
                    await self._store(tenant_id, group)
                if len(group) > 1:
                    await asyncio.sleep(begun + min(len(group) * PACE, LONGEST) - loop.time())
        finally:
            del self._queues[tenant_id]  # who comes now begins anew
            for member in queue.members:
                member.fail(errors.Unreachable("this process is shutting down"))

    def _next(self, queue: _Queue) -> list[_Member]:
        group: list[_Member] = []
        count = size = 0
        while queue.members:
            member = queue.members[0]
            if member.done.done():  # gone meanwhile
                queue.members.popleft()
                continue
            count, size = count + len(member.received), size + member.size
            if group and (count > self._most or size > self._most_bytes):
                break
            queue.members.popleft().taken = True
            group.append(member)
        return group

    async def _store(self, tenant_id: str, group: Sequence[_Member]) -> None:
        try:
            self._databases.expect(tenant_id)
            stored = await self.store_alone(tenant_id, [each for member in group for each in member.received])
        except (errors.Unreachable, errors.Forbidden) as away:
            _fail(group, away)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to whoever waits
            await self._one_by_one(tenant_id, group, error)
        except BaseException:
            _fail(group, errors.Unreachable("this process is shutting down"))
            raise
        else:
            rest = iter(stored)
            for member in group:
                found = [next(rest) for _ in member.received]
                if not member.done.done():
                    member.done.set_result(found)

    async def _one_by_one(self, tenant_id: str, group: Sequence[_Member], error: Exception) -> None:
        """Nothing of the group is stored: find out whose fault that is."""
        if len(group) == 1:
            group[0].fail(error)
            return
        log.warning(
            "deliveries are stored one by one", tenant=tenant_id, count=len(group), **logs.describe(error)
        )
        for member in group:
            await self._store(tenant_id, [member])


def _fail(group: Sequence[_Member], error: BaseException) -> None:
    for member in group:
        member.fail(error)


def _give_up(member: _Member) -> None:
    if not member.taken:
        member.fail(problems.unavailable("Busy", "too many requests of this tenant wait", after=2))
