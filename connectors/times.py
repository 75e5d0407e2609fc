"""A provider's time, as a CI system writes it, in RFC 3339 and UTC: what `map` gives for a record's times.

    2026-01-31T08:30:00Z        2026-01-31T09:30:00.123+01:00      with an offset, also `+0100` and `+01`
    2026-01-31 08:30:00 UTC     2026-01-31 09:30:00 +0100          GitLab
    1769848200   1769848200000  epoch seconds and milliseconds, whole or not, also as a text

A time without an offset is refused: an expression appends the one that is meant. What stands for "not yet"
(null, an empty text, 0 and the year 1) is null. Pure. It is no function of expressions: the CEL binding keeps
what a function of ours is given and gives, for ever.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from pipewright import records

_LONGEST: Final = 40
_SECONDS_FROM: Final = 10**8
_MILLISECONDS_FROM: Final = 10**11
"""From here on a number counts seconds, or milliseconds: both begin in 1973. A smaller one is a duration,
and seconds beyond would be the year 5138."""
_NOT_YET: Final = frozenset({"", "0"})
_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))? ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
)
_PLAIN: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""As most write them, and as we do: nothing is to be changed then."""
_NUMBER: Final = re.compile(r"\d{9,13}(\.\d{1,9})?")
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)?")
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def read_time(value: Any) -> str | None:
    """The time in RFC 3339 and UTC; None where it stands for "not yet".

    Raises:
        ValueError: it is no time, or has no offset.
    """
    if value is None or (isinstance(value, str) and value in _NOT_YET):
        return None
    if isinstance(value, datetime):
        return _formatted(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _formatted(_moment(value)) if value != 0 else None
    if not isinstance(value, str):
        raise ValueError(f"must be a text or a number, got {records.kind_of(value)}")
    if _PLAIN.fullmatch(value) and _exists(value):
        return value
    found = _TEXT.fullmatch(value) if len(value) <= _LONGEST else None
    if found is not None:
        return _of_text(value, found)
    if _NUMBER.fullmatch(value):
        return _formatted(_moment(float(value) if "." in value else int(value)))
    raise ValueError(f"{records.shown(value)} is no time that is known here")


def _exists(text: str) -> bool:
    """Whether a time that is written as we write them is one."""
    try:
        return _EARLIEST <= datetime.fromisoformat(text) < _LATEST
    except ValueError:
        return False


def _of_text(text: str, found: re.Match[str]) -> str | None:
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year == 1:
        return None
    if found[8] is None:
        raise ValueError(f"{records.shown(text)} has no offset: append the one that is meant, as in x + 'Z'")
    microsecond = int(((found[7] or "") + "000000")[:6])
    leap, second = (second == 60), min(second, 59)
    try:
        moment = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=_zone(found[8]))
        moment += timedelta(seconds=leap)
    except (ValueError, OverflowError):
        raise ValueError(f"{records.shown(text)} is no real time") from None
    return _formatted(moment)


def _zone(text: str) -> timezone:
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise ValueError("an offset")
    minutes = 60 * int(found[2]) + int(found[3] or 0)
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))


def _moment(number: float) -> datetime:
    seconds = number / 1000 if number >= _MILLISECONDS_FROM else number
    if not math.isfinite(seconds) or not _SECONDS_FROM <= seconds < _LATEST.timestamp():
        raise ValueError(f"{records.shown(number)} is no time in seconds or milliseconds since 1970")
    return _EARLIEST + timedelta(seconds=seconds)


def _formatted(moment: datetime) -> str:
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError("must lie between the years 1970 and 2200")
    return records.format_time(moment)
