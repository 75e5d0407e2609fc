"""The work queue between watching and reconciling: what controller-runtime's is to Go.

Keys are deduplicated, one worker has a key at a time, lanes (tenants) are served in turn and none may occupy
every worker, failures back off with full jitter, delays are kept here and nowhere else. It belongs to one
event loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from pipewright.runtime import logs
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.schedule import Key, Schedule, Taken, lane_of

__all__ = ["Key", "Timer", "WorkQueue"]

log = logs.get(__name__)

Worker = Callable[[Key], Awaitable[None]]


class Timer(Protocol):
    """The part of an event loop that tells time; tests hand in one that they advance."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle | None:
        """Call back at that time."""
        ...


class LoopTimer:
    """The machine's monotonic clock, which may be read outside the event loop too, as by a scrape."""

    def time(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call back at that time."""
        return asyncio.get_running_loop().call_later(max(0.0, when - self.time()), callback)


class WorkQueue:
    """Keys that want a look, and the workers that give it to them."""

    def __init__(
        self,
        *,
        lane_of: Callable[[Key], str] = lane_of,
        base: float = 0.5,
        cap: float = 300.0,
        lane_share: float = 0.75,
        low_share: float = 0.25,
        breath: float = 1.0,
        timer: Timer | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        metrics: Metrics | None = None,
    ) -> None:
        """Args.

        base, cap: the first and the longest backoff, in seconds, before jitter.
        lane_share: the part of the workers that one lane may occupy; the rest stays free for the others.
        low_share: the part of them that what has low priority may occupy, and one of them beside anything
            else: it is never urgent, and the looks that are share the processor with it.
        breath: so many seconds after trouble a key is looked at again at the earliest, whoever asks.
        """
        self._schedule = Schedule(lane_of=lane_of)
        self._base, self._cap, self._lane_share, self._breath = base, cap, lane_share, breath
        self._low_share = low_share
        self._timer: Timer = timer or LoopTimer()
        self._uniform = uniform
        self._metrics = metrics or Metrics()
        self._metrics.watch_queue(self)
        self._failures: dict[Key, int] = {}
        self._held: dict[Key, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed, self._quiet = asyncio.Event(), asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._stopping = False
        self._progress_at = float("-inf")

    # -- adding ------------------------------------------------------------------------------------------

    def add(self, key: Key, *, after: float = 0.0, low: bool = False) -> None:
        """Ask for a look at the key's object, `after` seconds from now; of several delays the soonest counts.

        `low` is for periodic checks, upkeep of what is at rest, and what the initial list has that was looked
        at before: everything else goes first. Never fails.
        """
        now = self._timer.time()
        if after <= 0.0:
            after = max(0.0, self._held.get(key, now) - now)
        self._schedule.add(key, now=now, after=after, low=low)
        self._metrics.queue_adds.labels(key.kind).inc()
        self._quiet.clear()
        self._changed.set()

    def go_on(self, key: Key) -> None:
        """Ask, as the worker of this key, for the next look at it before those that wait for their first.

        A lane that goes on for ever still leaves `lane_share` of the workers to others. Never fails.
        """
        self._schedule.go_on(key, now=self._timer.time())
        self._metrics.queue_adds.labels(key.kind).inc()
        self._quiet.clear()
        self._changed.set()

    def retry(self, key: Key) -> float:
        """Ask for another look after a failure: full jitter below a bound that doubles. Return the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        bound = min(self._cap, self._base * 2.0 ** min(failures, 32))
        delay = self._uniform(0.0, bound)
        self._metrics.queue_retries.labels(key.kind).inc()
        self.add(key, after=delay)
        return delay

    def hold(self, key: Key) -> None:
        """The look at this key ended in trouble: changes of its object are not looked at for a moment.

        Whoever changes an object that fails as fast as they can would else keep a worker and the servers
        busy with it. Delays that are asked for, as by `retry`, stay as they are.
        """
        self._held[key] = until = self._timer.time() + self._breath
        self._schedule.postpone(key, due=until)

    def forget(self, key: Key) -> None:
        """The key does well, or is gone: its next failure starts with the shortest backoff again."""
        self._failures.pop(key, None)
        self._held.pop(key, None)

    # -- working -----------------------------------------------------------------------------------------

    async def run(self, worker: Worker, *, concurrency: int = 16, grace: float = 10.0) -> None:
        """Give keys to `worker`, at most `concurrency` at a time, until `stop`.

        On `stop` the running workers may finish within `grace` seconds; what is left then, or when this call
        itself is cancelled, is cancelled. Returns when no worker runs any more.
        """
        self._schedule.lane_limit = max(1, int(concurrency * self._lane_share))
        self._schedule.low_limit = max(1, int(concurrency * self._low_share))
        try:
            while not self._stopping:
                self._changed.clear()
                self._start_workers(worker, concurrency=concurrency)
                self._set_alarm()
                await self._changed.wait()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace)
        finally:
            await self._cancel_workers()

    def stop(self) -> None:
        """Hand out no more keys; `run` returns soon."""
        self._stopping = True
        self._changed.set()

    def _start_workers(self, worker: Worker, *, concurrency: int) -> None:
        while len(self._tasks) < concurrency:
            taken = self._schedule.take(now=self._timer.time())
            if taken is None:
                break
            self._progress_at = self._timer.time()
            self._metrics.queue_wait.labels(taken.key.kind).observe(taken.waited)
            task = asyncio.create_task(self._work(taken, worker), name=f"reconcile {taken.key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not self._tasks and not self._schedule.ready:
            self._quiet.set()

    async def _work(self, taken: Taken, worker: Worker) -> None:
        key = taken.key
        try:
            await worker(key)
        except Exception as error:  # noqa: BLE001 - a worker handles its own; this is the last net under a bug
            log.error("worker failed", key=str(key), **logs.describe(error))
            self.retry(key)
        finally:
            now = self._timer.time()
            self._metrics.queue_work.labels(key.kind).observe(self._schedule.finish(key, now=now))
            self._progress_at = now
            current = asyncio.current_task()
            if current is not None:
                self._tasks.discard(current)
            self._changed.set()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if (due := self._schedule.next_due) is not None:
            self._alarm = self._timer.call_at(due, self._changed.set)

    async def _cancel_workers(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- looking -----------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until nothing is ready or running; delayed keys may remain. Needs a running `run`."""
        await self._quiet.wait()

    def asks(self, key: Key) -> int:
        """A number that changes when somebody asks for a look at once at a key that is looked at or waits."""
        return self._schedule.asks(key)

    def depth(self, *, low: bool | None = None) -> int:
        """Keys that wait for a worker: all, or those of one priority."""
        everything, lows = self._schedule.ready, self._schedule.ready_low
        return everything if low is None else lows if low else everything - lows

    def delayed(self) -> int:
        """Keys that wait for their time."""
        return self._schedule.delayed

    def running(self) -> tuple[float, ...]:
        """For how many seconds each of the active keys has been worked on, the longest first."""
        started = self._schedule.started
        if not started:
            return ()
        now = self._timer.time()
        return tuple(now - at for at in started)

    def stalled_for(self) -> float:
        """Seconds since a worker started or finished, while keys are ready. 0 when none is."""
        now = self._timer.time()
        self._schedule.release(now=now)
        since = self._schedule.ready_since
        return 0.0 if since is None else now - max(since, self._progress_at)
