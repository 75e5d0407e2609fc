"""The second half of a person's erasure: raw bodies that mention the login are found and deleted.

    an erasure's row ──claim──► dead letters, then bodies, the newest day first: open, look, delete
                                                                       └──► how far it is, in the row

Raw bodies are encrypted, so they are opened to look for the login, up to a hundred in a transaction. A
process that ends loses no more than these, and no two replicas are at the same erasure.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date, timedelta
from typing import Protocol
from urllib.parse import quote

import psycopg

from gateway import bodies
from gateway.directory import View
from gateway.keys import Access
from pipewright import errors
from pipewright.ports import Clock
from pipewright.runtime import logs
from pipewright.store import deadletters, erasure
from pipewright.store.erasure import Body, Erasure

log = logs.get(__name__)

BATCH, BYTES = 100, 8 * 1024 * 1024
"""Bodies that are looked at in one transaction, and how much they are as stored, but for the last of them."""
LETTERS = 20
"""Dead letters that are in memory at once."""
SLICE = 5.0
"""Seconds of one tenant's search before others have a turn."""
_PART = r"[0-9A-Za-z_-]"
"""What a login goes on with: octocat is not in octocat-fork."""


class Tenants(Protocol):
    """Where raw bodies are, and the keys that open them."""

    def access(self, tenant_id: str) -> Access:
        """How to reach the tenant's database, and its data key."""
        ...

    def upkeep(self, tenant_id: str) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        """A connection to the tenant's database within a transaction."""
        ...


class Search:
    """Looks for the logins of those who were erased in raw bodies."""

    def __init__(
        self, *, databases: Tenants, view: Callable[[], View], clock: Clock, seconds: float = SLICE
    ) -> None:
        self._databases, self._view, self._clock, self._seconds = databases, view, clock, seconds

    async def go_on(self, tenant_id: str) -> bool:
        """Search for a while; whether something is left to do.

        Raises:
            Problem, BackendError: the database did not answer.
        """
        until = time.monotonic() + self._seconds
        while await self._step(tenant_id):
            if time.monotonic() >= until:
                return True
        return False

    async def _step(self, tenant_id: str) -> bool:
        """Look at the next bodies for one erasure; False when there is none to go on with."""
        key = self._databases.access(tenant_id).data_key
        async with self._databases.upkeep(tenant_id) as conn:
            asked = await erasure.claim(conn)
            if asked is None or asked.login is None:
                return False
            days = await erasure.days(conn)
            if asked.at_day is None:
                await self._letters(conn, tenant_id, asked, newest=days[0] if days else date.min)
                return True
            day = _next_day(days, asked)
            if day is None:
                await erasure.finish(conn, asked, now=self._clock.now())
                log.info("raw bodies were searched for a person who is erased", erasure=asked.id)
                return True
            after = None
            if day == asked.at_day and asked.at_integration and asked.at_delivery is not None:
                after = (asked.at_integration, asked.at_delivery)
            but = self._others(tenant_id, asked.provider)
            found = await erasure.bodies(conn, day, after=after, but=but, limit=BATCH, most_bytes=BYTES)
            mentions, closed = await asyncio.to_thread(_look, found, login=asked.login, key=key)
            deleted = await erasure.delete(conn, day, mentions) if mentions else 0
            # no last body: the day is done, and the next step takes the one before it
            last = (found[-1].integration, found[-1].delivery_id) if found else (None, None)
            await erasure.proceed(
                conn, asked, at=(day, *last), searched=len(found), deleted=deleted, unreadable=closed
            )
            return True

    async def _letters(
        self, conn: psycopg.AsyncConnection, tenant_id: str, asked: Erasure, *, newest: date
    ) -> None:
        """Look at all dead letters, of which a tenant has few; the days of raw bodies are next."""
        key, login = self._databases.access(tenant_id).data_key, str(asked.login)
        but, after = self._others(tenant_id, asked.provider), None
        searched = deleted = closed = 0
        while found := await deadletters.sealed(conn, but=but, after=after, limit=LETTERS):
            sealed = [
                Body(integration=it.integration, delivery_id=it.delivery_id, body=it.sealed) for it in found
            ]
            mentions, unreadable = await asyncio.to_thread(_look, sealed, login=login, key=key)
            for each in mentions:
                await deadletters.discard(conn, integration=each.integration, delivery_id=each.delivery_id)
            searched, deleted, closed = searched + len(found), deleted + len(mentions), closed + unreadable
            after = (found[-1].integration, found[-1].delivery_id)
        behind = max(newest, self._clock.now().date()) + timedelta(days=1)
        await erasure.proceed(
            conn, asked, at=(behind, None, None), searched=searched, deleted=deleted, unreadable=closed
        )

    def _others(self, tenant_id: str, provider: str) -> list[str]:
        """Integrations of other providers: the same login is somebody else there."""
        return [
            route.integration_uid
            for route in self._view().routes.values()
            if route.tenant_id == tenant_id and route.connector != provider
        ]


def _next_day(days: Sequence[date], asked: Erasure) -> date | None:
    """The day to go on with: the one under way, or the newest before it."""
    assert asked.at_day is not None, "dead letters are looked at first"
    if asked.at_integration is not None and asked.at_day in days:
        return asked.at_day
    return next((day for day in days if day < asked.at_day), None)


def _look(found: Sequence[Body], *, login: str, key: bytes) -> tuple[list[Body], int]:
    """The bodies that mention the login, and how many do not open."""
    wanted, mentions, closed = mention(login), [], 0
    for each in found:
        try:
            opened = bodies.unseal(
                each.body, key=key, integration=each.integration, delivery_id=each.delivery_id
            )
        except errors.BackendError:
            closed += 1
            continue
        if wanted.search(opened):
            mentions.append(each)
    return mentions, closed


def mention(login: str) -> re.Pattern[bytes]:
    """Finds the login in a raw body: as it is, as JSON or a form writes it, in letters of any case."""
    forms = {login, json.dumps(login)[1:-1], quote(login, safe="")}
    any_of = "|".join(re.escape(form) for form in sorted(forms))
    return re.compile(f"(?<!{_PART})(?:{any_of})(?!{_PART})".encode(), re.IGNORECASE)
