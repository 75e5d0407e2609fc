"""What is read of a history at once, where it goes on, and how much may be read: for lists and for code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from connectors import paging
from pipewright import records
from pipewright.events import Record
from pipewright.records import RecordError

MAX_RECORDS: Final = 10_000
"""Of one item of the outer list: they are handed out together."""
MAX_REFUSED: Final = 20
"""Notes about one item of the outer list."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """How much may be read before somebody else has a turn. One item is always read, so that it goes on."""

    pages: int = 100
    items: int = 5_000
    bytes: int = 64 * 1024 * 1024

    def spend(self, *, items: int, size: int) -> None:
        """Take a page off it."""
        self.pages -= 1
        self.items -= items
        self.bytes -= size

    @property
    def spent(self) -> bool:
        """Whether nothing is left of one of them."""
        return min(self.pages, self.items, self.bytes) <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where to read on: a slice of time, a page in it, and how many of its items are done."""

    since: datetime
    until: datetime
    """The end of the slice, not of what is asked for."""
    place: str = paging.START
    done: int = 0

    def text(self) -> str:
        """As it is kept."""
        slice_ = [records.format_time(self.since), records.format_time(self.until)]
        return json.dumps([*slice_, self.place, self.done], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """What `text` gave; None for anything else: then it is read from the begin."""
        try:
            since, until, place, done = json.loads(text)
            found = cls(
                since=records.parse_time("since", since),
                until=records.parse_time("until", until),
                place=place,
                done=done,
            )
        except (ValueError, TypeError, RecordError, RecursionError):
            return None
        whole = isinstance(place, str) and isinstance(done, int) and not isinstance(done, bool)
        return found if whole and done >= 0 and found.since <= found.until else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One item of the outer list, or the end of a slice."""

    records: tuple[Record, ...]
    refused: tuple[str, ...]
    """What was not understood and is left out: fields and reasons, no content."""
    cursor: Cursor | None
    """Where to go on; None when all of it is read."""


@dataclass(slots=True)
class Found:
    """What is gathered for one item of the outer list."""

    records: list[Record] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return len(self.records) >= MAX_RECORDS

    def tell_if_full(self) -> bool:
        """Whether there is no room; then the rest is refused."""
        if self.full:
            self.refuse(f"a run has more than {MAX_RECORDS} records, the rest is not read")
        return self.full

    def refuse(self, problem: str) -> None:
        """Note what is left out, as long as there are few notes."""
        if len(self.refused) < MAX_REFUSED:
            self.refused.append(problem)
