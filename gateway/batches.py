"""The events of one body that holds several: none of them is stored when one is refused.

A sender of a batch gets one answer, and sends all of it again. So what is malformed is refused as a whole,
with its place; what was taken before counts once, by its own id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from connectors import batches
from connectors.batches import Part
from connectors.document import MappingError
from connectors.webhook import Webhook
from gateway.problems import Problem

BREATH = 10
"""Events after which other requests have a turn; where a user's rules map them, each is followed by one."""

T = TypeVar("T")


def split(webhook: Webhook, *, headers: Mapping[str, str], raw: bytes) -> Sequence[Part] | None:
    """As `connectors.batches.split`.

    Raises:
        Problem: 400, the body is not what its type says, or holds too many.
    """
    try:
        return batches.split(webhook, headers=headers, raw=raw)
    except MappingError as refused:
        raise Problem(400, "BadRequest", str(refused)) from None


async def each(webhook: Webhook, parts: Sequence[Part], understand: Callable[[Part], T]) -> list[T]:
    """What each event says.

    Raises:
        Problem: what `understand` raised, with the number of the event, counted from 1.
    """
    found: list[T] = []
    for number, part in enumerate(parts, 1):
        try:
            found.append(understand(part))
        except Problem as refused:
            raise Problem(
                refused.status,
                refused.reason,
                f"event {number} of {len(parts)}: {refused.detail}; nothing of the body is stored",
                headers=refused.headers,
                **{**refused.members, "event": number},
            ) from None
        if webhook.by_user or number % BREATH == 0:
            await asyncio.sleep(0)
    return found
