"""A database that did not answer is not expected to for a moment."""

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
    """Pools that fail as they are told."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None

    @asynccontextmanager
    async def connection(self, key: str, dsn: Secret) -> AsyncIterator[Connection]:
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


async def test_who_can_do_without_it_does_not_wait_for_it_twice(
    reached: Databases, connections: Connections, now: list[float]
) -> None:
    reached.expect("a")
    connections.trouble = errors.Unreachable("no answer")
    with pytest.raises(errors.Unreachable):
        await use(reached, "a")
    with pytest.raises(errors.Unreachable, match="a moment ago"):
        reached.expect("a")
    reached.expect("b")
    now[0] = databases.AWAY
    reached.expect("a")


async def test_once_it_answers_it_is_expected_to(reached: Databases, connections: Connections) -> None:
    connections.trouble = errors.Unreachable("no answer")
    with pytest.raises(errors.Unreachable):
        await use(reached, "a")
    connections.trouble = None
    await use(reached, "a")
    reached.expect("a")


@pytest.mark.parametrize("trouble", [pools.AllBusy("all are busy"), errors.Forbidden("refused")])
async def test_other_trouble_says_nothing_about_the_next(
    reached: Databases, connections: Connections, trouble: errors.BackendError
) -> None:
    connections.trouble = trouble
    with pytest.raises(type(trouble)):
        await use(reached, "a")
    reached.expect("a")
