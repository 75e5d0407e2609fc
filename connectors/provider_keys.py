"""Providers' public keys: fetched through the guard on outbound addresses, kept for a while.

Whoever knows a hook's path can make us look for a key, so that looking is bounded: a key is fetched once
however many deliveries wait for it, again after a minute at the earliest whatever came of it, and all keys
together no more than `BUDGET` times a minute. A provider that is down does no harm while its key is not too
old.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from connectors.outbound import Outbound
from pipewright import errors
from pipewright.ports import Clock

FRESH: Final = timedelta(hours=1)
"""How old a key may be without a look for a newer one."""
OLDEST: Final = timedelta(hours=24)
"""How old it may be while the provider does not answer."""
AGAIN: Final = timedelta(minutes=1)
"""The shortest time between two looks at one address."""
BUDGET: Final = 30
"""Looks a minute, at whatever address."""
KEPT: Final = 64
"""Addresses whose keys are kept."""
MAX_KEY: Final = 64 * 1024
"""Bytes."""
PATIENCE: Final = 5.0
"""Seconds that a look may take: providers wait ten for an answer."""

Fetch = Callable[[str], Awaitable[bytes]]


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    body: bytes = b""
    fetched: datetime | None = None
    tried: datetime | None = None


class ProviderKeys:
    """The verifiers' `KeySource`: keys that were fetched, in memory."""

    def __init__(self, fetch: Fetch, *, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._looks: deque[datetime] = deque(maxlen=BUDGET)

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        """What lies at the address; `newer` asks for one that is hardly a minute old.

        Raises:
            Unreachable: nothing can be had now.
        """
        entry = self._entries.setdefault(url, _Entry())
        self._entries.move_to_end(url)
        if len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        async with entry.lock:
            now = self._clock.now()
            if entry.fetched is not None and now - entry.fetched < (AGAIN if newer else FRESH):
                return entry.body
            if (entry.tried is None or now - entry.tried >= AGAIN) and self._may_look(now):
                entry.tried = now
                try:
                    entry.body = await self._fetch(url)
                    entry.fetched = now
                except errors.BackendError:
                    pass  # an older one may do; without one, it is told below
            if entry.fetched is not None and now - entry.fetched < OLDEST:
                return entry.body
        raise errors.Unreachable("the key that the provider signs with cannot be fetched now")

    def _may_look(self, now: datetime) -> bool:
        if len(self._looks) == BUDGET and now - self._looks[0] < AGAIN:
            return False
        self._looks.append(now)
        return True


def through(outbound: Outbound) -> Fetch:
    """Fetches through the guard: only public addresses, by https, no redirect, bounded."""

    async def fetch(url: str) -> bytes:
        try:
            answer = await outbound.request(
                "GET", url, headers={"User-Agent": "pipewright"}, timeout=PATIENCE, max_bytes=MAX_KEY
            )
        except errors.Stalled as refused:
            raise errors.Unreachable(refused.message) from None
        if answer.status != 200 or not answer.complete:
            raise errors.Unreachable(f"the provider's key: the answer was {answer.status}, or too long")
        return answer.body

    return fetch
