"""Deliveries that were proved and not understood: kept sealed, looked at, replayed or discarded.

    map ──Refused──► row of the delivery (why), dead letter (what came) ──replay──► ingest, as from the spool

The provider is answered 202: it did its part, sending the same again would change nothing, and some disable
a webhook that answers with 4xx again and again. Only where there is no room left it is 422, so that the
provider shows what nobody else keeps.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import psycopg

from connectors.webhook import Webhook
from gateway import parking, problems
from gateway.databases import Databases
from gateway.metrics import Metrics
from gateway.problems import Problem
from pipewright import errors
from pipewright.runtime import logs
from pipewright.store import deadletters, history
from pipewright.store.deadletters import DeadLetter, Room, Sealed
from pipewright.store.history import After
from pipewright.store.records import Delivery, Route
from pipewright.store.spool import Parked

log = logs.get(__name__)

Kept = Literal["kept", "again", "duplicate", "listed"]
"""`again`: it was there; `listed`: there is no room, and it was acknowledged, so that only its row stays."""

ROOM: Final = Room(letters=1000, bytes=64 * 1024 * 1024)
"""What one tenant may have of them, compressed."""
_FULL: Final = "it is not kept, as too many such deliveries are: replay or discard them"
_NO_PLACE: Final = "it is not kept, as the tenant's database is still to be upgraded: deliver it again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What a delivery is that is not understood."""

    reason: str
    """No value of its body."""
    webhook: Webhook
    """That did not understand it: its proofs are not kept."""


class Takes(Protocol):
    """The ingest path for what was kept."""

    async def replay(self, route: Route, parked: Parked) -> str:
        """Take it as if it came now; what became of it, in one word.

        Raises:
            Problem, BackendError: not now.
        """
        ...


async def keep(
    databases: Databases,
    refused: Refused,
    delivery: Delivery,
    *,
    route: Route,
    headers: Mapping[str, str],
    body: bytes,
    acknowledged: bool,
    metrics: Metrics,
) -> Kept:
    """List the delivery as refused and keep what came.

    Raises:
        Problem: 422, there is no room, and the provider is still to be answered.
        BackendError: the tenant's database did not answer.
    """
    sealed = Sealed(
        integration=delivery.integration,
        delivery_id=delivery.delivery_id,
        received_at=delivery.received_at,
        sealed=parking.pack(
            refused.webhook,
            headers=headers,
            body=body,
            key=databases.access(route.tenant_id).data_key,
            integration=delivery.integration,
            delivery_id=delivery.delivery_id,
        ),
    )
    kept = await _keep(
        databases, refused, delivery, sealed, acknowledged=acknowledged, tenant=route.tenant_id
    )
    if kept != "duplicate":
        metrics.dead_letters.labels(kept).inc()
        log.warning(
            "a delivery is not understood",
            namespace=route.namespace, integration=route.integration, reason=delivery.reason, kept=kept,
        )  # fmt: skip
    return kept


async def _keep(
    databases: Databases,
    refused: Refused,
    delivery: Delivery,
    sealed: Sealed,
    *,
    acknowledged: bool,
    tenant: str,
) -> Kept:
    async with databases.transaction(tenant) as conn:
        place = await deadletters.ready(conn)
        if not await history.record_delivery(
            conn, delivery if place else replace(delivery, outcome="ignored")
        ):
            return "duplicate"
        kept = await deadletters.keep(conn, sealed, ROOM) if place else "full"
        if kept != "full":
            return kept
        if not acknowledged:
            raise Problem(422, "NotUnderstood", f"{refused.reason}; {_FULL if place else _NO_PLACE}")
        return "listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What came."""

    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False)
    encoding: Literal["text", "base64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of some of them."""

    outcomes: Mapping[str, int]
    """By `stored`, `ignored`, `duplicate`, `refused`, `failed`: how many."""
    last: DeadLetter | None
    """The last that was tried, where more may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Those of an Integration, for people."""

    databases: Databases
    hooks: Takes
    metrics: Metrics

    async def page(self, route: Route, *, limit: int, after: After | None) -> list[DeadLetter]:
        """The oldest first, one more than `limit` where there are more."""
        async with self._transaction(route) as conn:
            found = await deadletters.page(
                conn, integration=route.integration_uid, limit=limit + 1, after=after
            )
        return list(found)

    async def payload(self, route: Route, delivery_id: str) -> Payload:
        """What came, but for what proved it.

        Raises:
            Problem: 404, there is none of this id.
        """
        sealed = await self._read(route, delivery_id)
        headers, body = parking.unpack(
            _parked(route, sealed), key=self.databases.access(route.tenant_id).data_key
        )
        try:
            return Payload(headers=headers, body=body.decode("utf-8"), encoding="text")
        except UnicodeDecodeError:
            return Payload(headers=headers, body=base64.b64encode(body).decode(), encoding="base64")

    async def replay(self, route: Route, delivery_id: str) -> str:
        """Take one as if it came now; what became of it.

        Raises:
            Problem: 404, there is none of this id.
        """
        return await self._replay(route, await self._read(route, delivery_id))

    async def replay_page(self, route: Route, *, limit: int, after: After | None) -> Replayed:
        """Take as many as `limit`, the oldest first. Again with `last`, until there is none.

        Raises:
            Problem, BackendError: not now; what was taken before stays.
        """
        found = await self.page(route, limit=limit, after=after)
        outcomes: Counter[str] = Counter()
        for letter in found[:limit]:
            sealed = await self._find(route, letter.delivery_id)
            if sealed is None:
                continue  # somebody else replayed or discarded it meanwhile
            outcome = await self._replay(route, sealed)
            outcomes[outcome] += 1
        return Replayed(outcomes=dict(outcomes), last=found[limit - 1] if len(found) > limit else None)

    async def discard(self, route: Route, delivery_id: str | None = None) -> int:
        """Throw one away, or all; how many."""
        async with self._transaction(route) as conn:
            gone = await deadletters.discard(conn, integration=route.integration_uid, delivery_id=delivery_id)
        self.metrics.dead_letters.labels("discarded").inc(gone)
        return gone

    async def _replay(self, route: Route, sealed: Sealed) -> str:
        try:
            outcome = await self.hooks.replay(route, _parked(route, sealed))
        except (errors.Unreachable, errors.Conflict, errors.Forbidden):
            raise  # says nothing about the delivery
        except errors.BackendError as error:
            log.error("a dead letter cannot be replayed", delivery=sealed.delivery_id, **logs.describe(error))
            outcome = "failed"
        if outcome != "refused":  # that was counted when it was kept again
            self.metrics.dead_letters.labels(outcome).inc()
        return outcome

    async def _read(self, route: Route, delivery_id: str) -> Sealed:
        found = await self._find(route, delivery_id)
        if found is None:
            raise Problem(404, "NotFound", "there is no dead letter of this id; perhaps it was replayed")
        return found

    async def _find(self, route: Route, delivery_id: str) -> Sealed | None:
        async with self._transaction(route) as conn:
            return await deadletters.read(conn, integration=route.integration_uid, delivery_id=delivery_id)

    @asynccontextmanager
    async def _transaction(self, route: Route) -> AsyncIterator[psycopg.AsyncConnection]:
        async with self.databases.transaction(route.tenant_id) as conn:
            if not await deadletters.ready(conn):
                raise problems.unavailable(
                    "NotReady", "the tenant's database is still to be upgraded; try again later", after=60
                )
            yield conn


def _parked(route: Route, sealed: Sealed) -> Parked:
    return Parked(
        tenant_id=route.tenant_id,
        integration=sealed.integration,
        delivery_id=sealed.delivery_id,
        received_at=sealed.received_at,
        sealed=sealed.sealed,
    )
