"""A provider's history, read list by list through its REST API: the manifest's `sync`.

    project, since … until ──slices──► pages of items ──► (nested lists of each item) ──rules──► records

What is handed out is one item of the outer list with all that belongs to it, and a cursor that says where to
go on after it: whoever has stored the records keeps the cursor, and reads on there later or after a crash.
Items between the two come again, which changes nothing, as records are keyed by the provider's ids. In memory
is one page of each list, never more.

Time is read from old to new in slices. Where a provider lists only so many items of a slice (`capped`), a
slice of half the time is asked for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from connectors import calls, paging, waits
from connectors.calls import Calls, rendered
from connectors.coded_sync import CodedReader
from connectors.listing import Items, Listing, Nested, Sync
from connectors.outbound import Answer
from connectors.paging import Got
from connectors.portions import Batch, Budget, Cursor, Found
from connectors.rules import RuleError, part, record_of
from connectors.times import read_time
from pipewright import errors, expressions, records
from pipewright.expressions import EvaluationError, Program, text_of

__all__ = ["Batch", "Budget", "Cursor", "history"]

SHORTEST_SLICE: Final = timedelta(minutes=1)
"""What is not halved any more: what is listed of it is taken, and the rest is not there for us."""
MAX_NESTED_PAGES: Final = 50
"""Of a list that belongs to one item."""
_REFUSED: Final = frozenset({"ProviderRefused", "AnswerTooLarge", "AnswerNotUnderstood"})
"""Of what belongs to one run: it may be gone or too large, which keeps no other run away."""
_ABSENT: Final = frozenset({404})
"""How a provider says that there is no such list."""
MAX_ITEMS: Final = 10_000
"""Of one page."""
_PATH: Final = re.compile(r"body([.][A-Za-z_][A-Za-z0-9_]*)*")


async def history(
    session: Calls,
    sync: Sync,
    *,
    project: str,
    since: datetime,
    until: datetime,
    cursor: Cursor | None = None,
    budget: Budget | None = None,
) -> AsyncGenerator[Batch, None]:
    """The records of a project's finished runs, batch by batch, until all is read or the budget is spent.

    Raises:
        errors.Stalled, errors.Waiting, errors.Unreachable: the provider cannot be read now. What was handed
            out before stays good, and the cursor of the last batch is where to go on.
    """
    reader: _Reader | CodedReader
    if sync.lister is not None:
        reader = CodedReader(session, sync.lister, project=project, budget=budget or Budget())
    else:
        reader = _Reader(session, sync, project=project, budget=budget or Budget())
    since, until = since.replace(microsecond=0), until.replace(microsecond=0)
    at = cursor if cursor is not None else Cursor(since=since, until=min(since + sync.slice, until))
    while True:
        try:
            async with aclosing(reader.slice(at)) as batches:
                async for batch in batches:
                    yield batch
                    if reader.budget.spent:
                        return
        except _TooMuch:
            middle = at.since + (at.until - at.since) / 2
            at = Cursor(since=at.since, until=middle.replace(microsecond=0))
            if reader.budget.spent:
                yield Batch(records=(), refused=(), cursor=at)
                return
            continue
        if at.until >= until:
            yield Batch(records=(), refused=(), cursor=None)
            return
        at = Cursor(since=at.until, until=min(at.until + sync.slice, until))
        yield Batch(records=(), refused=(), cursor=at)
        if reader.budget.spent:
            return


class _TooMuch(Exception):
    """The provider does not list all of this slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    items: list[Any]
    place: str
    following: str | None


class _Reader:
    """Reads one project under one account."""

    def __init__(self, session: Calls, sync: Sync, *, project: str, budget: Budget) -> None:
        self._session, self._sync, self._project = session, sync, project
        self.budget = budget

    async def slice(self, start: Cursor) -> AsyncGenerator[Batch, None]:
        """The items of one slice, from the cursor on; its last batch does not tell that it is the last.

        Raises:
            _TooMuch: ask for a shorter one.
        """
        inputs = {
            "project": self._project,
            "since": records.format_time(start.since),
            "until": records.format_time(start.until),
        }
        divisible = start.until - start.since > SHORTEST_SLICE
        skip = start.done
        listing = self._sync.listing
        assert listing is not None, "what has no list is read by code"
        async with aclosing(self._pages(listing, inputs, place=start.place, divisible=divisible)) as pages:
            async for page in pages:
                if not page.items and page.following is not None:
                    # pages without items count, too: nobody may keep us reading for ever
                    yield Batch(records=(), refused=(), cursor=replace(start, place=page.following, done=0))
                for number, item in enumerate(page.items):
                    if number < skip:
                        continue
                    found = Found()
                    await self._item(listing, inputs, item, None, found)
                    last = number == len(page.items) - 1
                    if last and page.following is None:
                        after = replace(start, place=page.place, done=number + 1)
                    elif last:
                        after = replace(start, place=page.following or "", done=0)
                    else:
                        after = replace(start, place=page.place, done=number + 1)
                    yield Batch(records=tuple(found.records), refused=tuple(found.refused), cursor=after)
                skip = 0

    async def _item(
        self, items: Items, inputs: Mapping[str, Any], item: Any, parent: Any, found: Found
    ) -> None:
        if found.full:
            return
        try:
            scope = expressions.bind_item(
                part(item, items.item_read),
                parent=part(parent, items.parent_read),
                project=self._project,
                lookup=self._sync.lookup,
                inputs=inputs,
            )
        except EvaluationError as error:
            found.refuse(error.message)
            return
        for rule in items.records:
            try:
                record = record_of(rule, scope)
                if record is not None:
                    found.records.append(record)
            except RuleError as error:
                found.refuse(f"{rule.record}: {error}")
        for nested in items.each:
            try:
                if nested.when is not None and not nested.when.holds(scope):
                    continue
                more = {name: text_of(program.value(scope)) for name, program in nested.inputs.items()}
            except EvaluationError as error:
                found.refuse(f"inputs: {error.message}")
                continue
            await self._nested(nested, {**inputs, **more}, item, found)

    async def _nested(self, nested: Nested, inputs: Mapping[str, Any], parent: Any, found: Found) -> None:
        if not isinstance(nested.items, Listing):
            for item in _within(parent, nested.within, found):
                await self._item(nested.items, inputs, item, parent, found)
            found.tell_if_full()
            return
        read = 0
        try:
            async with aclosing(self._pages(nested.items, inputs)) as pages:
                async for page in pages:
                    for item in page.items:
                        await self._item(nested.items, inputs, item, parent, found)
                    read += 1
                    if found.tell_if_full():
                        return
                    if read >= MAX_NESTED_PAGES and page.following is not None:
                        found.refuse(f"a list has more than {MAX_NESTED_PAGES} pages, the rest is not read")
                        return
        except errors.Stalled as refused:
            forbidden = nested.items.optional and refused.reason == "CredentialsRefused"
            if refused.reason not in _REFUSED and not forbidden:
                raise
            found.refuse(refused.message)

    async def _pages(
        self,
        listing: Listing,
        inputs: Mapping[str, Any],
        *,
        place: str = paging.START,
        divisible: bool = False,
    ) -> AsyncGenerator[_Part, None]:
        """The pages of a list from a place on; `divisible`: a list that is capped is refused as `_TooMuch`.

        Raises:
            as `history`.
        """
        seen: set[str] = set()
        while True:
            url = self._url(listing, inputs, place)
            good = _ABSENT if listing.optional else frozenset[int]()
            answer = await self._session.get(url, max_bytes=listing.max_response_bytes, good=good)
            if answer.status in good:
                return
            body = calls.body_of(answer)
            if divisible and listing.capped is not None and _capped(listing, body, answer):
                # it was a page, too: who says it of every slice keeps nobody reading for ever
                self.budget.spend(items=0, size=len(answer.body))
                raise _TooMuch
            items = _items(listing, body, answer)
            self.budget.spend(items=len(items), size=len(answer.body))
            got = Got(url=url, status=answer.status, headers=answer.headers, body=body, count=len(items))
            following = listing.pager.after(place, got)
            items, older = self._asked_for(listing, items, inputs)
            if older:
                following = None
            seen.add(place)
            if following is not None and following in seen:
                raise errors.Stalled(
                    "AnswerNotUnderstood", "the provider's pages lead back to one that was read"
                )
            yield _Part(items=items, place=place, following=following)
            if following is None:
                return
            wait = waits.until_reset(answer, http=self._session.http, now=self._session.clock.now())
            if wait is not None:
                raise errors.Waiting("ProviderBusy", "the provider's quota is spent", after=wait)
            place = following

    def _asked_for(
        self, listing: Listing, items: list[Any], inputs: Mapping[str, Any]
    ) -> tuple[list[Any], bool]:
        """Of a list that begins with the newest: what is of the time asked for, and whether one is older."""
        if listing.newest_first is None:
            return items, False
        since, until = (records.parse_time(name, inputs[name]) for name in ("since", "until"))
        kept, older = [], False
        for item in items:
            at = self._time_of(listing.newest_first, part(item, listing.newest_first_reads))
            older = older or (at is not None and at < since)
            if at is None or since <= at < until:
                kept.append(item)
        return kept, older

    def _time_of(self, program: Program, item: Any) -> datetime | None:
        try:
            scope = expressions.bind_item(item, parent=None, project=self._project, lookup=self._sync.lookup)
            found = read_time(program.value(scope))
            return records.parse_time("time", found) if found is not None else None
        except (EvaluationError, ValueError):
            return None

    def _url(self, listing: Listing, inputs: Mapping[str, Any], place: str) -> str:
        address = listing.pager.address(place)
        if address is not None:
            return paging.check_origin(address, base=self._session.base_url)

        def render() -> str:
            scope = self._session.scope(inputs)
            query = {name: template.render(scope) for name, template in listing.query.items()}
            asked = {name: value for name, value in query.items() if value} | dict(listing.pager.query(place))
            return self._session.url(listing.path, scope, query=asked)

        return rendered(render, "sync")


def _within(item: Any, path: tuple[str, ...], found: Found) -> list[Any]:
    """The list that is a part of an item; none where the item has none."""
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    if item is None:
        return []
    if not isinstance(item, list) or len(item) > MAX_ITEMS:
        found.refuse(f"{'.'.join(path)}: is no list, or too long a one")
        return []
    return item


def _items(listing: Listing, body: Any, answer: Answer) -> list[Any]:
    """The items of a page.

    Raises:
        errors.Stalled: there is no list where the manifest has it.
    """
    found: Any = None
    if _PATH.fullmatch(listing.items.source):
        # a page is large: what is only picked out needs no conversion to and fro
        found = body
        for name in listing.items.source.split(".")[1:]:
            found = found.get(name) if isinstance(found, dict) else None
    else:
        try:
            scope = expressions.bind_answer(part(body, listing.items_read), answer.status, answer.headers)
            found = listing.items.value(scope)
        except EvaluationError:
            found = None
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise errors.Stalled("AnswerNotUnderstood", "the provider's answer has no list where one is expected")
    return found


def _capped(listing: Listing, body: Any, answer: Answer) -> bool:
    if listing.capped is None:
        return False
    try:
        scope = expressions.bind_answer(part(body, listing.capped_read), answer.status, answer.headers)
        return listing.capped.holds(scope)
    except EvaluationError:
        return False
