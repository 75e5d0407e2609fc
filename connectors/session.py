"""What coded actions and listers call their provider with: signed, bounded, and to public addresses alone.

The credentials stay inside. A path is made of segments, so that no value of an input makes two of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from connectors import calls, waits
from connectors.calls import Calls
from connectors.outbound import Answer, NotAnswered
from pipewright import errors

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_READING: Final = frozenset({"GET"})


class Session:
    """Requests under one Integration's account."""

    def __init__(self, session: Calls) -> None:
        self._session = session
        self._changed = False

    @property
    def config(self) -> Mapping[str, Any]:
        """The Integration's settings, with defaults."""
        return self._session.config

    @property
    def changed(self) -> bool:
        """Whether something may have been done at the provider."""
        return self._changed

    async def request(
        self,
        method: str,
        *segments: str | int,
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        max_bytes: int | None = None,
        done: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send one request below the base address, and give a good and whole answer; `body` is sent as JSON.

        `done` has statuses other than 2xx that are good, too.

        Raises:
            errors.Stalled: the provider refuses it, or answers with more than `max_bytes`.
            errors.Waiting: the provider has no time now.
            errors.BackendError: there is no answer.
        """
        if method not in _METHODS:
            raise errors.Stalled("ConnectorBroken", f"the connector's code asks for the method {method[:20]}")
        address = self._session.base_url + _path(segments)
        if query:
            told = {name: str(value) for name, value in query.items() if value is not None}
            address += f"?{urlencode(told, quote_via=quote)}"
        sent = json.dumps(body).encode() if body is not None else None
        try:
            answer = await self._session.send(method, address, body=sent, max_bytes=max_bytes)
        except NotAnswered:
            self._changed = self._changed or method not in _READING
            raise
        if method not in _READING and not _surely_refused(answer):
            self._changed = True
        if answer.status not in done:
            self._session.refuse(answer)
        if not answer.complete:
            raise errors.Stalled("AnswerTooLarge", "the provider's answer is larger than the connector reads")
        return answer

    @staticmethod
    def json(answer: Answer) -> Any:
        """The JSON of an answer; an empty object where it is none."""
        return calls.body_of(answer)

    @staticmethod
    def tail(answer: Answer) -> str:
        """The last whole lines of an answer that is a text."""
        return calls.tail_of(answer)


def _path(segments: tuple[str | int, ...]) -> str:
    parts = [str(segment) for segment in segments]
    if any(part in ("", ".", "..") for part in parts):
        raise errors.Stalled("InvalidInput", "an input must not be empty, . or ..")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _surely_refused(answer: Answer) -> bool:
    return 400 <= answer.status < 500 or answer.status in waits.NOT_DONE
