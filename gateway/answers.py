"""What a delivery is answered, by what became of the events in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DUPLICATE, PARKED, IGNORED, REFUSED, STORED = "duplicate", "parked", "ignored", "refused", "stored"
"""What becomes of an event: also the words of the metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a delivery is answered when nothing went wrong."""

    status: int
    accepted: bool = False
    duplicate: bool = False
    ignored: str = ""
    """Why there is nothing in it to keep."""
    refused: str = ""
    """What of it is not understood; it is kept as a dead letter."""
    parked: bool = False
    batch: Mapping[str, int] | None = None
    """Of a body with several events: how many came to which outcome."""

    @property
    def body(self) -> Mapping[str, Any]:
        """What is answered as JSON (`schemas.DeliveryAnswer`): what there is to say, and no more."""
        told = {
            "accepted": self.accepted,
            "duplicate": self.duplicate,
            "ignored": self.ignored,
            "refused": self.refused,
            "parked": self.parked,
        }
        found: dict[str, Any] = {name: value for name, value in told.items() if value}
        return found if self.batch is None else found | {"batch": dict(self.batch)}

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many events came to which outcome."""
        if self.batch is not None:
            return self.batch
        if self.duplicate:
            return {DUPLICATE: 1}
        if self.refused:
            return {REFUSED: 1}
        return {IGNORED if self.ignored else PARKED if self.parked else STORED: 1}


def of_one(outcome: str, *, reason: str) -> Answer:
    """The answer to a delivery that is one event; `reason`: why it is ignored or refused."""
    if outcome == DUPLICATE:
        return Answer(status=200, duplicate=True)
    if outcome == IGNORED:
        return Answer(status=202, ignored=reason)
    if outcome == REFUSED:
        return Answer(status=202, refused=reason)
    return Answer(status=202, accepted=True, parked=outcome == PARKED)


def of_batch(outcomes: Sequence[str]) -> Answer:
    """The answer to a body that holds several events, or none; 200 when all of them were taken before."""
    found = Counter(outcomes)
    again = 0 < found[DUPLICATE] == len(outcomes)
    return Answer(
        status=200 if again else 202,
        accepted=not again,
        duplicate=again,
        parked=found[PARKED] > 0,
        batch=dict(found),
    )
