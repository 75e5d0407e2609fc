"""What every kind of authentication is given, and what it gives; and how one asks for a token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from connectors import waits
from connectors.auth.tokens import Grant, Tokens
from connectors.outbound import Answer, NotAnswered, Outbound
from pipewright import errors
from pipewright.expressions import EvaluationError, Scope, Template
from pipewright.ports import Clock, Secret

MAX_GRANT: Final = 64 * 1024
"""Bytes of an answer with a token."""
_HEADER_SAFE: Final = re.compile(r"[!-~]{1,4096}")
_GRANTED: Final = re.compile(r"[!-~]{1,16384}")
"""A token that says in itself what it allows is long."""
_OAUTH_ERROR: Final = re.compile(r"[a-z_]{1,40}")

Options = Mapping[str, Any]
Text = Callable[[str], Template]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is about to be sent, without the proof."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The proof: headers to add, and what of it must not be repeated to anybody."""

    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    forget: Callable[[], None] | None = field(default=None, repr=False)
    """The provider refused the token although it has not ended: sign again with another."""


class Auth(Protocol):
    """One kind, with the options of a manifest."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The credentials that it needs."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """The credentials that it uses if they are there."""
        ...

    async def sign(self, request: Request, caller: Caller) -> Signed:
        """The proof for this request.

        Raises:
            errors.Stalled: a credential is missing, malformed, or was refused where a token is granted.
            errors.Waiting, errors.Unreachable: no token can be had now; the request was not sent.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a request is signed, and what that may use."""

    title: str
    """The provider's, for messages."""
    base_url: str
    scope: Scope = field(repr=False)
    credentials: Mapping[str, Secret] = field(repr=False)
    client: Outbound = field(repr=False)
    tokens: Tokens = field(repr=False)
    clock: Clock = field(repr=False)
    timeout: float

    def text(self, template: Template) -> str:
        """A template of the manifest over this Integration's config.

        Raises:
            errors.Stalled: it has no value.
        """
        try:
            return template.render(self.scope)
        except EvaluationError as error:
            raise errors.Stalled("InvalidConfig", f"http.auth: {error.message}") from None

    def secret(self, name: str) -> str:
        """A field of the Secret, however many lines it has.

        Raises:
            errors.Stalled: it is missing or empty.
        """
        found = self.credentials.get(name, Secret("")).reveal().strip()
        if not found:
            raise refused(f"the Secret's field {name} is missing or empty")
        return found

    def word(self, name: str) -> str:
        """A field of the Secret that goes into a header as it is.

        Raises:
            errors.Stalled: it is missing, or has characters that no header may have.
        """
        found = self.credentials.get(name, Secret("")).reveal().strip()
        if not _HEADER_SAFE.fullmatch(found):
            raise refused(f"the Secret's field {name} is missing, empty or no token")
        return found

    async def bearer(self, key: bytes, grant: Grant) -> Signed:
        """A granted token in the header Authorization.

        Raises:
            as `grant`.
        """
        token = await self.tokens.get(key, grant)
        value = token.value.reveal()
        return Signed(
            headers={"Authorization": f"Bearer {value}"},
            secrets=(value,),
            forget=lambda: self.tokens.forget(key, token),
        )

    async def exchange(
        self,
        url: str,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Mapping[str, Any]:
        """Ask for a token, through the same guard as every request; gives the JSON object that answers.

        What is sent is the form or the body, if either is there.

        Raises:
            errors.Stalled: the credentials were refused.
            errors.Waiting, errors.Unreachable: nothing can be had now.
        """
        sent = {"Accept": "application/json", "User-Agent": "pipewright", "Accept-Encoding": "identity"}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            answer = await self.client.request(
                method,
                url,
                headers=sent | dict(headers or {}),
                body=urlencode(form).encode() if form is not None else body,
                timeout=self.timeout,
                max_bytes=MAX_GRANT,
            )
        except NotAnswered as lost:
            # what was to be done with the token was not even sent
            raise errors.Unreachable(lost.message) from None
        status, found = answer.status, _object(answer.body)
        self.check_busy(answer)
        if 400 <= status < 500:
            told = found.get("error")
            why = f", {told}" if isinstance(told, str) and _OAUTH_ERROR.fullmatch(told) else ""
            raise refused(f"{self.title} grants no token for the credentials (status {status}{why})")
        if not 200 <= status < 300 or not answer.complete:
            raise errors.Unreachable(f"{self.title} gave no token, but status {status}")
        return found

    def check_busy(self, answer: Answer) -> None:
        """Return unless the answer asks to wait.

        Raises:
            errors.Waiting: it does.
        """
        if answer.status in waits.NOT_DONE:
            wait = waits.retry_after(answer.headers.get("retry-after", ""), self.clock.now())
            raise errors.Waiting(
                "ProviderBusy", f"{self.title} grants no token now (status {answer.status})", after=wait
            )

    def granted(self, value: object) -> Secret:
        """The token in an answer.

        Raises:
            errors.Unreachable: it is none.
        """
        if not isinstance(value, str) or not _GRANTED.fullmatch(value):
            raise errors.Unreachable(f"{self.title} answered the request for a token without one")
        return Secret(value)

    def now(self) -> datetime:
        """The time."""
        return self.clock.now()


def refused(problem: str) -> errors.Stalled:
    """Credentials that cannot be used as they are."""
    return errors.Stalled("CredentialsRefused", problem)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
