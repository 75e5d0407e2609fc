"""What ends when, while a process leads: on a stop, and when the Lease is lost."""

from __future__ import annotations

import asyncio

import pytest

import main
from pipewright.runtime.leader import LeaseLost
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import Key, WorkQueue


class Leading:
    """A queue with one look under way, until `may_end`; a watcher and a Lease that hold until told."""

    def __init__(self) -> None:
        self.queue, self.stop = WorkQueue(metrics=Metrics()), asyncio.Event()
        self.under_way, self.may_end, self.lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended: list[str] = []

    async def look(self, key: Key) -> None:
        self.under_way.set()
        await self.may_end.wait()
        self.ended.append(key.name)

    async def hold(self) -> None:
        await self.lost.wait()
        raise LeaseLost("somebody else has it")

    async def begin(self) -> asyncio.Task[None]:
        self.queue.add(Key("Tenant", "acme"))
        watching = asyncio.Event().wait()
        leading = asyncio.create_task(
            main._lead(self.queue.run(self.look), watching, self.hold(), queue=self.queue, stop=self.stop)
        )
        await self.under_way.wait()
        return leading


async def test_on_a_stop_what_is_under_way_ends_by_itself() -> None:
    made = Leading()
    leading = await made.begin()
    made.stop.set()
    await asyncio.wait({leading}, timeout=0.05)
    assert not leading.done()
    made.may_end.set()
    await asyncio.wait_for(leading, 10)
    assert made.ended == ["acme"]


@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "while the last ones finish"])
async def test_a_lost_lease_ends_what_is_under_way_at_once(stopped: bool) -> None:
    made = Leading()
    leading = await made.begin()
    if stopped:
        made.stop.set()
        await asyncio.wait({leading}, timeout=0.05)
    made.lost.set()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(leading, 5)
    assert made.ended == []
