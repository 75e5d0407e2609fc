"""The document of a delivery: found in its body, in the shapes that the connector takes.

    application/json, …+json              the body
    application/cloudevents+json          its `data`; the attributes become ce- headers, as in binary mode
    application/x-www-form-urlencoded     the text of one field
    text/plain                            the body (Amazon SNS)
    application/cloudevents-batch+json    a list of CloudEvents, each a document (`batches`)
    application/x-ndjson                  a document or a CloudEvent on each line (`batches`)

A field of it may hold JSON as a text (SNS's Message, Pub/Sub's data), which is read in its place. Pure, and
bounded by the size of the body. What is signed is the body as it came, before any of this.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NoReturn

import orjson

from connectors.forms import MAX_FIELDS, only_field
from connectors.webhook import Accepted, Body, Webhook

_TYPES: Final[Mapping[str, Accepted]] = {
    "application/json": "json",
    "application/cloudevents+json": "cloudevent",
    "application/x-www-form-urlencoded": "form",
    "text/plain": "text",
}
_MEDIA_TYPES: Final[Mapping[Accepted, str]] = {
    **{shape: kind for kind, shape in _TYPES.items()},
    "batch": "application/cloudevents-batch+json",
    "ndjson": "application/x-ndjson",
}
_NAMES: Final = 256
_ATTRIBUTE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


class MappingError(Exception):
    """The delivery is not what its kind must be. The message names the part, and what is wrong with it."""

    def __init__(self, message: str, *, plain: str = "") -> None:
        """`plain` is the message without anything of the delivery, where the message may have that."""
        super().__init__(message)
        self.plain = plain or message


class WrongType(MappingError):
    """The body is of a type that the connector does not take. The message says what to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A verified delivery: what expressions may see of it."""

    body: dict[str, Any] = field(repr=False)
    """The document."""
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case names, without those that prove the sender."""
    raw: bytes = field(default=b"", repr=False)

    @property
    def digest(self) -> str:
        """The SHA-256 of the body as it came."""
        return hashlib.sha256(self.raw).hexdigest()


def open_delivery(
    webhook: Webhook, *, headers: Mapping[str, str], raw: bytes, parsed: dict[str, Any] | None = None
) -> Opened:
    """The document, and the headers; `headers` have lower-case names. `parsed`: the body, where it was read.

    Raises:
        WrongType: the connector does not take bodies of this type.
        MappingError: the body is not what its type says, or no JSON object.
    """
    shape = _shape(media_type(headers), webhook.body)
    hidden = webhook.hidden
    visible = {name: value for name, value in headers.items() if name not in hidden}
    found = (
        parse_body(_field(raw, webhook.body.field) if shape == "form" else raw) if parsed is None else parsed
    )
    if shape == "cloudevent":
        visible, found = _as_binary(visible, found)
    if webhook.body.inner:
        _read_inner(found, webhook.body)
    if webhook.body.key_values:
        _read_key_values(found, webhook.body.key_values)
    return Opened(body=found, headers=visible, raw=raw)


def parse_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a verified body; of a name that comes twice the last value counts.

    Raises:
        MappingError: it is no JSON object in UTF-8.
    """
    try:
        body = read_json(raw)
    except (ValueError, RecursionError):
        raise MappingError("the body must be a JSON object in UTF-8") from None
    if not isinstance(body, dict):
        raise MappingError("the body must be a JSON object in UTF-8")
    return body


def read_json(raw: bytes) -> Any:
    """What the JSON in UTF-8 says.

    The fast reader takes what nearly everybody sends; what it does not take, the standard library's decides.
    A whole number beyond 64 bits is a float, which is all that expressions take of it.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw.decode("utf-8"), parse_constant=no_constant)


def no_constant(name: str) -> NoReturn:
    """For JSON's readers: NaN and Infinity are no JSON. Raises ValueError."""
    raise ValueError(name)


def media_type(headers: Mapping[str, str]) -> str:
    """The body's content type without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _shape(kind: str, wanted: Body) -> Accepted:
    shape = _TYPES.get(kind, "json" if kind.endswith("+json") else None)
    if shape == "cloudevent" and shape not in wanted.accepts:
        shape = "json"
    if shape is None or shape not in wanted.accepts:
        known = " or ".join(_MEDIA_TYPES[each] for each in wanted.accepts)
        raise WrongType(f"set the webhook's content type to {known} at the provider")
    return shape


def _field(raw: bytes, name: str) -> bytes:
    found = only_field(raw, name)
    if found is None:
        raise MappingError(f"the body must be a form with one field {name}, of at most {MAX_FIELDS} fields")
    return found


def _read_inner(document: dict[str, Any], wanted: Body) -> None:
    """Put the JSON in the place of its text. A text that is none stays: whatever reads it says so."""
    at: Any = document
    for name in wanted.inner[:-1]:
        at = at.get(name) if isinstance(at, dict) else None
    text = at.get(wanted.inner[-1]) if isinstance(at, dict) else None
    if not isinstance(text, str):
        return
    try:
        raw = text.encode()
        at[wanted.inner[-1]] = parse_body(b64decode(raw) if wanted.encoding == "base64" else raw)
    except (MappingError, ValueError):
        return


def _read_key_values(document: dict[str, Any], name: str) -> None:
    """Put an object in the place of each list of key and value; of equal keys the last one counts."""
    waiting: list[Any] = [document]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict) and isinstance(at.get(name), list):
            pairs = [pair for pair in at[name] if isinstance(pair, dict) and isinstance(pair.get("key"), str)]
            at[name] = {pair["key"]: _any_value(pair.get("value")) for pair in pairs}
        waiting.extend(at.values() if isinstance(at, dict) else at if isinstance(at, list) else ())


def _any_value(value: Any) -> Any:
    """What OpenTelemetry's AnyValue holds: the one field that tells its type by its name."""
    return next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value


def _as_binary(headers: Mapping[str, str], event: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """A structured CloudEvent as the binary mode has it (CloudEvents' HTTP binding §3)."""
    data = event.get("data")
    if not isinstance(data, dict):
        raise MappingError("the CloudEvent must have a JSON object as its data")
    found = {name: value for name, value in headers.items() if not name.startswith("ce-")}
    for name, value in event.items():
        if isinstance(value, str) and (header := _attribute(name)):
            found[header] = value
    return found, data


@lru_cache(maxsize=_NAMES)
def _attribute(name: str) -> str:
    """The header of a CloudEvent's attribute; empty where the name is none. The same few are asked always."""
    return f"ce-{name}" if 0 < len(name) <= 40 and set(name) <= _ATTRIBUTE and name != "data" else ""
