"""From the outbox to the cluster: each fired decision becomes exactly one WorkflowRun.

    commit ──wake──► claim rows (SKIP LOCKED) ──POST──► WorkflowRun ──► row marked, in the claim's transaction

A crash between POST and mark repeats the POST, which finds the run by its name and counts as done. While the
API server is down, rows stay and are tried again with backoff; what it refuses stays with its error.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import psycopg

from gateway.metrics import Metrics
from gateway.problems import Problem
from pipewright import errors
from pipewright.plan import Manifest
from pipewright.ports import Clock
from pipewright.runtime import logs
from pipewright.store import decisions
from pipewright.store.records import Waiting

log = logs.get(__name__)

SWEEP = 5.0
"""Seconds after which a tenant with waiting rows is looked at again."""
LOOK_AT_ALL = 300.0
"""Seconds after which every tenant is: another replica may have died with rows of its own."""
BATCH = 10
AT_ONCE = 8
"""Tenants dispatched at the same time."""
POST_SECONDS = 5.0
FIRST_BACKOFF, LONGEST_BACKOFF = 2.0, 300.0


class Creates(Protocol):
    """The one thing that the dispatcher does in the cluster."""

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create the object, and return it; None when one of that name is there already."""
        ...


class Outboxes(Protocol):
    """Where the outboxes are."""

    def tenants(self) -> Iterable[str]:
        """Ids of all tenants that may have waiting rows."""
        ...

    def bound(self, tenant_id: str, namespace: str) -> bool:
        """Whether the namespace is the tenant's."""
        ...

    def suspended(self, tenant_id: str) -> bool:
        """Whether no run is to be created for the tenant now."""
        ...

    def transaction(self, tenant_id: str) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        """A connection to the tenant's database within a transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one look at an outbox did."""

    created: int = 0
    kept: int = 0
    """Rows that could not be dispatched and stay."""
    again_at: datetime | None = None
    """When the next row is due; None: nothing is left."""


class Dispatcher:
    """Empties the outboxes; `run` is its task."""

    def __init__(
        self,
        *,
        outboxes: Outboxes,
        cluster: Creates,
        clock: Clock,
        metrics: Metrics,
        sweep: float = SWEEP,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outboxes = outboxes
        self._cluster = cluster
        self._clock = clock
        self._metrics = metrics
        self._sweep = sweep
        self._now = monotonic
        self._due: dict[str, float] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._met: set[str] = set()
        self._troubles: dict[str, int] = {}
        self._all_at = monotonic()

    def wake(self, tenant_id: str) -> None:
        """Look at this tenant's outbox at once."""
        self._due[tenant_id] = float("-inf")
        self._woken.set()

    def meet(self) -> None:
        """Look at the outboxes of tenants that are new here: all of them after a start, resumed ones."""
        for tenant_id in set(self._outboxes.tenants()) - self._met:
            self._met.add(tenant_id)
            self.wake(tenant_id)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        try:
            while True:
                self._start_what_is_due()
                self._metrics.dispatch_waiting.set(len(self._due))
                self._woken.clear()
                soonest = min(
                    (at for key, at in self._due.items() if key not in self._busy), default=float("inf")
                )
                pause = min(soonest, self._all_at + LOOK_AT_ALL) - self._now()
                try:
                    async with asyncio.timeout(max(0.0, pause)):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._busy.values():
                task.cancel()

    async def dispatch(self, tenant_id: str) -> Pass:
        """One look at a tenant's outbox.

        Raises:
            BackendError: the tenant's database did not answer.
        """
        created = kept = 0
        async with self._outboxes.transaction(tenant_id) as conn:
            rows = await decisions.claim_outbox(conn, now=self._clock.now(), limit=BATCH)
            for row in rows:
                error = await self._create(tenant_id, row)
                if error is None:
                    created += 1
                    await decisions.mark_dispatched(conn, row.id, at=self._clock.now())
                    continue
                kept += 1
                due_at = self._clock.now() + _backoff(row.attempts)
                await decisions.mark_failed(conn, row.id, error=errors.explain(error)[1][:500], due_at=due_at)
                if isinstance(error, errors.Unreachable):
                    break  # the other rows would wait for the same server
            again_at = await decisions.next_due(conn)
        return Pass(created=created, kept=kept, again_at=again_at)

    async def _create(self, tenant_id: str, row: Waiting) -> Exception | None:
        """Create the run; the error that prevented it."""
        try:
            if not self._outboxes.bound(tenant_id, row.namespace):
                raise errors.Stalled("NamespaceGone", f"the namespace {row.namespace} is not the tenant's")
            async with asyncio.timeout(POST_SECONDS):
                new = await self._cluster.create(row.manifest)
        except TimeoutError:
            error: Exception = errors.Unreachable("the API server did not answer in time")
        except (errors.BackendError, errors.Waiting, errors.Stalled) as refused:
            error = refused
        else:
            self._metrics.dispatches.labels("created" if new else "exists").inc()
            lag = (self._clock.now() - row.created_at).total_seconds()
            self._metrics.dispatch_lag.observe(max(0.0, lag))
            log.info(
                "workflow run created", namespace=row.namespace, run=row.run_name, new=new, lag=round(lag, 3)
            )
            return None
        reason, _ = errors.explain(error)
        self._metrics.dispatches.labels(
            "unreachable" if isinstance(error, errors.Unreachable) else "refused"
        ).inc()
        log.warning(
            "workflow run not created; it stays in the outbox",
            namespace=row.namespace, run=row.run_name, attempts=row.attempts + 1, reason=reason,
        )  # fmt: skip
        return error

    def _start_what_is_due(self) -> None:
        now = self._now()
        if now - self._all_at >= LOOK_AT_ALL:
            self._all_at = now
            for tenant_id in self._outboxes.tenants():
                self._due.setdefault(tenant_id, now)
        for tenant_id, at in list(self._due.items()):
            if at <= now and tenant_id not in self._busy:
                del self._due[tenant_id]
                task = asyncio.create_task(self._look(tenant_id))
                self._busy[tenant_id] = task

    async def _look(self, tenant_id: str) -> None:
        try:
            if self._outboxes.suspended(tenant_id):
                self._met.discard(tenant_id)  # when it is resumed it is met again, and what waits goes on
                return
            async with self._places:
                done = await self.dispatch(tenant_id)
            self._troubles.pop(tenant_id, None)
            if done.again_at is not None:
                left = (done.again_at - self._clock.now()).total_seconds()
                # What is due and was not ours to take is in other hands: look later whether it is done.
                self._due.setdefault(tenant_id, self._now() + max(left, 0.0 if done.created else self._sweep))
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not end the dispatcher
            self._put_off(tenant_id, error)
        finally:
            self._busy.pop(tenant_id, None)
            self._woken.set()

    def _put_off(self, tenant_id: str, error: Exception) -> None:
        """Look later, each time later than before; at a tenant that is gone, not until it is met again."""
        if _is_gone(error):
            log.info("the outbox of a tenant that is gone is left alone", tenant=tenant_id)
            self._due.pop(tenant_id, None)
            self._troubles.pop(tenant_id, None)
            self._met.discard(tenant_id)
            return
        log.warning("an outbox could not be read", tenant=tenant_id, **logs.describe(error))
        troubles = self._troubles[tenant_id] = self._troubles.get(tenant_id, 0) + 1
        pause = self._sweep * 2.0 ** min(troubles - 1, 16) * random.uniform(1, 3)  # noqa: S311 - no secret
        self._due.setdefault(tenant_id, self._now() + min(LONGEST_BACKOFF, pause))


def _is_gone(error: Exception) -> bool:
    return isinstance(error, Problem) and error.status == 404


def _backoff(attempts: int) -> timedelta:
    bound = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempts, 16))
    return timedelta(seconds=random.uniform(0.5, 1.0) * bound)  # noqa: S311 - no secret
