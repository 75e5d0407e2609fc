"""Deliveries of a tenant that is suspended or whose database is down, encrypted in the platform database.

    away: verify ─► map ─► seal ─► spool ─► 202          back: spool ─► open ─► the ingest path ─► gone

What is kept is headers and body as they came, but for what proves the sender, so that the delivery is mapped
by the connector that serves then. `Spool` is the gateway's hold on the table; `replay` empties it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg

from connectors.webhook import Webhook
from gateway import bodies, problems
from pipewright import errors
from pipewright.ports import Secret
from pipewright.store import pools, spool

FULL_RETRY = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The spool as this process reaches it, with its own connections beside those of the directory."""

    connections: pools.Pools
    dsn: Secret
    room: spool.Room

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection to the platform database, within a transaction."""
        async with self.connections.connection("platform/spool", self.dsn) as conn, conn.transaction():
            yield conn

    async def park(self, parked: spool.Parked) -> Literal["parked", "duplicate"]:
        """Keep a delivery durably.

        Raises:
            Problem: 503, the tenant's room is full.
            BackendError: the platform database did not answer.
        """
        return (await self.park_all([parked]))[0]

    async def park_all(self, parked: Sequence[spool.Parked]) -> list[Literal["parked", "duplicate"]]:
        """Keep deliveries durably, all of them or none.

        Raises:
            Problem, BackendError: as `park`.
        """
        kept: list[Literal["parked", "duplicate"]] = []
        async with self.transaction() as conn:
            for each in parked:
                done = await spool.park(conn, each, self.room)
                if done == "full":
                    raise problems.unavailable(
                        "SpoolFull",
                        "the tenant is suspended or its database is down, and no more of its deliveries can"
                        " be kept; deliver again later",
                        after=FULL_RETRY,
                    )
                kept.append(done)
        return kept

    async def waiting(self) -> Sequence[spool.Waiting]:
        """What each tenant has in the spool."""
        async with self.transaction() as conn:
            return await spool.waiting(conn)


def pack(
    webhook: Webhook,
    *,
    headers: Mapping[str, str],
    body: bytes,
    key: bytes,
    integration: str,
    delivery_id: str,
) -> bytes:
    """Headers and body, sealed; neither the signature nor any credential is kept.

    Expressions never see those headers (`Webhook.hidden`), so that a replay says what the delivery said.
    """
    kept = {name: value for name, value in headers.items() if name not in webhook.hidden}
    head = json.dumps(kept, separators=(",", ":")).encode()
    return bodies.seal(head + b"\n" + body, key=key, integration=integration, delivery_id=delivery_id)


def unpack(parked: spool.Parked, *, key: bytes) -> tuple[Mapping[str, str], bytes]:
    """Headers and body as they came.

    Raises:
        BackendError: it does not open, or is none of ours.
    """
    opened = bodies.unseal(
        parked.sealed, key=key, integration=parked.integration, delivery_id=parked.delivery_id
    )
    head, found, body = opened.partition(b"\n")  # JSON without spaces has no line of its own to break
    try:
        headers = json.loads(head)
    except ValueError:
        headers = None
    if not found or not isinstance(headers, dict):
        raise errors.BackendError(f"what is kept of delivery {parked.delivery_id} has another shape")
    return headers, body
