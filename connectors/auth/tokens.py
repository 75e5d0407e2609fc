"""Tokens that were granted for a while: kept in memory, fetched once however many requests wait for one.

A token is found only by the very credentials that it was granted for: its key is a digest of all that goes
into the grant, under a random key of this process. So neither a rotated secret nor another tenant finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipewright.ports import Clock, Secret

KEPT: Final = 1000
"""Tokens that are kept, the last used ones."""
EARLY: Final = timedelta(minutes=2)
"""How long before its end a token is replaced; of a short life, after its half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What was granted, and until when."""

    value: Secret
    expires: datetime


Grant = Callable[[], Awaitable[Token]]


@dataclass(slots=True)
class _Entry:
    token: Token | None = None
    replace_at: datetime | None = None
    fetching: asyncio.Task[Token] | None = None


class Tokens:
    """One per process."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def key(self, *parts: str) -> bytes:
        """Names what is granted for exactly these."""
        return hashlib.blake2b(json.dumps(parts).encode(), key=self._salt, digest_size=32).digest()

    async def get(self, key: bytes, grant: Grant) -> Token:
        """The token that is kept, or what `grant` gives. Who asks meanwhile gets the same, also its failure.

        Raises:
            as `grant`.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        now = self._clock.now()
        if entry.token is not None and entry.replace_at is not None and now < entry.replace_at:
            return entry.token
        if entry.fetching is None:
            entry.fetching = asyncio.create_task(self._fetch(entry, grant))
            entry.fetching.add_done_callback(_seen)
        # One who goes away must not take the token from the others that wait for it.
        return await asyncio.shield(entry.fetching)

    def forget(self, key: bytes, token: Token) -> None:
        """The provider refused this token. One that was granted since then stays."""
        entry = self._entries.get(key)
        if entry is not None and entry.token is token:
            entry.token = None

    async def _fetch(self, entry: _Entry, grant: Grant) -> Token:
        try:
            asked = self._clock.now()
            token = await grant()
            life = token.expires - asked
            entry.token, entry.replace_at = token, asked + max(life - EARLY, life / 2)
            return token
        finally:
            entry.fetching = None


def _seen(task: asyncio.Task[Token]) -> None:
    """Its failure is told to those who wait; with nobody left it is told to nobody."""
    if not task.cancelled():
        task.exception()
