"""The work queue with its workers, on time that is moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pipewright.runtime.queue import Key, WorkQueue

A, B, C = Key("Model", "a", "red"), Key("Model", "b", "red"), Key("Model", "c", "blue")


def longest(low: float, high: float) -> float:
    return high


@asynccontextmanager
async def running(
    queue: WorkQueue, worker: Callable[[Key], Awaitable[None]], *, concurrency: int = 4, grace: float = 10
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(queue.run(worker, concurrency=concurrency, grace=grace))
    try:
        yield task
    finally:
        queue.stop()
        await task


class Recorder:
    """A worker that notes its keys and waits at a gate."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled: list[Key] = []

    async def __call__(self, key: Key) -> None:
        self.keys.append(key)
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise


async def test_added_keys_reach_a_worker_once_each(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    for key in (A, B, A, C, A):
        queue.add(key)
    async with running(queue, worker):
        await queue.settled()
    assert sorted(worker.keys, key=str) == [C, A, B]


async def test_a_key_that_was_added_while_a_worker_has_it_runs_once_more(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    async with running(queue, worker):
        queue.add(A)
        await worker.started.wait()
        queue.add(A)
        queue.add(A)
        assert worker.keys == [A]
        worker.gate.set()
        await queue.settled()
    assert worker.keys == [A, A]


async def test_no_more_workers_run_than_allowed_and_one_lane_leaves_room(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    for number in range(10):
        queue.add(Key("Model", f"m{number}", "red"))
    async with running(queue, worker, concurrency=4):
        await worker.started.wait()
        assert len(queue.running()) == 3
        worker.started.clear()
        queue.add(C)
        await worker.started.wait()
        assert worker.keys[-1] == C
        assert len(queue.running()) == 4
        worker.gate.set()


async def test_a_delayed_key_runs_when_its_time_has_come(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    async with running(queue, worker):
        queue.add(A, after=30)
        await queue.settled()
        assert worker.keys == []
        assert queue.delayed() == 1
        timer.advance(30)
        await worker.started.wait()
    assert worker.keys == [A]


def test_backoff_doubles_up_to_the_cap_and_starts_over_when_forgotten(timer) -> None:
    queue = WorkQueue(timer=timer, uniform=longest)
    assert [queue.retry(A) for _ in range(12)] == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert queue.retry(B) == 0.5
    queue.forget(A)
    assert queue.retry(A) == 0.5


def test_backoff_never_overflows(timer) -> None:
    queue = WorkQueue(timer=timer, uniform=longest)
    assert {queue.retry(A) for _ in range(5000)} >= {300}


def test_jitter_covers_the_whole_range(timer) -> None:
    ranges = []
    queue = WorkQueue(timer=timer, uniform=lambda low, high: ranges.append((low, high)) or low)
    queue.retry(A)
    queue.retry(A)
    assert ranges == [(0, 0.5), (0, 1.0)]


async def test_a_worker_that_fails_is_retried_and_its_text_is_not_logged(timer, capsys) -> None:
    tries = []

    async def worker(key: Key) -> None:
        tries.append(key)
        if len(tries) == 1:
            raise RuntimeError("password=canary-4711")

    queue = WorkQueue(timer=timer, uniform=longest)
    async with running(queue, worker):
        queue.add(A)
        await queue.settled()
        timer.advance(0.5)
        await queue.settled()
        await asyncio.sleep(0)
        await queue.settled()
    assert tries == [A, A]
    shown = capsys.readouterr()
    assert "canary-4711" not in shown.out + shown.err
    assert "RuntimeError" in shown.out + shown.err


async def test_a_key_in_trouble_is_not_looked_at_at_each_change(timer) -> None:
    queue, looks = WorkQueue(timer=timer, breath=1.0), list[float]()

    async def worker(key: Key) -> None:
        looks.append(timer.time())
        queue.add(key)  # it changes while it is looked at, too
        queue.hold(key)

    async with running(queue, worker):
        began = timer.time()
        for _ in range(40):  # five seconds
            queue.add(A)
            await queue.settled()
            timer.advance(0.125)
    assert [at - began for at in looks] == [0, 1, 2, 3, 4]


async def test_a_key_that_is_held_keeps_its_retry_and_leaves_others_alone(timer) -> None:
    queue, worker = WorkQueue(timer=timer, breath=1.0, uniform=longest), Recorder()
    async with running(queue, worker):
        queue.hold(A)
        queue.retry(A)
        queue.add(A)
        queue.add(C)
        await queue.settled()
        assert worker.keys == [C]
        worker.started.clear()
        timer.advance(0.5)
        await worker.started.wait()
        assert worker.keys == [C, A]


async def test_what_does_well_again_is_not_held(timer) -> None:
    queue, worker = WorkQueue(timer=timer, breath=1.0), Recorder()
    async with running(queue, worker):
        queue.hold(A)
        queue.forget(A)
        queue.add(A)
        await queue.settled()
    assert worker.keys == [A]


async def test_stop_lets_workers_finish(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    async with running(queue, worker) as task:
        queue.add(A)
        queue.add(B)
        await worker.started.wait()
        queue.stop()
        queue.add(C)
        worker.gate.set()
        await task
    assert worker.keys == [A, B]
    assert worker.cancelled == []


async def test_workers_that_do_not_finish_in_time_are_cancelled(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    async with running(queue, worker, grace=0.01):
        queue.add(A)
        await worker.started.wait()
    assert worker.cancelled == [A]


async def test_cancelling_the_queue_cancels_its_workers_at_once(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    task = asyncio.create_task(queue.run(worker, grace=3600))
    queue.add(A)
    await worker.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.cancelled == [A]


async def test_a_queue_without_progress_says_for_how_long(timer) -> None:
    queue, worker = WorkQueue(timer=timer), Recorder()
    worker.gate.clear()
    async with running(queue, worker, concurrency=1):
        queue.add(A)
        await worker.started.wait()
        timer.advance(50)
        assert queue.stalled_for() == 0  # nothing waits
        queue.add(C)
        timer.advance(70)
        assert queue.stalled_for() == 70
        assert queue.running() == (120,)
        worker.gate.set()
        await queue.settled()
        assert queue.stalled_for() == 0


async def test_a_delay_that_ended_unnoticed_counts_as_ready(timer) -> None:
    queue = WorkQueue(timer=timer)  # nobody runs it
    queue.add(A, after=10)
    assert queue.stalled_for() == 0
    timer.advance(400)
    assert queue.stalled_for() == 390


async def test_the_metrics_tell_the_queues_state(timer) -> None:
    from pipewright.runtime.metrics import Metrics

    metrics = Metrics()
    queue = WorkQueue(timer=timer, metrics=metrics)
    queue.add(A)
    queue.add(B, low=True)
    queue.add(C, after=5)
    queue.retry(C)
    lines = metrics.render().decode().splitlines()
    for line in (
        'pipewright_queue_depth{priority="normal"} 1.0',
        'pipewright_queue_depth{priority="low"} 1.0',
        "pipewright_queue_delayed 1.0",
        'pipewright_queue_retries_total{kind="Model"} 1.0',
        'pipewright_queue_adds_total{kind="Model"} 4.0',
    ):
        assert line in lines


def test_a_key_reads_as_kind_and_place() -> None:
    assert json.dumps([str(A), str(Key("Tenant", "acme"))]) == '["Model red/a", "Tenant acme"]'
