"""Erasure of a person, known by surrogate or login: at once from `actors`, then from raw bodies day by day.

The row of `actors` stays without the login and under another surrogate: runs are still counted as one
person's, and what was exported under the old surrogate leads to nobody any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import LiteralString

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was asked for, by whom, and how far it is."""

    id: int
    provider: str
    login: str | None = field(repr=False)
    """What raw bodies are searched for; None when that is done."""
    requested_at: datetime
    requested_by: str
    known: bool
    """Whether there was a person of that name in the history."""
    at_day: date | None
    at_integration: str | None
    at_delivery: str | None
    """The last body that was looked at: days are searched from the newest to the oldest."""
    searched: int
    deleted: int
    unreadable: int
    """Bodies that do not open with the tenant's key: nobody can read them."""
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A raw body as it is stored."""

    integration: str
    delivery_id: str
    body: bytes = field(repr=False)


async def request(
    conn: psycopg.AsyncConnection,
    *,
    provider: str,
    surrogate: str = "",
    login: str = "",
    by: str,
    now: datetime,
) -> Erasure | None:
    """Take the person's login away, and ask for a search of the raw bodies; call it in a transaction.

    One of `surrogate` and `login` is given. None: nobody has this surrogate. A login that is not in the
    history may still be in raw bodies.

    Raises:
        Unreachable: the person is being written about; try again.
    """
    cursor = await conn.execute(_FORGET, {"provider": provider, "surrogate": surrogate, "login": login})
    found = await cursor.fetchall()
    if surrogate and not found:
        return None
    logins = [each for each, _, _ in found] or [login]
    for _, before, after in found:
        await conn.execute(_RENAME_LINES, {"before": f'"{before}"]', "after": f'"{after}"]'})
    async with conn.cursor(row_factory=class_row(Erasure)) as made:
        for each in logins:
            await made.execute(_REQUEST, [provider, each, now, by, bool(found)])
        row = await made.fetchone()
    assert row is not None
    return row


async def recent(conn: psycopg.AsyncConnection, *, provider: str, limit: int) -> list[Erasure]:
    """The newest erasures of this provider's people."""
    async with conn.cursor(row_factory=class_row(Erasure)) as cursor:
        await cursor.execute(_RECENT, [provider, limit])
        return await cursor.fetchall()


async def claim(conn: psycopg.AsyncConnection) -> Erasure | None:
    """The oldest erasure whose search goes on, for this transaction alone; None: there is none for us."""
    async with conn.cursor(row_factory=class_row(Erasure)) as cursor:
        await cursor.execute(_CLAIM)
        return await cursor.fetchone()


async def days(conn: psycopg.AsyncConnection) -> list[date]:
    """Days that have raw bodies, or had, newest first."""
    return [day for (day,) in await (await conn.execute(_DAYS)).fetchall()]


async def bodies(
    conn: psycopg.AsyncConnection,
    day: date,
    *,
    after: tuple[str, str] | None,
    but: Sequence[str],
    limit: int,
    most_bytes: int,
) -> list[Body]:
    """A day's raw bodies behind (integration, delivery), in their order; not of the Integrations `but`.

    None follows once `most_bytes` are reached; empty says that the day has no more.
    """
    integration, delivery = after or (None, None)
    values = {"day": day, "at": integration, "key": delivery, "but": list(but)}
    async with conn.cursor(row_factory=class_row(Body), binary=True) as cursor:
        await cursor.execute(_BODIES, {**values, "limit": limit, "bytes": most_bytes})
        return await cursor.fetchall()


async def delete(conn: psycopg.AsyncConnection, day: date, found: Sequence[Body]) -> int:
    """Delete these raw bodies; that they were received stays known."""
    integrations, deliveries = [each.integration for each in found], [each.delivery_id for each in found]
    cursor = await conn.execute(
        "SELECT pipewright.delete_event_bodies(%s, %s::uuid[], %s)", [day, integrations, deliveries]
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def proceed(
    conn: psycopg.AsyncConnection,
    erasure: Erasure,
    *,
    at: tuple[date, str | None, str | None],
    searched: int,
    deleted: int,
    unreadable: int,
) -> None:
    """Note how far the search is."""
    day, integration, delivery = at
    await conn.execute(_PROCEED, [day, integration, delivery, searched, deleted, unreadable, erasure.id])


async def finish(conn: psycopg.AsyncConnection, erasure: Erasure, *, now: datetime) -> None:
    """Note that no body is left to look at; the login goes now here, too."""
    await conn.execute(
        "UPDATE pipewright.erasures SET finished_at = %s, login = NULL, at_integration = NULL,"
        " at_delivery = NULL WHERE id = %s",
        [now, erasure.id],
    )


_COLUMNS: LiteralString = (
    "id, provider, login, requested_at, requested_by, known, at_day, at_integration::text, at_delivery,"
    " searched, deleted, unreadable, finished_at"
)
# Logins that differ in their letters' case only are one person where providers do not tell them apart.
_FORGET = """
UPDATE pipewright.actors a SET login = NULL, surrogate = left(replace(gen_random_uuid()::text, '-', ''), 16)
FROM (
    SELECT id, login, surrogate FROM pipewright.actors WHERE provider = %(provider)s AND login IS NOT NULL
        AND (surrogate = %(surrogate)s OR (%(login)s <> '' AND lower(login) = lower(%(login)s)))
    ORDER BY id FOR UPDATE
) AS found
WHERE a.id = found.id RETURNING found.login, found.surrogate, a.surrogate
"""
# The last of a key's names, as `ml.history.lines` makes it.
_RENAME_LINES = """
UPDATE pipewright.lines SET key = left(key, length(key) - length(%(before)s)) || %(after)s
WHERE scope = 'actor' AND right(key, length(%(before)s)) = %(before)s
"""
_REQUEST: LiteralString = (
    "INSERT INTO pipewright.erasures (provider, login, requested_at, requested_by, known)"  # noqa: S608
    " VALUES (%s, %s, %s, %s, %s) RETURNING " + _COLUMNS
)
_RECENT: LiteralString = (
    "SELECT " + _COLUMNS + " FROM pipewright.erasures WHERE provider = %s ORDER BY id DESC LIMIT %s"  # noqa: S608
)
_CLAIM: LiteralString = (
    "SELECT " + _COLUMNS + " FROM pipewright.erasures WHERE finished_at IS NULL ORDER BY id LIMIT 1"  # noqa: S608
    " FOR UPDATE SKIP LOCKED"
)
_DAYS: LiteralString = """
SELECT to_date(substr(c.relname, 8), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'pipewright.events'::regclass AND c.relname ~ '^events_[0-9]{8}$' ORDER BY 1 DESC
"""
_BODIES = """
SELECT integration, delivery_id, body FROM (
    SELECT integration::text, delivery_id, body, sum(octet_length(body)) OVER so_far
        - octet_length(body) AS before
    FROM pipewright.events
    WHERE received_at >= %(day)s::timestamp AT TIME ZONE 'UTC'
        AND received_at < (%(day)s::date + 1)::timestamp AT TIME ZONE 'UTC'
        AND (%(at)s::uuid IS NULL OR (integration, delivery_id) > (%(at)s::uuid, %(key)s))
        AND integration <> ALL(%(but)s::uuid[])
    WINDOW so_far AS (ORDER BY integration, delivery_id) ORDER BY events.integration, delivery_id
    LIMIT %(limit)s
) AS next WHERE before < %(bytes)s
"""
_PROCEED = """
UPDATE pipewright.erasures SET at_day = %s, at_integration = %s, at_delivery = %s, searched = searched + %s,
    deleted = deleted + %s, unreadable = unreadable + %s
WHERE id = %s
"""
