"""The routes for dead letters: who may look, who may see what came, who may replay and discard.

get     integrations/deadletters    list                      viewer
get     integrations/payloads       what came: people's data  owner
update  integrations/deadletters    replay                    editor
delete  integrations/deadletters    discard                   editor
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Path
from pydantic import Field

from gateway import cursors
from gateway.api import PROBLEMS, Cursor, Limit
from gateway.calls import Call, Name, may, route_of
from gateway.schemas import Body, Page
from pipewright.runtime import logs
from pipewright.store.deadletters import DeadLetter

log = logs.get(__name__)

_LETTERS: Final = "/integrations/{name}/deadletters"
DeliveryId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=255, description="Accepted and not needed: twice is once."),
]

rest = APIRouter(prefix="/v1/namespaces/{namespace}", responses=PROBLEMS, tags=["integrations"])


class DeadLetterBody(Body):
    """A delivery that was proved and not understood."""

    id: str = Field(description="The delivery's id.")
    event: str
    received_at: datetime = Field(description="When it came first.")
    reason: str = Field(description="What is not understood, without any of its values.")
    refusals: int = Field(description="How often it was not understood: as it came, and at each replay.")
    refused_at: datetime = Field(description="The last time.")
    bytes: int = Field(description="What is kept of it, compressed.")


class PayloadBody(Body):
    """What came."""

    headers: dict[str, str] = Field(description="By lower-case names, without proofs and credentials.")
    body: str
    encoding: Literal["text", "base64"] = Field(description="base64: it is no UTF-8.")


class OutcomeBody(Body):
    """What became of a replay."""

    outcome: Literal["stored", "ignored", "duplicate", "refused", "failed"] = Field(
        description="stored, ignored, duplicate: the dead letter is gone. refused: it is still not"
        " understood. failed: it does not open; the platform team sees it in the log."
    )


class ReplayedBody(Body):
    """What became of some dead letters."""

    outcomes: dict[str, int] = Field(description="How many were stored, ignored, duplicate, refused, failed.")
    next: str | None = Field(description="The cursor to go on with; null when all were tried.")


class DiscardedBody(Body):
    """How many dead letters were thrown away."""

    discarded: int


@rest.get(_LETTERS, summary="List deliveries that were not understood")
async def list_dead_letters(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "deadletters"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeadLetterBody]:
    """The oldest first, and why; what came is another route's."""
    after = cursors.decode(cursor) if cursor else None
    found = await call.parts.dead_letters.page(route_of(call, name), limit=limit, after=after)
    more = len(found) > limit
    return Page(
        items=tuple(_body(letter) for letter in found[:limit]),
        next=cursors.encode(found[limit - 1]) if more else None,
    )


def _body(letter: DeadLetter) -> DeadLetterBody:
    return DeadLetterBody(
        id=letter.delivery_id,
        event=letter.event,
        received_at=letter.received_at,
        reason=letter.reason,
        refusals=letter.refusals,
        refused_at=letter.refused_at,
        bytes=letter.bytes,
    )


@rest.get(f"{_LETTERS}/{{delivery_id}}/payload", summary="Read what came")
async def read_payload(
    name: Name,
    delivery_id: DeliveryId,
    call: Annotated[Call, Depends(may("get", "integrations", "payloads"))],
) -> PayloadBody:
    """The headers and the body of a dead letter: they may hold people's data. Each reading is logged."""
    route = route_of(call, name)
    found = await call.parts.dead_letters.payload(route, delivery_id)
    log.info(
        "a payload was read",
        by=call.principal.username, namespace=call.namespace, integration=name, delivery=delivery_id,
    )  # fmt: skip
    return PayloadBody(headers=dict(found.headers), body=found.body, encoding=found.encoding)


@rest.post(f"{_LETTERS}/replay", summary="Replay dead letters")
async def replay_dead_letters(
    name: Name,
    call: Annotated[Call, Depends(may("update", "integrations", "deadletters"))],
    limit: Limit = 50,
    cursor: Cursor = None,
    _idempotency_key: Key = None,
) -> ReplayedBody:
    """As many as `limit`, the oldest first, as if they came now: what they say may start workflows."""
    after = cursors.decode(cursor) if cursor else None
    found = await call.parts.dead_letters.replay_page(route_of(call, name), limit=limit, after=after)
    return ReplayedBody(
        outcomes=dict(found.outcomes), next=cursors.encode(found.last) if found.last is not None else None
    )


@rest.post(f"{_LETTERS}/{{delivery_id}}/replay", summary="Replay one dead letter")
async def replay_dead_letter(
    name: Name,
    delivery_id: DeliveryId,
    call: Annotated[Call, Depends(may("update", "integrations", "deadletters"))],
    _idempotency_key: Key = None,
) -> OutcomeBody:
    """As if it came now: what it says may start workflows."""
    outcome: Any = await call.parts.dead_letters.replay(route_of(call, name), delivery_id)
    return OutcomeBody(outcome=outcome)


@rest.delete(_LETTERS, summary="Discard all dead letters")
async def discard_dead_letters(
    name: Name, call: Annotated[Call, Depends(may("delete", "integrations", "deadletters"))]
) -> DiscardedBody:
    """What came is lost; the deliveries stay listed as refused."""
    return DiscardedBody(discarded=await call.parts.dead_letters.discard(route_of(call, name)))


@rest.delete(f"{_LETTERS}/{{delivery_id}}", summary="Discard one dead letter")
async def discard_dead_letter(
    name: Name,
    delivery_id: DeliveryId,
    call: Annotated[Call, Depends(may("delete", "integrations", "deadletters"))],
) -> DiscardedBody:
    """What came is lost; the delivery stays listed as refused. One that is not there is none."""
    return DiscardedBody(discarded=await call.parts.dead_letters.discard(route_of(call, name), delivery_id))
