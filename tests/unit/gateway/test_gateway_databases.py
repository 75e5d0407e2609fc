"""A database that does not answer is not asked again for a moment, whoever wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway import databases
from gateway.databases import Databases
from gateway.keys import Access
from pipewright import errors
from pipewright.ports import Secret
from pipewright.store import pools

ACCESS = Access(dsn=Secret("dbname=own"), previous_dsn=None, data_key=b"")


class Connection:
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield


class Connections:
    """Pools that say what they are told, and count who asked."""

    def __init__(self) -> None:
        self.asked = list[str]()
        self.trouble: Exception | None = None

    @asynccontextmanager
    async def connection(self, key: str, dsn: Secret) -> AsyncIterator[Connection]:
        self.asked.append(key)
        if self.trouble is not None:
            raise self.trouble
        yield Connection()


class Known(Databases):
    def access(self, tenant_id: str) -> Access:
        return ACCESS


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def reached(connections: Connections, now: list[float]) -> Databases:
    anything = cast("Any", None)
    return Known(
        connections=cast("pools.Pools", connections), directory=anything, keys=anything, clock=lambda: now[0]
    )


async def use(reached: Databases, tenant: str) -> None:
    async with reached.transaction(tenant):
        pass


async def test_nobody_waits_for_it_twice_and_others_are_not_held_up(
    reached: Databases, connections: Connections, now: list[float]
) -> None:
    connections.trouble = errors.Unreachable("no answer")
    for _ in range(3):
        with pytest.raises(errors.Unreachable):
            await use(reached, "a")
    assert connections.asked == ["a"]
    connections.trouble = None
    await use(reached, "b")
    with pytest.raises(errors.Unreachable, match="a moment ago"):
        await use(reached, "a")
    now[0] = databases.AWAY
    await use(reached, "a")
    await use(reached, "a")
    assert connections.asked == ["a", "b", "a", "a"]


@pytest.mark.parametrize("trouble", [pools.AllBusy("all are busy"), errors.Forbidden("refused")])
async def test_other_trouble_says_nothing_about_the_next(
    reached: Databases, connections: Connections, trouble: errors.BackendError
) -> None:
    connections.trouble = trouble
    for _ in range(2):
        with pytest.raises(type(trouble)):
            await use(reached, "a")
    assert connections.asked == ["a", "a"]
