"""When a provider may be asked again: what an answer's headers say of it. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from connectors.http import Http
    from connectors.outbound import Answer

SHORTEST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(hours=1)
DEFAULT_WAIT: Final = timedelta(seconds=30)

NOT_DONE: Final = frozenset({429, 503})
"""Statuses that say that the request was not carried out (RFC 6585 §4, RFC 9110 §15.6.4)."""


def wait_after(answer: Answer, *, http: Http, now: datetime) -> timedelta | None:
    """How long to wait before the same again; None if this answer does not mean that."""
    limit = http.rate_limit
    after = answer.headers.get(http.retry_header, "")
    if limit is not None and answer.status in limit.statuses:
        if answer.headers.get(limit.remaining) == "0":
            return _bounded(_epoch(answer.headers.get(limit.reset, ""), now))
        if after:
            return retry_after(after, now)
    if answer.status in NOT_DONE or (answer.status in http.retry_statuses and after):
        return retry_after(after, now)
    return None


def until_reset(answer: Answer, *, http: Http, now: datetime) -> timedelta | None:
    """How long to wait after a good answer that spent the quota: the next request would be refused."""
    limit = http.rate_limit
    if limit is None or answer.headers.get(limit.remaining) != "0":
        return None
    return _bounded(_epoch(answer.headers.get(limit.reset, ""), now))


def retry_after(text: str, now: datetime) -> timedelta:
    """Retry-After: seconds or a date (RFC 9110 §10.2.3), within bounds."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return _bounded(timedelta(seconds=int(text)))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return DEFAULT_WAIT
    return _bounded((until if until.tzinfo else until.replace(tzinfo=UTC)) - now)


def _epoch(text: str, now: datetime) -> timedelta | None:
    if not re.fullmatch(r"[0-9]{1,11}", text.strip()):
        return None
    return timedelta(seconds=math.ceil(int(text) - now.timestamp()))


def _bounded(wait: timedelta | None) -> timedelta:
    return DEFAULT_WAIT if wait is None else min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
