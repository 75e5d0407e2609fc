"""What does a delivery say? A verified delivery becomes records, by the manifest's expressions alone.

    open_delivery ─► Opened ─► identify: id and event's name ─► map_delivery: records, or why there are none

Pure: no clock, no I/O. Whatever a hostile body holds (null, other types, deep nesting), the answer is
records, `Ignored`, or `MappingError`, which is the sender's fault and a 4xx.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from connectors.code import records_of
from connectors.document import MappingError, Opened, WrongType, open_delivery, parse_body
from connectors.rules import Reads, RuleError, part, record_of
from connectors.verify.sns import SnsMessage, confirmation
from connectors.webhook import EventRule, Source, Webhook
from pipewright import expressions, records
from pipewright.events import EventType, Record
from pipewright.expressions import EvaluationError, Payload, Scope
from pipewright.records import DetailType

__all__ = [
    "Delivery", "Ignored", "MappingError", "Opened", "WrongType", "identify", "map_delivery",
    "open_delivery", "parse_body",
]  # fmt: skip

MAX_RECORDS: Final = 2000
"""Records that one delivery may be."""
MAX_WORK: Final = 2_000_000
"""Values that may be handed to expressions for the elements of one list."""
_NO_VALUE: Final = "has no value: something that is read for it is absent, or of another type"
_LONGEST_ID: Final = 2048
_NAMES: Final = 1024
"""Values of such headers that are kept with what they say."""
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_EVENT_NAME = re.compile(r"[A-Za-z0-9_.: -]{1,100}")


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that is fine and says nothing that we keep."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which delivery it is, and of what."""

    id: str
    event: str


def identify(
    webhook: Webhook,
    opened: Opened,
    config: Mapping[str, Any] | None = None,
    *,
    received_at: datetime | None = None,
) -> Delivery:
    """Id and name of a delivery: by a header, an expression, or where there is none by the body's digest.

    Where equal bodies count once in a while only, the digest goes with that part of the time of receipt.

    Raises:
        MappingError: what should name it is missing or no identifier.
    """
    scope = None
    if any(each.expression and not each.header for each in (webhook.delivery, webhook.event)):
        scope = _bound(webhook, opened, webhook.identity_reads, config or {}, what="the delivery")
    found = _delivery_id(webhook.delivery, opened, scope, received_at)
    return Delivery(found, _event_name(webhook, opened, scope))


def _delivery_id(source: Source, opened: Opened, scope: Scope | None, received_at: datetime | None) -> str:
    if source.expression is not None:
        found = _told(source, scope, "the delivery's id")
        if _DELIVERY_ID.fullmatch(found):
            return found
        # a URL, or two ids in one: what is no identifier of ours counts by its digest
        return _digest(found)
    if source.headers:
        named = [opened.headers.get(name, "") for name in source.headers]
        if not all(0 < len(each) <= _LONGEST_ID for each in named):
            raise MappingError(f"the headers {', '.join(source.headers)} must hold the delivery's id")
        return _digest(" ".join(named))
    if not source.header:
        if not source.minutes or received_at is None:
            return f"sha256:{opened.digest}"
        return f"sha256:{opened.digest}:{int(received_at.timestamp()) // (60 * source.minutes)}"
    found = opened.headers.get(source.header, "")
    if not _DELIVERY_ID.fullmatch(found):
        raise MappingError(f"the header {source.header} must hold the delivery's id")
    return found


def _digest(found: str) -> str:
    return f"sha256:{hashlib.sha256(found.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _event_name(webhook: Webhook, opened: Opened, scope: Scope | None) -> str:
    source = webhook.event
    if source.expression is not None and source.header:
        value, where = opened.headers.get(source.header, ""), f"the header {source.header}"
        if not 0 < len(value) <= _LONGEST_ID:
            raise MappingError(f"{where} must name the event")
        found = _of_header(source, value, webhook.by_user)
    elif source.expression is not None:
        found, where = _told(source, scope, "the event's name"), "the event's name in the delivery"
    elif source.header:
        found, where = opened.headers.get(source.header, ""), f"the header {source.header}"
    else:
        return next(iter(webhook.rules))
    if not _EVENT_NAME.fullmatch(found):
        raise MappingError(f"{where} must name the event")
    return found


@lru_cache(maxsize=_NAMES)
def _of_header(source: Source, value: str, of_user: bool) -> str:
    """The event's name by a header alone: there are few, and each is asked once."""
    headers = {source.header: value}
    scope = expressions.bind_payload(
        Payload(body=None, headers=headers, lookup={}, config={}), of_user=of_user
    )
    return _told(source, scope, "the event's name")


def _told(source: Source, scope: Scope | None, what: str) -> str:
    assert source.expression is not None, "only an expression is asked"
    assert scope is not None, "an expression has a scope"
    try:
        found = source.expression.value(scope)
    except EvaluationError as error:
        raise MappingError(f"{what}: {error.message}", plain=f"{what}: {_NO_VALUE}") from None
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_ID:
        raise MappingError(f"{what} must be a text or a number, and not empty")
    return found


def map_delivery(
    webhook: Webhook, opened: Opened, *, event: str, config: Mapping[str, Any] | None = None
) -> list[tuple[EventType | DetailType, Record]] | Ignored:
    """The records that a delivery is, with the type of event that each makes, if any, or why there are none.

    Raises:
        MappingError: the body lacks what its event must have, or has it in another shape.
    """
    if isinstance(webhook.verify, SnsMessage) and (asked := confirmation(opened.body)):
        return Ignored(asked)
    rules = webhook.rules.get(event)
    if rules is None:
        return Ignored(
            f"events of the kind {event} are not used" if _EVENT_NAME.fullmatch(event) else "unknown event"
        )
    scope = None
    if any(rule.asks for rule in rules):
        scope = _bound(webhook, opened, webhook.reads[event], config or {}, what=event)
    found: list[Record] = []
    for rule in rules:
        for each in _scopes(webhook, rule, opened, scope, config or {}):
            try:
                record = record_of(rule, each, partial=True, given=opened.body)
            except RuleError as error:
                raise MappingError(f"{rule.name}: {error}", plain=f"{rule.name}: {error.plain}") from None
            if record is not None:
                found.append(record)
            if len(found) > MAX_RECORDS:
                raise MappingError(f"{event}: is more than {MAX_RECORDS} records")
    if event in webhook.coded:
        found += _by_code(webhook, opened, event, config or {}, room=MAX_RECORDS - len(found))
    return [(record.type, record) for record in found] or Ignored(f"this {event} says nothing that is kept")


def _by_code(
    webhook: Webhook, opened: Opened, event: str, config: Mapping[str, Any], *, room: int
) -> list[Record]:
    """What the mapper of the connector's package says."""
    assert webhook.mapper is not None, "an event is coded where a mapper came with the manifest"
    told = records_of(webhook.mapper, opened, event=event, config=config)
    try:
        found = list(islice(told, room + 1))
    except RuleError as error:
        raise MappingError(f"{event}: {error}", plain=f"{event}: {error.plain}") from error
    except MappingError as error:  # what its author wrote, perhaps with a value in it
        raise MappingError(
            str(error), plain=f"{event}: the connector's mapper does not understand it"
        ) from error
    if len(found) > room:
        raise MappingError(f"{event}: is more than {MAX_RECORDS} records")
    return found


def _bound(
    webhook: Webhook, opened: Opened, reads: Reads | None, config: Mapping[str, Any], *, what: str
) -> Scope:
    try:
        return expressions.bind_payload(_payload(webhook, opened, reads, config), of_user=webhook.by_user)
    except EvaluationError as error:
        raise MappingError(f"{what}: {error.message}", plain=f"{what}: {_NO_VALUE}") from None


def _payload(webhook: Webhook, opened: Opened, reads: Reads | None, config: Mapping[str, Any]) -> Payload:
    return Payload(
        body=part(opened.body, reads),
        headers=opened.headers,
        lookup=webhook.lookup,
        config=config,
    )


def _scopes(
    webhook: Webhook, rule: EventRule, opened: Opened, scope: Scope | None, config: Mapping[str, Any]
) -> Iterator[Scope | None]:
    """What the rule's expressions are asked with: once, or for each element of its list."""
    if rule.each is None:
        yield scope
        return
    try:
        assert scope is not None, "who asks has a scope"
        items = rule.each.value(scope)
        if not isinstance(items, list):
            raise MappingError(f"{rule.name}: each: must be a list, got {records.kind_of(items)}")
        if len(items) > webhook.max_items:
            raise MappingError(
                f"{rule.name}: each: has {len(items)} elements, at most {webhook.max_items} are mapped"
            )
        if not items:
            return
        payload = _payload(webhook, opened, rule.reads, config)
        work = _values(items) + len(items) * _values(payload.body)
        if work * len(rule.programs) > MAX_WORK:
            raise MappingError(f"{rule.name}: each: is too much to be mapped")
        yield from expressions.bind_items(payload, items, of_user=webhook.by_user)
    except EvaluationError as error:
        raise MappingError(
            f"{rule.name}: each: {error.message}", plain=f"{rule.name}: each: {_NO_VALUE}"
        ) from None


def _values(value: Any) -> int:
    """How many values are in a value; its nesting was bounded when it was bound."""
    waiting, count = [value], 0
    while waiting:
        at = waiting.pop()
        count += 1
        if isinstance(at, dict):
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)
    return count
