"""Cursors of lists: `next` of one page, sent back for the page after: opaque to callers, checked as input."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Protocol

from gateway.problems import Problem
from pipewright.records import MAX_ATTEMPT
from pipewright.store import history, pages


def number(cursor: str) -> int:
    """The id of the last row, for lists whose rows are numbered.

    Raises:
        Problem: 400, it is none of ours.
    """
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise _bad()
    return int(cursor)


class Placed(Protocol):
    """Something in a list that is ordered by when it was received, and its id."""

    @property
    def received_at(self) -> datetime:
        """When."""
        ...

    @property
    def delivery_id(self) -> str:
        """The delivery's id."""
        ...


def encode(last: Placed) -> str:
    """The cursor after this one."""
    text = json.dumps([last.received_at.isoformat(), last.delivery_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode(cursor: str) -> history.After:
    """The place that `encode` wrote.

    Raises:
        Problem: 400, it is none of ours.
    """
    try:
        at, key = json.loads(base64.urlsafe_b64decode(cursor))
        moment = datetime.fromisoformat(at)
    except (binascii.Error, ValueError, TypeError):
        raise _bad() from None
    if not isinstance(key, str) or "\0" in key or moment.tzinfo is None:
        raise _bad()
    return history.After(at=moment, key=key)


def encode_place(last: pages.Place) -> str:
    """The cursor after this run or job."""
    text = json.dumps([last.at.isoformat(), last.key, last.attempt])
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_place(cursor: str) -> pages.Place:
    """The place that `encode_place` wrote.

    Raises:
        Problem: 400, it is none of ours.
    """
    try:
        at, key, attempt = json.loads(base64.urlsafe_b64decode(cursor))
        moment = datetime.fromisoformat(at)
    except (binascii.Error, ValueError, TypeError):
        raise _bad() from None
    known = isinstance(key, str) and "\0" not in key and moment.tzinfo is not None and moment.year < 2200
    if not known or type(attempt) is not int or not 0 < attempt <= MAX_ATTEMPT:
        raise _bad()
    return pages.Place(at=moment, key=key, attempt=attempt)


def _bad() -> Problem:
    return Problem(400, "BadCursor", "the cursor must be `next` of the page before")
