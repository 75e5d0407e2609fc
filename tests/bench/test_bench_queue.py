"""The work queue beside asyncio's own: what deduplication, lanes, backoff and metrics cost per key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipewright.runtime.queue import Key, WorkQueue

KEYS, LANES, WORKERS, TIMES = 10_000, 50, 16, 5
TABLE = f"Work queue: {KEYS:,} keys in {LANES} lanes through {WORKERS} workers that do nothing"


@pytest.mark.timeout(120)
async def test_keys_go_through_the_work_queue(report: Any, figure: Any, meter: Any) -> None:
    ours, raw, cpu = [], [], []
    for _ in range(TIMES):
        with meter.of() as cost:
            assert await through_ours() == KEYS
        ours.append(KEYS / cost.seconds)
        cpu.append(1e6 * cost.cpu / KEYS)
        with meter.of() as cost:
            assert await through_asyncios() == KEYS
        raw.append(KEYS / cost.seconds)
    report.add(
        TABLE,
        figure(what="keys", unit="per second", values=ours, limit=raw, limit_is="asyncio.Queue"),
        figure(what="CPU of a key", unit="µs", values=cpu),
    )


async def through_ours() -> int:
    """All keys added, then worked on until nothing is left; how many there were."""
    queue, done = WorkQueue(), 0

    async def work(_: Key) -> None:
        nonlocal done
        done += 1

    for number in range(KEYS):
        queue.add(Key("Model", f"m{number}", f"lane-{number % LANES}"))
    running = asyncio.create_task(queue.run(work, concurrency=WORKERS))
    await queue.settled()
    queue.stop()
    await running
    return done


async def through_asyncios() -> int:
    """The same keys through a plain queue, which neither deduplicates nor is fair."""
    queue: asyncio.Queue[Key] = asyncio.Queue()
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            await queue.get()
            done += 1
            queue.task_done()

    for number in range(KEYS):
        queue.put_nowait(Key("Model", f"m{number}", f"lane-{number % LANES}"))
    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await queue.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return done
