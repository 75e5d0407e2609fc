"""When the gateway refreshes rollups: once for many uses, later and with less after a trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.rollups import Rollups
from pipewright import errors
from pipewright.store import rollups


class Databases:
    """Answers `refresh_rollups` by a list; notes how much was asked for."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.done = asyncio.Event()

    @asynccontextmanager
    async def upkeep(self, tenant_id: str) -> AsyncIterator[Any]:
        yield self

    async def execute(self, _query: str, values: list[int]) -> "Databases":
        self.asked.append(values[0])
        return self

    async def fetchone(self) -> tuple[int]:
        answer = self.answers.pop(0)
        if not self.answers:
            self.done.set()
        if isinstance(answer, Exception):
            raise answer
        return (answer,)


def refresher(databases: Databases) -> Rollups:
    return Rollups(databases=databases, metrics=Metrics(), pause=0.01)


async def until(refresher: Rollups, databases: Databases) -> None:
    task = asyncio.create_task(refresher.run())
    async with asyncio.timeout(5):
        await databases.done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_many_uses_are_one_refresh_until_nothing_is_left() -> None:
    databases = Databases(5, 3, 0)
    it = refresher(databases)
    for _ in range(100):
        it.used("acme")
    await until(it, databases)
    assert databases.asked == [rollups.MOST] * 3
    assert it._due == {}


async def test_a_trouble_is_tried_again_with_less_and_then_with_more() -> None:
    databases = Databases(errors.Unreachable("statement timeout"), 7, 7, 7, 0)
    it = refresher(databases)
    it.used("acme")
    await until(it, databases)
    quarter = rollups.MOST // 4
    assert databases.asked == [rollups.MOST, quarter, 2 * quarter, rollups.MOST, rollups.MOST]


async def test_while_another_is_at_it_it_looks_again() -> None:
    databases = Databases(rollups.BUSY, 1, 0)
    it = refresher(databases)
    it.used("acme")
    await until(it, databases)
    assert len(databases.asked) == 3


async def test_a_tenant_that_is_gone_is_left_alone() -> None:
    databases = Databases(Problem(404, "NotFound", "gone"))
    it = refresher(databases)
    it.used("acme")
    await until(it, databases)
    assert it._due == {}


@pytest.mark.parametrize("trouble", [errors.Unreachable("down"), ValueError("ours")])
async def test_one_tenants_trouble_does_not_end_the_task(trouble: Exception) -> None:
    databases = Databases(trouble, 0)
    it = refresher(databases)
    it.used("acme")
    await until(it, databases)
    assert len(databases.asked) == 2
