"""A body that holds several events, taken apart: each is then a delivery with an id of its own.

    application/cloudevents-batch+json                       a list of CloudEvents
    application/x-ndjson, application/ndjson                 on each line a CloudEvent, or a JSON object

Pure, and bounded by the size of the body and by `Webhook.max_events`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from connectors.document import MappingError, media_type, no_constant
from connectors.webhook import Accepted, Webhook

_SHAPES: Final[Mapping[str, Accepted]] = {
    "application/cloudevents-batch+json": "batch",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
}
_DECODER: Final = json.JSONDecoder(parse_constant=no_constant)
_BLANK: Final = b" \t\r\n"
_BETWEEN: Final = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_SPACE: Final = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One event of a body, as it would have come alone."""

    headers: Mapping[str, str] = field(repr=False)
    raw: bytes = field(repr=False)
    document: dict[str, Any] = field(repr=False)
    """What `raw` says."""


def split(webhook: Webhook, *, headers: Mapping[str, str], raw: bytes) -> Sequence[Part] | None:
    """The events of a verified body, in their order; None: it is one by itself.

    Raises:
        MappingError: the body is not what its type says, or holds too many.
    """
    shape = _SHAPES.get(media_type(headers))
    if shape is None or shape not in webhook.body.accepts:
        return None
    shared = {name: value for name, value in headers.items() if not name.startswith("ce-")}
    event = shared | {"content-type": "application/cloudevents+json"}
    plain = shared | {"content-type": "application/json"}
    events = shape == "batch" or "cloudevent" in webhook.body.accepts
    parts: list[Part] = []
    for source, document in _at_once(raw, shape, most=webhook.max_events) or _in_detail(raw, shape):
        if len(parts) == webhook.max_events:
            raise MappingError(f"the body holds more than {webhook.max_events} events")
        chosen = event if events and (shape == "batch" or "specversion" in document) else plain
        parts.append(Part(headers=chosen, raw=source, document=document))
    return parts


def _at_once(raw: bytes, shape: Accepted, *, most: int) -> Sequence[tuple[bytes, dict[str, Any]]]:
    """The objects of a body that is written as most write it, each with its text; none: look in detail."""
    try:
        found = _of_list(raw, most=most) if shape == "batch" else _of_lines(raw)
    except orjson.JSONDecodeError:
        return ()
    return found if all(isinstance(document, dict) for _, document in found) else ()


def _of_list(raw: bytes, *, most: int) -> list[tuple[bytes, Any]]:
    """What lies between places where one object may end and the next begin.

    No text that goes on after a whole object is one: so the first end that makes one is the right one.
    """
    inner = raw.strip(_BLANK)
    if inner[:1] != b"[" or inner[-1:] != b"]":
        return []
    inner = inner[1:-1].strip(_BLANK)
    ends = [(each.start() + 1, each.end() - 1) for each in _BETWEEN.finditer(inner)]
    found, at, misses = [], 0, 0
    for end, following in [*ends, (len(inner), len(inner))]:
        source = inner[at:end]
        try:
            found.append((source, orjson.loads(source)))
        except orjson.JSONDecodeError:  # that was within an object
            misses += 1
            if misses > most:
                raise
        else:
            at = following
    return found if at == len(inner) else []


def _of_lines(raw: bytes) -> list[tuple[bytes, Any]]:
    lines = [line.strip(b" \t\r") for line in raw.split(b"\n")]
    return [(line, orjson.loads(line)) for line in lines if line]


def _in_detail(raw: bytes, shape: Accepted) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The objects of any body, each with its text; what is wrong is told with its place."""
    try:
        text = raw.decode("utf-8")
    except ValueError:
        raise MappingError("the body must be in UTF-8") from None
    for source, document in _listed(text) if shape == "batch" else _lines(text):
        yield source.encode(), document


def _listed(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, each with its text."""
    at, number = _after(text, 0), 0
    if text[at : at + 1] != "[":
        raise MappingError("the body must be a JSON list of CloudEvents")
    at = _after(text, at + 1)
    closed = text[at : at + 1] == "]"
    while not closed:
        number += 1
        document, end = _read(text, at, f"event {number}")
        yield text[at:end], document
        at = _after(text, end)
        closed = text[at : at + 1] == "]"
        if not closed:
            if text[at : at + 1] != ",":
                raise MappingError("the body must be a JSON list of CloudEvents")
            at = _after(text, at + 1)
    if _after(text, at + 1) != len(text):
        raise MappingError("the body must be a JSON list of CloudEvents, and nothing after it")


def _lines(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects on the lines that are not blank, each with its text."""
    for number, line in enumerate(text.split("\n"), 1):
        source = line.strip(" \t\r")
        if source:
            document, end = _read(source, 0, f"line {number}")
            if end != len(source):
                raise MappingError(f"line {number} must be one JSON object")
            yield source, document


def _read(text: str, at: int, place: str) -> tuple[dict[str, Any], int]:
    try:
        document, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        raise MappingError(f"{place} must be a JSON object") from None
    if not isinstance(document, dict):
        raise MappingError(f"{place} must be a JSON object")
    return document, end


def _after(text: str, at: int) -> int:
    """Where the next thing begins that is no white space."""
    found = _SPACE.match(text, at)
    assert found is not None, "white space may be none"
    return found.end()
