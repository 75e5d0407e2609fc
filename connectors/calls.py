"""One Integration's requests to its provider, and what each answer means. See `actions` for the table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode, urljoin

from connectors import waits
from connectors.auth import Caller, Request, Tokens
from connectors.finding import Finding
from connectors.mistakes import ConfigError
from connectors.outbound import Answer, Outbound
from pipewright import errors, expressions
from pipewright.expressions import EvaluationError, Scope, Template, text_of
from pipewright.ports import Clock, Secret, SystemClock

if TYPE_CHECKING:
    from connectors.http import Http
    from connectors.manifest import Manifest

MAX_WORDS: Final = 200
"""Characters of a provider's message that are passed on."""

MAX_TAIL: Final = 4000
"""Bytes of a text's end: an output that is longer could not be read by later steps."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_UNPRINTED = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours and the like in a log."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff]+")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How one Integration calls its provider: its settings and the fields of its Secret."""

    config: Mapping[str, Any]
    credentials: Mapping[str, Secret]


class Calls:
    """Requests under one account."""

    def __init__(
        self,
        manifest: Manifest,
        account: Account,
        *,
        client: Outbound,
        clock: Clock | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`tokens` keeps what was granted for longer than this account is at hand.

        Raises:
            errors.Stalled: a credential is missing, or the config is not what the connector wants.
        """
        assert manifest.http is not None, "a connector that is never called has no actions, check or sync"
        self._manifest, self._http = manifest, manifest.http
        self._client, self._clock = client, clock or SystemClock()
        self._credentials = account.credentials
        present = [name for name, value in account.credentials.items() if value.reveal().strip()]
        chosen = self._http.auth_of(present)
        if chosen is None:
            lacking = self._http.lacking(present)
            raise errors.Stalled("CredentialsRefused", f"the Secret lacks {lacking}")
        self._auth = chosen
        try:
            self._config = manifest.configure(account.config)
        except ConfigError as error:
            raise errors.Stalled("InvalidConfig", str(error)) from None
        scope = self.scope({})
        self._base = rendered(lambda: self._http.base_url.render(scope), "http.baseUrl").rstrip("/")
        self._caller = Caller(
            title=manifest.title,
            base_url=self._base,
            scope=scope,
            credentials=account.credentials,
            client=client,
            tokens=tokens or Tokens(clock=self._clock),
            clock=self._clock,
            timeout=self._http.timeout_seconds,
        )
        self._secrets: tuple[str, ...] = ()

    @property
    def base_url(self) -> str:
        """The provider's address, without a slash at its end."""
        return self._base

    @property
    def title(self) -> str:
        """The provider's name, for messages."""
        return self._manifest.title

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings, with defaults."""
        return self._config

    @property
    def http(self) -> Http:
        """How the provider is called."""
        return self._http

    @property
    def clock(self) -> Clock:
        """The time that waits are counted from."""
        return self._clock

    def scope(self, inputs: Mapping[str, Any]) -> Scope:
        """What templates see: these inputs and the config.

        Raises:
            EvaluationError: an input is too big.
        """
        return expressions.bind_input(inputs, self._config)

    def url(self, path: Template, scope: Scope, *, query: Mapping[str, str] | None = None) -> str:
        """The whole address: a path never leaves the base address's own.

        Raises:
            EvaluationError: a hole has no value.
            errors.Stalled: a value would climb out of its place.
        """
        place = path.render(scope, write=_written)
        if any(part in (".", "..") for part in place.split("/")):
            raise errors.Stalled("InvalidInput", "an input must not be . or ..")
        return self._base + place + (f"?{urlencode(query, quote_via=quote)}" if query else "")

    async def get(
        self, url: str, *, max_bytes: int | None = None, good: frozenset[int] = frozenset()
    ) -> Answer:
        """Read something; gives a good and whole answer only. `good` has statuses other than 2xx that are.

        Raises:
            as `send` and `refuse`, and errors.Stalled for an answer that is too large.
        """
        answer = await self.send("GET", url, max_bytes=max_bytes)
        if answer.status not in good:
            self.refuse(answer)
        if not answer.complete:
            most = max_bytes or self._http.max_response_bytes
            raise errors.Stalled(
                "AnswerTooLarge", f"{self._manifest.title} answered with more than {most} bytes"
            )
        return answer

    async def find(self, wanted: Finding, inputs: Mapping[str, Any], *, what: str) -> Mapping[str, Any]:
        """The further inputs that an item of a list tells; `what` begins the message where there is none.

        Raises:
            as `send` and `refuse`, and errors.Stalled (`NotFound`) where no item tells them.
        """
        url = rendered(lambda: self.url(wanted.path, self.scope(inputs)), what)
        answer = await self.send("GET", url, max_bytes=wanted.max_response_bytes)
        self.refuse(answer)
        told = wanted.told(body_of(answer), inputs)
        if told is None:
            raise errors.Stalled("NotFound", f"{what}: {self.title} has not what it is for, or not any more")
        return told

    async def follow(self, answer: Answer, url: str, *, max_bytes: int | None = None) -> Answer:
        """What lies where this answer to `url` leads; itself where it leads nowhere.

        The address is the provider's choice: it passes the rule for addresses, and gets no credentials.

        Raises:
            as `Outbound.request`.
        """
        target = answer.headers.get("location", "")
        if answer.status not in REDIRECTS or not target:
            return answer
        return await self._client.request(
            "GET",
            urljoin(url, target),
            headers={"Accept-Encoding": "identity", "User-Agent": self._http.headers.get("User-Agent", "")},
            timeout=self._http.timeout_seconds,
            max_bytes=max_bytes or self._http.max_response_bytes,
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Send one request, signed; once more if the provider refused a granted token before its end.

        `headers` are further ones, or others than the manifest's; a body without a type is JSON.

        Raises:
            as `Auth.sign` and `Outbound.request`.
        """
        answer, forget = await self._send(method, url, headers or {}, body, max_bytes)
        if answer.status == 401 and forget is not None:
            forget()
            answer, _ = await self._send(method, url, headers or {}, body, max_bytes)
        return answer

    async def _send(
        self,
        method: str,
        url: str,
        others: Mapping[str, str],
        body: bytes | None,
        max_bytes: int | None,
    ) -> tuple[Answer, Callable[[], None] | None]:
        typed = {} if body is None else {"Content-Type": "application/json"}
        headers = {**self._http.headers, "Accept-Encoding": "identity", **typed, **others}
        request = Request(method=method, url=url, headers=headers, body=body)
        signed = await self._auth.sign(request, self._caller)
        self._secrets = signed.secrets
        answer = await self._client.request(
            method,
            url,
            headers={**headers, **signed.headers},
            body=body,
            timeout=self._http.timeout_seconds,
            max_bytes=max_bytes or self._http.max_response_bytes,
        )
        return answer, signed.forget

    def refuse(self, answer: Answer) -> None:
        """Return if the answer is good.

        Raises:
            errors.Stalled, errors.Waiting, errors.Unreachable: what any other answer means.
        """
        status, title = answer.status, self._manifest.title
        if 200 <= status < 300:
            return
        wait = waits.wait_after(answer, http=self._http, now=self._clock.now())
        if wait is not None:
            raise errors.Waiting("ProviderBusy", f"{title} asks to wait (status {status})", after=wait)
        if status >= 500:
            raise errors.Unreachable(f"{title} answered {status}")
        words = self._words(answer)
        if status in (401, 403):
            raise errors.Stalled(
                "CredentialsRefused",
                f"{title} refused the credentials (status {status}){words}; "
                "check the token in the Secret, its expiry and its permissions",
            )
        raise errors.Stalled("ProviderRefused", f"{title} answered {status}{words}")

    def _words(self, answer: Answer) -> str:
        """The provider's own message: cut, cleaned, and without the secrets should they be repeated there."""
        if self._http.message is None:
            return ""
        try:
            words = self._http.message.value(bound(answer))
        except EvaluationError:
            return ""
        if not isinstance(words, str) or not words.strip():
            return ""
        for secret in self._secrets:
            words = words.replace(secret, "…")
        clean = " ".join(_UNPRINTABLE.sub(" ", words).split())
        return f": {clean if len(clean) <= MAX_WORDS else clean[: MAX_WORDS - 1] + '…'}"


def bound(answer: Answer, *, tail: bool = False) -> Scope:
    """The scope of an answer.

    Raises:
        EvaluationError: its body is too deep or too big for expressions.
    """
    return expressions.bind_answer(
        body_of(answer), answer.status, answer.headers, tail=tail_of(answer) if tail else ""
    )


def tail_of(answer: Answer) -> str:
    """The end of an answer that is a text: whole lines, as many as expressions may handle."""
    cut = answer.body[-MAX_TAIL:]
    if len(cut) < len(answer.body):
        _, _, cut = cut.partition(b"\n")
    return _UNPRINTED.sub("", cut.decode("utf-8", "ignore"))


def body_of(answer: Answer) -> Any:
    """The JSON of an answer; an empty object where it is cut, empty or no JSON."""
    try:
        found = json.loads(answer.body.decode("utf-8")) if answer.complete and answer.body.strip() else {}
    except (ValueError, RecursionError):
        return {}
    return found


def rendered(render: Callable[[], T], what: str) -> T:
    """What `render` gives.

    Raises:
        errors.Stalled: a value is missing or too big; `what` says where.
    """
    try:
        return render()
    except EvaluationError as error:
        raise errors.Stalled("InvalidInput", f"{what}: {error.message}") from None


def _written(value: Any) -> str:
    """One path segment: a slash in a value must not make two of it. A list is as many segments."""
    parts = value if isinstance(value, list) else [value]
    return "/".join(quote(text_of(part), safe="") for part in parts)
