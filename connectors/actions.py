"""Doing something at a provider: one request by a connector's manifest, its answer in words the runner knows.

What a provider's answer means for the one who asked:

    2xx                      done: the outputs
    401, 403                 Stalled CredentialsRefused: a person must change the token
    other 4xx, 3xx           Stalled ProviderRefused, with the provider's own words
    429, 503, a spent quota  Waiting, as long as the provider says: it surely did nothing
    other 5xx, no answer     OutcomeUnknown if doing it twice matters, else Unreachable

No message holds the credentials, nor what was sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

from connectors.manifest import Action, ConfigError, Http, Manifest
from connectors.outbound import Answer, NotAnswered, Outbound
from pipewright import errors, expressions
from pipewright.expressions import EvaluationError, Scope, Template
from pipewright.ports import Clock, Secret, SystemClock

MAX_WORDS: Final = 200
"""Characters of a provider's message that are passed on."""
SHORTEST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(hours=1)
DEFAULT_WAIT: Final = timedelta(seconds=30)

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff]+")
_HEADER_SAFE = re.compile(r"[!-~]{1,4096}")
_NOT_DONE: Final = frozenset({429, 503})
"""Statuses that say that the request was not carried out (RFC 6585 §4, RFC 9110 §15.6.4)."""


T = TypeVar("T")


class OutcomeUnknown(errors.Unreachable):
    """A request that must not be repeated blindly was sent, and nobody knows whether it was carried out."""

    reason = "OutcomeUnknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How one Integration calls its provider: its settings and the fields of its Secret."""

    config: Mapping[str, Any]
    credentials: Mapping[str, Secret]


async def perform(
    manifest: Manifest,
    action: str,
    *,
    inputs: Mapping[str, Any],
    account: Account,
    client: Outbound,
    clock: Clock | None = None,
) -> Mapping[str, Any]:
    """Have an action done; gives its outputs by name, plain JSON values.

    Raises:
        errors.Stalled: an unknown action, wrong inputs, refused credentials, or the provider said no.
        errors.Waiting: the provider has no time now; nothing was done.
        OutcomeUnknown: sent, not answered, and not idempotent.
        errors.Unreachable: not sent, or may be sent again.
    """
    wanted = manifest.actions.get(action)
    if wanted is None:
        known = ", ".join(sorted(manifest.actions)) or "none"
        raise errors.Stalled("UnknownAction", f"{manifest.title} has no action {action}; it has {known}")
    call = _Call(manifest, account, clock or SystemClock())
    request = call.prepare(wanted, inputs)
    try:
        answer = await call.send(client, wanted.method, *request)
    except NotAnswered as error:
        if wanted.idempotent:
            raise
        raise OutcomeUnknown(f"{wanted.name}: {error.message}; it may have been done") from None
    if answer.status >= 500 and answer.status not in _NOT_DONE and not wanted.idempotent:
        raise OutcomeUnknown(
            f"{wanted.name}: {manifest.title} answered {answer.status}; it may have been done"
        )
    return _outputs(wanted, call.accept(answer))


async def check(
    manifest: Manifest, *, account: Account, client: Outbound, clock: Clock | None = None
) -> None:
    """Return if the provider accepts the credentials.

    Raises:
        as `perform`, but never OutcomeUnknown.
    """
    call = _Call(manifest, account, clock or SystemClock())
    path = _rendered(lambda: call.check_path.render(call.scope({}), escape=_escape), "check")
    call.accept(await call.send(client, "GET", call.url(path), None))


class _Call:
    """One request under one account, and what its answer means."""

    def __init__(self, manifest: Manifest, account: Account, clock: Clock) -> None:
        assert manifest.http is not None, "a connector that is never called has no actions and no check"
        self._manifest = manifest
        self._http: Http = manifest.http
        self._clock = clock
        self._token = account.credentials.get(manifest.http.token_field, Secret("")).reveal().strip()
        if not _HEADER_SAFE.fullmatch(self._token):
            field = manifest.http.token_field
            raise errors.Stalled(
                "CredentialsRefused", f"the Secret's field {field} is missing, empty or no token"
            )
        try:
            self._config = manifest.configure(account.config)
        except ConfigError as error:
            raise errors.Stalled("InvalidConfig", str(error)) from None

    @property
    def check_path(self) -> Template:
        """What is asked to see whether the credentials are accepted."""
        return self._http.check_path

    def scope(self, inputs: Mapping[str, Any]) -> Scope:
        return expressions.bind_input(inputs, self._config)

    def prepare(self, action: Action, inputs: Mapping[str, Any]) -> tuple[str, bytes | None]:
        """URL and body of an action's request."""
        try:
            typed = action.parse(inputs)
        except ConfigError as error:
            raise errors.Stalled("InvalidInput", str(error)) from None

        def render() -> tuple[str, bytes | None]:
            scope = self.scope(typed)
            path = action.path.render(scope, escape=_escape)
            fields = {name: template.render(scope) for name, template in action.body.items()}
            return path, json.dumps(fields).encode() if fields else None

        path, body = _rendered(render, action.name)
        return self.url(path), body

    def url(self, path: str) -> str:
        """The whole address: a path never leaves the base address's own."""
        if any(part in (".", "..") for part in path.split("/")):
            raise errors.Stalled("InvalidInput", "an input must not be . or ..")
        base = _rendered(lambda: self._http.base_url.render(self.scope({})), "http.baseUrl")
        return base.rstrip("/") + path

    async def send(self, client: Outbound, method: str, url: str, body: bytes | None) -> Answer:
        headers = {
            **self._http.headers,
            "Authorization": f"Bearer {self._token}",
            "Accept-Encoding": "identity",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await client.request(
            method,
            url,
            headers=headers,
            body=body,
            timeout=self._http.timeout_seconds,
            max_bytes=self._http.max_response_bytes,
        )

    def accept(self, answer: Answer) -> Scope:
        """The scope of a good answer, for its outputs; any other answer as the error that it is."""
        body = _json(answer) if answer.complete else None
        self._refuse(answer, body)
        if not answer.complete:
            raise errors.Stalled(
                "AnswerTooLarge",
                f"{self._manifest.title} did it (status {answer.status}), but its answer exceeds "
                f"{self._http.max_response_bytes} bytes and was not read",
            )
        return _rendered(lambda: expressions.bind_answer(body, answer.status), "the answer")

    def _refuse(self, answer: Answer, body: Any) -> None:
        status, title = answer.status, self._manifest.title
        if 200 <= status < 300:
            return
        wait = self._wait(answer)
        if wait is not None:
            raise errors.Waiting("ProviderBusy", f"{title} asks to wait (status {status})", after=wait)
        if status >= 500:
            raise errors.Unreachable(f"{title} answered {status}")
        if status in (401, 403):
            raise errors.Stalled(
                "CredentialsRefused",
                f"{title} refused the credentials (status {status}){self._words(answer, body)}; "
                "check the token in the Secret, its expiry and its permissions",
            )
        raise errors.Stalled("ProviderRefused", f"{title} answered {status}{self._words(answer, body)}")

    def _words(self, answer: Answer, body: Any) -> str:
        """The provider's own message: cut, cleaned, and without the token should it be repeated there."""
        if self._http.message is None:
            return ""
        try:
            words = self._http.message.value(expressions.bind_answer(body, answer.status))
        except EvaluationError:
            return ""
        if not isinstance(words, str) or not words.strip():
            return ""
        clean = " ".join(_UNPRINTABLE.sub(" ", words.replace(self._token, "…")).split())
        return f": {clean if len(clean) <= MAX_WORDS else clean[: MAX_WORDS - 1] + '…'}"

    def _wait(self, answer: Answer) -> timedelta | None:
        """How long to wait before the same again; None if this answer does not mean that."""
        limit = self._http.rate_limit
        after = answer.headers.get(self._http.retry_header, "")
        if limit is not None and answer.status in limit.statuses:
            if answer.headers.get(limit.remaining) == "0":
                return _bounded(_epoch(answer.headers.get(limit.reset, ""), self._clock.now()))
            if after:
                return _bounded(_retry_after(after, self._clock.now()))
        if answer.status in _NOT_DONE or (answer.status in self._http.retry_statuses and after):
            return _bounded(_retry_after(after, self._clock.now()))
        return None


def _outputs(action: Action, scope: Scope) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, program in action.output.items():
        try:
            found[name] = program.value(scope)
        except EvaluationError as error:
            raise errors.Stalled(
                "AnswerNotUnderstood",
                f"{action.name} was done, but its answer has no output {name}: {error.message}",
            ) from None
    return found


def _rendered(render: Callable[[], T], what: str) -> T:
    try:
        return render()
    except EvaluationError as error:
        raise errors.Stalled("InvalidInput", f"{what}: {error.message}") from None


def _escape(text: str) -> str:
    """One path segment: a slash in a value must not make two of it."""
    return quote(text, safe="")


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body.decode("utf-8")) if answer.body.strip() else {}
    except (ValueError, RecursionError):
        return {}


def _retry_after(text: str, now: datetime) -> timedelta | None:
    """Retry-After: seconds or a date (RFC 9110 §10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return timedelta(seconds=int(text))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return (until if until.tzinfo else until.replace(tzinfo=UTC)) - now


def _epoch(text: str, now: datetime) -> timedelta | None:
    if not re.fullmatch(r"[0-9]{1,11}", text.strip()):
        return None
    return timedelta(seconds=math.ceil(int(text) - now.timestamp()))


def _bounded(wait: timedelta | None) -> timedelta:
    return DEFAULT_WAIT if wait is None else min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
