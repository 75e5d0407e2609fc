"""What does a delivery say? A verified body becomes records, by the manifest's expressions alone.

Pure: no clock, no I/O. Whatever a hostile body holds (null, other types, deep nesting), the answer is
records, `Ignored`, or `MappingError`, which is the sender's fault and a 4xx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from connectors.manifest import EventRule, Manifest, Reads, Webhook
from pipewright import events, expressions
from pipewright.events import EventType, Record, RecordError
from pipewright.expressions import EvaluationError

_DELIVERY_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_EVENT_NAME = re.compile(r"[A-Za-z0-9_.: -]{1,100}")


class MappingError(Exception):
    """The delivery is not what its kind must be. The message names the part, never its content."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that is fine and says nothing that we keep."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a delivery's headers say of it."""

    id: str
    event: str


def identify(webhook: Webhook, headers: Mapping[str, str]) -> Delivery:
    """Id and name of a delivery; `headers` have lower-case names.

    Raises:
        MappingError: a header is missing or no identifier.
    """
    delivery, event = headers.get(webhook.delivery_header, ""), headers.get(webhook.event_header, "")
    if not _DELIVERY_ID.fullmatch(delivery):
        raise MappingError(f"the header {webhook.delivery_header} must hold the delivery's id")
    if not _EVENT_NAME.fullmatch(event):
        raise MappingError(f"the header {webhook.event_header} must name the event")
    return Delivery(delivery, event)


def parse_body(raw: bytes) -> Any:
    """The JSON of a verified body.

    Raises:
        MappingError: it is no JSON object in UTF-8.
    """
    try:
        body = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MappingError("the body must be a JSON object in UTF-8") from None
    if not isinstance(body, dict):
        raise MappingError("the body must be a JSON object in UTF-8")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def map_delivery(
    manifest: Manifest, *, headers: Mapping[str, str], body: Any
) -> list[tuple[EventType, Record]] | Ignored:
    """The records that a delivery is, with the type of event that each makes, or why there are none.

    Raises:
        MappingError: the body lacks what its event must have, or has it in another shape.
    """
    if manifest.webhook is None:
        return Ignored(f"{manifest.title} has no webhooks")
    event = headers.get(manifest.webhook.event_header, "")
    rules = manifest.webhook.rules.get(event)
    if rules is None:
        return Ignored(
            f"events of the kind {event} are not used" if _EVENT_NAME.fullmatch(event) else "unknown event"
        )
    try:
        read = _part(body, manifest.webhook.reads[event])
        scope = expressions.bind_payload(read, headers, manifest.webhook.lookup)
        wanted = [rule for rule in rules if rule.when.holds(scope)]
    except EvaluationError as error:
        raise MappingError(f"{event}: {error.message}") from None
    records = [_record(rule, scope) for rule in wanted]
    return [(record.type, record) for record in records] or Ignored(f"this {event} says nothing that is kept")


def _part(value: Any, reads: Reads) -> Any:
    """The part of a body that rules read, so that the rest need not be converted."""
    if not reads or not isinstance(value, dict):
        return value
    return {name: _part(value[name], below) for name, below in reads.items() if name in value}


def _record(rule: EventRule, scope: expressions.Scope) -> Record:
    found: dict[str, Any] = {"type": rule.record}
    for field, program in rule.fields.items():
        try:
            found[field] = program.value(scope)
        except EvaluationError as error:
            raise MappingError(f"{rule.name}: {field}: {error.message}") from None
    try:
        return events.parse_record(found)
    except RecordError as error:
        raise MappingError(f"{rule.name}: {error}") from None
