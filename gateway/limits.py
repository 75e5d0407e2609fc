"""One tenant's share of the gateway: how much it may have under way, so that none starves the others.

A lane has a few places to work in and a few to wait in. Who finds both taken is told to come back at once,
before its body is read, and costs next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from gateway import problems
from gateway.problems import Problem


@dataclass(slots=True)
class _Lane:
    work: asyncio.Semaphore
    inside: int = field(default=0)


class Room:
    """Bytes of bodies that are being read or stored, of all tenants together: what the process may hold."""

    def __init__(self, size: int) -> None:
        self._left = size

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Gives what takes more bytes; all of them are given back after the block.

        Raises:
            Problem: 503, there is no room for so many now.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise problems.unavailable("Busy", "too many bodies are under way; try again", after=2)
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


class Lanes:
    """Lanes by key (a tenant's id); an idle one takes no memory."""

    def __init__(self, *, places: int, working: int, patience: float = 8.0) -> None:
        """`places` may be inside a lane, of which `working` work; `patience`: seconds to wait for that, less
        than the ten in which GitHub wants its answer."""
        self._places, self._working, self._patience = places, working, patience
        self._lanes: dict[str, _Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    @asynccontextmanager
    async def enter(self, key: str) -> AsyncIterator[None]:
        """Be inside the key's lane.

        Raises:
            Problem: 429, the lane is full.
        """
        lane = self._lanes.setdefault(key, _Lane(asyncio.Semaphore(self._working)))
        if lane.inside >= self._places:
            raise Problem(429, "Busy", "too many requests of this tenant are under way", retry_after=1)
        lane.inside += 1
        try:
            yield
        finally:
            lane.inside -= 1
            if not lane.inside:
                self._lanes.pop(key, None)

    @asynccontextmanager
    async def work(self, key: str) -> AsyncIterator[None]:
        """Hold one of the lane's places to work; call it inside `enter`.

        Raises:
            Problem: 503, none came free in time.
        """
        semaphore = self._lanes[key].work
        try:
            async with asyncio.timeout(self._patience):
                await semaphore.acquire()
        except TimeoutError:
            raise problems.unavailable("Busy", "too many requests of this tenant wait", after=2) from None
        try:
            yield
        finally:
            semaphore.release()
