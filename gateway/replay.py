"""From the spool to the tenants' databases: what was kept while a tenant was suspended, or its database down.

    Active ──► oldest row, held ──► open ──► the same path as any delivery ──commit──► row removed

One delivery after the other in the order in which they came, by one replica at a time. A crash between the
commit and the removal repeats the delivery, which its id makes no second one. A database that does not answer
stops its tenant's rows; a row that is itself at fault steps aside and is tried again later.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import psycopg

from gateway.directory import View
from gateway.metrics import Metrics
from gateway.parking import Spool
from gateway.problems import Problem
from pipewright import errors, runner_facts
from pipewright.runtime import logs
from pipewright.store import routes, spool
from pipewright.store.records import Route

log = logs.get(__name__)

LOOK = 15.0
"""Seconds between two looks at the spool when nothing happens: another gateway may have kept something."""
LOOK_WHILE_FULL = 5.0
"""The same while an active tenant has something in it."""
AT_ONCE = 2
"""Tenants whose rows are replayed at the same time; each holds a connection to the platform database."""
BATCH = 200
"""Deliveries of one tenant before the others have a turn."""
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 3600.0


class Takes(Protocol):
    """The ingest path."""

    async def replay(self, route: Route, parked: spool.Parked) -> str:
        """Take a delivery that was kept; what became of it, in one word.

        Raises:
            Problem, BackendError: not now.
        """
        ...


class Replayer:
    """Empties the spool; `run` is its task."""

    def __init__(
        self,
        *,
        spool: Spool,
        hooks: Takes,
        view: Callable[[], View | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`view`: the directory's newest; None before it was loaded."""
        self._spool, self._hooks, self._view, self._metrics = spool, hooks, view, metrics
        self._clock = clock
        self._woken = asyncio.Event()
        self._stopped: frozenset[str] | None = None
        self._oldest: datetime | None = None
        metrics.spool_oldest.set_function(self._age)

    def follow(self, view: View) -> None:
        """Look at the spool when a tenant was resumed, and once after the start."""
        stopped = frozenset(it.id for it in view.tenants.values() if it.state != runner_facts.ACTIVE)
        if self._stopped is None or self._stopped - stopped:
            self._woken.set()
        self._stopped = stopped

    async def run(self) -> None:
        """Replay until cancelled."""
        pause = LOOK
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                pause = LOOK_WHILE_FULL if await self.look() else LOOK
            except (errors.BackendError, errors.Waiting, Problem) as error:
                log.warning("the spool could not be read", **logs.describe(error))
                pause = LOOK_WHILE_FULL * random.uniform(1, 2)  # noqa: S311 - no secret

    async def look(self) -> bool:
        """Replay what may be replayed; whether something of an active tenant is left.

        Raises:
            BackendError: the platform database did not answer.
        """
        ready = await self._ready()
        places = asyncio.Semaphore(AT_ONCE)

        async def drain(tenant_id: str) -> None:
            async with places:
                await self._drain(tenant_id)

        async with asyncio.TaskGroup() as tasks:
            for tenant_id in ready:
                tasks.create_task(drain(tenant_id))
        return bool(ready and await self._ready())

    async def _ready(self) -> list[str]:
        """Tenants that are active and have something in the spool; the metrics say what there is."""
        found = await self._spool.waiting()
        self._metrics.spool_deliveries.set(sum(each.deliveries for each in found))
        self._oldest = min((each.oldest for each in found), default=None)
        return [each.tenant_id for each in found if self._is_active(each.tenant_id)]

    def _is_active(self, tenant_id: str) -> bool:
        view = self._view()
        tenant = view.tenants.get(tenant_id) if view is not None else None
        return tenant is not None and tenant.state == runner_facts.ACTIVE

    async def _drain(self, tenant_id: str) -> None:
        try:
            for _ in range(BATCH):
                if not (self._is_active(tenant_id) and await self._next(tenant_id)):
                    return
            self._woken.set()
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not end the others'
            log.warning("deliveries stay in the spool", tenant=tenant_id, **logs.describe(error))

    async def _next(self, tenant_id: str) -> bool:
        """Replay the oldest delivery that is due; False: there is none, or it is in other hands."""
        async with self._spool.transaction() as conn:
            parked = await spool.claim(conn, tenant_id)
            if parked is None or parked == "busy":
                return False
            assert isinstance(parked, spool.Parked)
            # read where it is true: the view may be older than the route, and what is dropped is lost
            route = await routes.find_route(conn, integration_uid=parked.integration)
            try:
                # an Integration that was deleted meanwhile has nobody left who would want it
                outcome = "dropped" if route is None else await self._hooks.replay(route, parked)
            except (errors.Unreachable, errors.Waiting, errors.Conflict, errors.Forbidden, Problem):
                raise  # says nothing about the delivery: it stays the first
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one row, those behind it go on
                await self._put_aside(conn, parked, error)
                return True
            await spool.remove(conn, parked.id)
        self._metrics.replayed.labels(outcome).inc()
        if outcome == "dropped":
            log.warning("a delivery of an Integration that is gone was dropped", tenant=tenant_id)
        return True

    async def _put_aside(self, conn: psycopg.AsyncConnection, parked: spool.Parked, error: Exception) -> None:
        reason = errors.explain(error)[1]
        seconds = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(parked.attempts, 16))
        await spool.postpone(conn, parked.id, error=reason[:500], after=timedelta(seconds=seconds))
        self._metrics.replayed.labels("failed").inc()
        log.error(
            "a delivery in the spool could not be taken",
            tenant=parked.tenant_id, delivery=parked.delivery_id, attempts=parked.attempts + 1,
            **logs.describe(error),
        )  # fmt: skip

    def _age(self) -> float:
        if self._oldest is None:
            return 0.0
        return max(0.0, self._clock() - self._oldest.astimezone(UTC).timestamp())
