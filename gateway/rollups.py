"""Rollups are made current some seconds after a tenant's database was used, however often it was meanwhile.

    commit ──used──► due in 15 s ──► take notes, recount what they touch ──► until none is left

What was noted and not taken, because a process ended or another one deleted old history, is found at the next
use; the dispatcher uses every database now and then. Of several replicas one refreshes a database at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import psycopg

from gateway.metrics import Metrics
from gateway.problems import Problem
from pipewright.runtime import logs
from pipewright.store import rollups

log = logs.get(__name__)

PAUSE = 15.0
"""Seconds from the first use to the refresh: reports are that much behind, and a refresh has many changes."""
LONGEST_PAUSE = 600.0
"""The same after one trouble upon the other."""
AT_ONCE = 2
"""Tenants whose rollups are refreshed at the same time."""


class Tenants(Protocol):
    """Where the rollups are."""

    def upkeep(self, tenant_id: str) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        """A connection to the tenant's database within a transaction."""
        ...


class Rollups:
    """Keeps rollups current; `run` is its task."""

    def __init__(
        self,
        *,
        databases: Tenants,
        metrics: Metrics,
        pause: float = PAUSE,
        then: Callable[[str], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`then` is other work in the same turn, by the tenant's id; True says that some of it is left."""
        self._then = then
        self._databases, self._metrics, self._pause, self._clock = databases, metrics, pause, clock
        self._due: dict[str, float] = {}
        """Tenant's id → when to look."""
        self._most: dict[str, int] = {}
        """Tenant's id → how many notes to take at once, where that is not the usual."""
        self._troubles: dict[str, int] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    def used(self, tenant_id: str) -> None:
        """The tenant's database was written to, perhaps."""
        if tenant_id not in self._due:
            self._due[tenant_id] = self._clock() + self._pause
            self._woken.set()

    async def run(self) -> None:
        """Refresh until cancelled."""
        try:
            while True:
                self._woken.clear()
                self._start_what_is_due()
                try:
                    async with asyncio.timeout(self._rest()):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._busy.values():
                task.cancel()

    async def refresh(self, tenant_id: str) -> int:
        """Make the tenant's rollups current; how many changes that were.

        Raises:
            Problem, BackendError: the database did not answer, or not in time.
        """
        total = 0
        while True:
            begun = time.perf_counter()
            most = self._most.get(tenant_id, rollups.MOST)
            async with self._databases.upkeep(tenant_id) as conn:
                taken = await rollups.refresh(conn, most=most)
            self._most[tenant_id] = min(rollups.MOST, 2 * most)
            if taken == rollups.BUSY:
                self.used(tenant_id)  # whoever is at it may have looked before the newest change
            if taken <= 0:
                return total
            self._metrics.rollup_seconds.observe(time.perf_counter() - begun)
            self._metrics.rollup_changes.inc(taken)
            total += taken

    def _rest(self) -> float | None:
        """Seconds until somebody is due; None: nobody will be."""
        waiting = [at for key, at in self._due.items() if key not in self._busy]
        if len(self._busy) >= AT_ONCE or not waiting:
            return None
        return max(0.0, min(waiting) - self._clock())

    def _start_what_is_due(self) -> None:
        now = self._clock()
        for tenant_id in [key for key, at in self._due.items() if at <= now and key not in self._busy]:
            if len(self._busy) >= AT_ONCE:
                return
            del self._due[tenant_id]
            self._busy[tenant_id] = asyncio.create_task(self._look(tenant_id))

    async def _look(self, tenant_id: str) -> None:
        try:
            await self.refresh(tenant_id)
            if self._then is not None and await self._then(tenant_id):
                self._due[tenant_id] = self._clock()
            self._troubles.pop(tenant_id, None)
            self._most.pop(tenant_id, None)
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not end the others'
            self._put_off(tenant_id, error)
        finally:
            self._busy.pop(tenant_id, None)
            self._woken.set()

    def _put_off(self, tenant_id: str, error: Exception) -> None:
        """Look later, with less at once: one transaction may have been more than its time allows."""
        if isinstance(error, Problem) and error.status == 404:
            self._troubles.pop(tenant_id, None)
            self._most.pop(tenant_id, None)
            return
        log.warning("rollups could not be made current", tenant=tenant_id, **logs.describe(error))
        self._metrics.rollup_troubles.inc()
        troubles = self._troubles[tenant_id] = self._troubles.get(tenant_id, 0) + 1
        self._most[tenant_id] = max(1, self._most.get(tenant_id, rollups.MOST) // 4)
        self._due[tenant_id] = self._clock() + min(LONGEST_PAUSE, self._pause * 2.0 ** min(troubles, 16))
