"""Making and keeping a project's webhook at its provider, by the manifest's `webhook.registration`.

A webhook is ours when its address ends in our path, which nobody can guess, or when it has the id that we
noted. So one that somebody entered by hand is adopted, and one made just before a crash is found again.
No message holds the secret, nor what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from connectors import calls, paging
from connectors.calls import Calls, rendered
from connectors.outbound import Answer
from connectors.paging import Got
from connectors.registration import Body, HookListing, HookRequest, Registration
from connectors.rules import part
from pipewright import errors, expressions
from pipewright.expressions import EvaluationError, Scope, Template, text_of
from pipewright.ports import Secret

MAX_PAGES: Final = 20
MAX_ITEMS: Final = 1000
"""Of one page."""
MAX_ID: Final = 100
"""Characters of a provider's id."""
GONE: Final = frozenset({404, 410})
"""Answers to a removal that say that there is nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook of ours as the provider has it."""

    id: str
    url: str
    current: bool
    """It is on, and for the events that are used; of its secret no provider tells."""


class Registrar:
    """The webhooks of one project, under one account."""

    def __init__(self, session: Calls, wanted: Registration, *, project: str) -> None:
        self._session, self._wanted, self._project = session, wanted, project
        self._told: Mapping[str, Any] | None = None

    async def find(self, *, path: str, known: str = "") -> list[Hook]:
        """Those that are ours: by the path of our address, or by the id `known`.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: the provider does not tell.
        """
        inputs, listing = await self._inputs(), self._wanted.listing
        found: dict[str, Hook] = {}
        place, seen = paging.START, set[str]()
        while place not in seen and len(seen) < MAX_PAGES:
            seen.add(place)
            url = self._list_url(listing, inputs, place)
            answer = await self._session.get(url)
            body = calls.body_of(answer)
            items = _items(listing, body, answer)
            for item in items:
                hook = self._hook(listing, item)
                if hook is not None and (hook.id == known or _path_of(hook.url).endswith(path)):
                    found[hook.id] = hook
            got = Got(url=url, status=answer.status, headers=answer.headers, body=body, count=len(items))
            following = listing.pager.after(place, got)
            if following is None:
                return list(found.values())
            place = following
        raise errors.Stalled("AnswerTooLarge", f"{self._project} has too many webhooks to look through")

    async def create(self, *, url: str, secret: Secret) -> None:
        """Make one. That it may have been made although this raises is found out by the next `find`.

        Raises:
            as `find`.
        """
        self._session.refuse(await self._send(self._wanted.create, url=url, secret=secret))

    async def update(self, hook_id: str, *, url: str, secret: Secret) -> None:
        """Make one what it should be, address and secret too.

        Raises:
            as `find`.
        """
        self._session.refuse(await self._send(self._wanted.update, hook_id=hook_id, url=url, secret=secret))

    async def delete(self, hook_id: str) -> None:
        """Remove one; gone already counts as done.

        Raises:
            as `find`.
        """
        answer = await self._send(self._wanted.delete, hook_id=hook_id)
        if answer.status not in GONE:
            self._session.refuse(answer)

    async def _inputs(self) -> Mapping[str, Any]:
        """The project, and what is asked for before."""
        if self._told is not None:
            return self._told
        told: dict[str, Any] = {"project": self._project}
        target = self._wanted.target
        if target is not None:
            scope = self._session.scope(told)
            url = rendered(lambda: self._session.url(target.path, scope), "registration")
            answer = await self._session.get(url)
            body = part(calls.body_of(answer), target.reads)
            try:
                answered = expressions.bind_answer(body, answer.status, answer.headers)
                told |= {name: program.value(answered) for name, program in target.inputs.items()}
            except EvaluationError as error:
                raise errors.Stalled("AnswerNotUnderstood", f"{self._project}: {error.message}") from None
        self._told = told
        return told

    async def _send(
        self, wanted: HookRequest, *, url: str = "", secret: Secret | None = None, hook_id: str = ""
    ) -> Answer:
        values = {
            **await self._inputs(),
            "id": hook_id,
            "url": url,
            "secret": secret.reveal() if secret else "",
        }

        def render() -> tuple[str, bytes | None]:
            scope = self._session.scope(values)
            body = {name: _filled(value, scope) for name, value in wanted.body.items()}
            address = self._session.url(wanted.path, scope)
            return address, json.dumps(body, default=text_of).encode() if body else None

        address, body = rendered(render, "registration")
        return await self._session.send(wanted.method, address, body=body)

    def _list_url(self, listing: HookListing, inputs: Mapping[str, Any], place: str) -> str:
        address = listing.pager.address(place)
        if address is not None:
            return paging.check_origin(address, base=self._session.base_url)

        def render() -> str:
            scope = self._session.scope(inputs)
            query = {name: template.render(scope) for name, template in listing.query.items()}
            return self._session.url(listing.path, scope, query=query | dict(listing.pager.query(place)))

        return rendered(render, "registration")

    def _hook(self, listing: HookListing, item: Any) -> Hook | None:
        """One of the list; None for one that has another shape, which is then none that we made."""
        try:
            scope = expressions.bind_item(
                part(item, listing.item_read), parent=None, project=self._project, lookup={}
            )
            id_, url = text_of(listing.id.value(scope)), text_of(listing.url.value(scope))
        except EvaluationError:
            return None
        if not 0 < len(id_) <= MAX_ID or not id_.isprintable():
            return None
        try:
            current = listing.current.holds(scope)
        except EvaluationError:
            current = False
        return Hook(id=id_, url=url, current=current)


def _items(listing: HookListing, body: Any, answer: Answer) -> list[Any]:
    try:
        scope = expressions.bind_answer(part(body, listing.items_read), answer.status, answer.headers)
        found = listing.items.value(scope)
    except EvaluationError:
        found = None
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise errors.Stalled("AnswerNotUnderstood", "the provider's answer has no list of webhooks")
    return found


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _filled(body: Body, scope: Scope) -> Any:
    match body:
        case Template():
            return body.value(scope)
        case tuple():
            return [_filled(value, scope) for value in body]
        case Mapping():
            return {name: _filled(value, scope) for name, value in body.items()}
        case _:
            return body
