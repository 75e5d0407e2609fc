"""Values of records: read strictly from JSON, and written as JSON; what is refused is named by its field."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from pipewright.records.words import MAX_LABEL, MAX_LABELS, MAX_PARENTS, TEXT_LIMITS

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_WEB: Final = ("https://", "http://")
_CAMEL = re.compile(r"_([a-z])")
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def camel(name: str) -> str:
    """The JSON name of a field: `finished_at` is `finishedAt`."""
    return _CAMEL.sub(lambda found: found.group(1).upper(), name)


class RecordError(ValueError):
    """A record or an event's JSON is not what it must be. The message starts with the field's name."""

    def __init__(self, field: str, problem: str, *, got: str = "") -> None:
        """`got` is what of the wrong value is shown."""
        super().__init__(f"{field}: {problem}{got}")
        self.field = field
        self.problem = f"{problem}{got}"
        self.plain = f"{field}: {problem}"
        """The message without the value: for what is kept longer than the value."""


def text(name: str, value: object, *, required: bool = False, limit: int | None = None) -> str:
    """A bounded text without control characters.

    Raises:
        RecordError: it is none.
    """
    if not isinstance(value, str):
        raise RecordError(name, f"must be a text, got {kind_of(value)}")
    limit = limit or TEXT_LIMITS[name]
    if len(value) > limit:
        raise RecordError(name, f"must have at most {limit} characters, has {len(value)}")
    if required and not value.strip():
        raise RecordError(name, "must not be empty")
    if _UNPRINTABLE.search(value):
        raise RecordError(name, "must not contain control characters")
    if name == "url" and value and not value.startswith(_WEB):
        raise RecordError(name, "must begin with https:// or http://")
    return value


def text_reader(name: str, *, required: bool) -> Callable[[object], str]:
    """`text` for a field that is read often: what most texts are is told at a glance."""
    limit, begins = TEXT_LIMITS[name], _WEB if name == "url" else ("",)

    def read(value: object) -> str:
        if (
            isinstance(value, str)
            and len(value) <= limit
            and value.isprintable()
            and value.startswith(begins)
            and (not required or value.strip())
        ):
            return value
        return text(name, value, required=required)

    return read


def word(name: str, value: object, words: tuple[str, ...]) -> str:
    """The value, if it is one of these words.

    Raises:
        RecordError: it is not.
    """
    if not isinstance(value, str) or value not in words:
        raise RecordError(name, f"must be one of {', '.join(words)}", got=f", got {shown(value)}")
    return value


def integer(name: str, value: object, *, low: int, high: int) -> int:
    """A whole number from `low` to `high`.

    Raises:
        RecordError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(name, f"must be a whole number, got {kind_of(value)}")
    if not low <= value <= high:
        raise RecordError(name, f"must be between {low} and {high}")
    return value


def texts(name: str, value: object) -> tuple[str, ...]:
    """A list of short texts.

    Raises:
        RecordError: it is none, or too long.
    """
    most, longest = _LISTS[name]
    if not isinstance(value, list | tuple):
        raise RecordError(name, f"must be a list of texts, got {kind_of(value)}")
    if len(value) > most:
        raise RecordError(name, f"must have at most {most} entries, has {len(value)}")
    if all(isinstance(each, str) and len(each) <= longest and each.isprintable() for each in value):
        return tuple(value)
    return tuple(text(f"{name}[{at}]", each, limit=longest) for at, each in enumerate(value))


_LISTS: Final = {"labels": (MAX_LABELS, MAX_LABEL), "parents": (MAX_PARENTS, TEXT_LIMITS["sha"])}
"""How many entries, and how long each."""


def parse_time(name: str, value: object) -> datetime:
    """An RFC 3339 time with its offset, as UTC; `name` is the field for the message.

    Raises:
        RecordError: not such a text, or a year outside 1970 to 2200.
    """
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        wanted = "must be an RFC 3339 time such as 2026-01-31T08:30:00Z"
        raise RecordError(name, wanted, got=f", got {shown(value)}")
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RecordError(name, "is no real time", got=f": {shown(value)}") from None
    if not _EARLIEST <= moment < _LATEST:
        raise RecordError(name, "must lie between the years 1970 and 2200")
    return moment


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, with a fraction only where there is one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_value(value: object) -> Any:
    """The JSON form of a record's or an event's part: times as text, tuples as lists, no absent fields."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, tuple):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            camel(field.name): json_value(found)
            for field in dataclasses.fields(value)
            if (found := getattr(value, field.name)) is not None
        }
    return value


def kind_of(value: object) -> str:
    """What kind of JSON value this is, for a message."""
    names = {"NoneType": "null", "str": "a text", "bool": "a boolean", "int": "a number", "float": "a number"}
    return names.get(type(value).__name__, "a list" if isinstance(value, list) else "an object")


def shown(value: object) -> str:
    """A wrong value for a message: short, and only texts and numbers."""
    if not isinstance(value, str | int | float):
        return kind_of(value)
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:40]}…"
