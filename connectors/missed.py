"""Deliveries that a provider lists as failed, by the manifest's `webhook.registration.deliveries`.

For providers that send a delivery once: whoever missed it finds it in the list, and asks for it again. The
list begins with the newest; each time that a delivery was sent is an item, under one delivery's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors import calls, paging
from connectors.calls import Calls, rendered
from connectors.paging import Got
from connectors.registration import DeliveryList
from connectors.rules import part
from connectors.times import read_time
from pipewright import errors, expressions, records
from pipewright.expressions import EvaluationError, text_of

MAX_PAGES: Final = 50
MAX_ITEMS: Final = 1000
"""Of one page."""
MAX_ID: Final = 100
"""Characters of an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One time that a delivery was sent."""

    id: str
    delivery: str
    at: datetime
    arrived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A delivery that has never arrived."""

    id: str
    """Of the last time that it was sent."""
    at: datetime
    """When it was sent first, as far as was looked back."""
    last: datetime
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What the list says of a time."""

    missed: tuple[Missed, ...]
    """The oldest first."""
    filled_at: datetime | None
    """When the last of those arrived that had failed before."""


class DeliveryLog:
    """The deliveries of one webhook, under one account."""

    def __init__(self, session: Calls, wanted: DeliveryList, *, project: str, hook_id: str) -> None:
        self._session, self._wanted = session, wanted
        self._project, self._inputs = project, {"project": project, "id": hook_id}

    async def read(self, *, since: datetime) -> Log:
        """What was sent since then, as far back as the pages that are read go.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: the provider does not tell.
        """
        found: dict[str, list[Sent]] = {}
        place, seen = paging.START, set[str]()
        while place not in seen and len(seen) < MAX_PAGES:
            seen.add(place)
            items, got = await self._page(place)
            told = [sent for sent in map(self._sent, items) if sent is not None]
            for sent in told:
                if sent.at >= since:
                    found.setdefault(sent.delivery, []).append(sent)
            following = self._wanted.pager.after(place, got)
            if following is None or any(sent.at < since for sent in told):
                break
            place = following
        return _log(found)

    async def ask_again(self, sent_id: str) -> None:
        """Have a delivery sent once more.

        Raises:
            as `read`.
        """
        inputs = {**self._inputs, "delivery": sent_id}
        scope = self._session.scope(inputs)
        url = rendered(lambda: self._session.url(self._wanted.again, scope), "deliveries")
        self._session.refuse(await self._session.send("POST", url))

    async def _page(self, place: str) -> tuple[list[Any], Got]:
        pager = self._wanted.pager
        address = pager.address(place)
        if address is not None:
            url = paging.check_origin(address, base=self._session.base_url)
        else:
            scope = self._session.scope(self._inputs)
            query = dict(pager.query(place))
            url = rendered(lambda: self._session.url(self._wanted.path, scope, query=query), "deliveries")
        answer = await self._session.get(url)
        body = calls.body_of(answer)
        try:
            read = part(body, self._wanted.items_read)
            items = self._wanted.items.value(expressions.bind_answer(read, answer.status, answer.headers))
        except EvaluationError:
            items = None
        if not isinstance(items, list) or len(items) > MAX_ITEMS:
            raise errors.Stalled("AnswerNotUnderstood", "the provider's answer has no list of deliveries")
        got = Got(url=url, status=answer.status, headers=answer.headers, body=body, count=len(items))
        return items, got

    def _sent(self, item: Any) -> Sent | None:
        """One of the list; None for one that we do not use, or of another shape."""
        wanted = self._wanted
        try:
            scope = expressions.bind_item(
                part(item, wanted.item_read), parent=None, project=self._project, lookup={}
            )
            if not wanted.when.holds(scope):
                return None
            ids = [text_of(program.value(scope)) for program in (wanted.id, wanted.delivery)]
            at = read_time(wanted.at.value(scope))
            arrived = wanted.arrived.holds(scope)
        except (EvaluationError, ValueError):
            return None
        if at is None or not all(0 < len(each) <= MAX_ID and each.isprintable() for each in ids):
            return None
        return Sent(id=ids[0], delivery=ids[1], at=records.parse_time("at", at), arrived=arrived)


def _log(found: Mapping[str, list[Sent]]) -> Log:
    missed: list[Missed] = []
    filled: list[datetime] = []
    for times in found.values():
        times.sort(key=lambda sent: sent.at)
        arrived = [sent.at for sent in times if sent.arrived]
        if not arrived:
            last = times[-1]
            missed.append(Missed(id=last.id, at=times[0].at, last=last.at, tries=len(times)))
        elif not times[0].arrived:
            filled.append(arrived[0])
    return Log(
        missed=tuple(sorted(missed, key=lambda each: each.at)), filled_at=max(filled) if filled else None
    )
