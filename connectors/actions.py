"""Doing something at a provider by a connector's manifest, its answer in words the runner knows.

An action is one request, perhaps after one that finds what it needs, or an operation of the OCI Distribution
API (`connectors.oci`).

What a provider's answer means for the one who asked:

    2xx                      done: the outputs
    401, 403                 Stalled CredentialsRefused: a person must change the token
    other 4xx, 3xx           Stalled ProviderRefused, with the provider's own words
    429, 503, a spent quota  Waiting, as long as the provider says: it surely did nothing
    other 5xx, no answer     OutcomeUnknown if doing it twice matters, else Unreachable

No message holds the credentials, nor what was sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from connectors import calls, code, waits
from connectors.auth import Tokens
from connectors.calls import Account, Calls, rendered
from connectors.manifest import Action, Manifest
from connectors.mistakes import ConfigError
from connectors.oci.operations import OPERATIONS
from connectors.oci.registry import Registry
from connectors.outbound import NotAnswered, Outbound
from connectors.scopes import Scopes
from connectors.session import Session
from pipewright import errors, expressions
from pipewright.expressions import EvaluationError, Scope, text_of
from pipewright.ports import Clock

CODE_SECONDS: Final = 120.0
"""How long an action may take that is code, all of its requests together."""


class OutcomeUnknown(errors.Unreachable):
    """A request that must not be repeated blindly was sent, and nobody knows whether it was carried out."""

    reason = "OutcomeUnknown"


async def perform(
    manifest: Manifest,
    action: str,
    *,
    inputs: Mapping[str, Any],
    account: Account,
    client: Outbound,
    clock: Clock | None = None,
    tokens: Tokens | None = None,
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
    session = Calls(manifest, account, client=client, clock=clock, tokens=tokens)
    if wanted.operation:
        found = await OPERATIONS[wanted.operation](Registry(session), _typed(wanted, inputs))
        return _outputs(wanted, rendered(lambda: expressions.bind_answer(found, 200, {}), "the answer"))
    if wanted.code is not None:
        return await _by_code(session, wanted, wanted.code, inputs)
    typed = _typed(wanted, inputs)
    if wanted.find is not None:
        typed = {**typed, **await session.find(wanted.find, typed, what=wanted.name)}
    url, body = _prepare(session, wanted, typed)
    accept = {"Accept": wanted.accept} if wanted.accept else None
    try:
        answer = await session.send(
            wanted.method, url, headers=accept, body=body, max_bytes=wanted.max_response_bytes
        )
        if wanted.follow:
            answer = await session.follow(answer, url, max_bytes=wanted.max_response_bytes)
    except NotAnswered as error:
        if wanted.idempotent:
            raise
        raise OutcomeUnknown(f"{wanted.name}: {error.message}; it may have been done") from None
    if answer.status >= 500 and answer.status not in waits.NOT_DONE and not wanted.idempotent:
        raise OutcomeUnknown(
            f"{wanted.name}: {manifest.title} answered {answer.status}; it may have been done"
        )
    if answer.status not in wanted.done:
        session.refuse(answer)
    if not answer.complete:
        raise errors.Stalled(
            "AnswerTooLarge",
            f"{manifest.title} did it (status {answer.status}), but its answer exceeds "
            f"{wanted.max_response_bytes or session.http.max_response_bytes} bytes and was not read",
        )
    return _outputs(wanted, rendered(lambda: calls.bound(answer, tail=True), "the answer"))


async def _by_code(
    calls_: Calls, action: Action, do: code.Action, inputs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Have the code of the connector's package do it. As `perform`, by what it has sent so far."""
    typed, session = _typed(action, inputs), Session(calls_)
    trouble: errors.Stalled | errors.Waiting | errors.BackendError
    try:
        async with asyncio.timeout(CODE_SECONDS):
            said = await do(session, typed)
        return _outputs(action, rendered(lambda: expressions.bind_answer(said, 200, {}), action.name))
    except (errors.Stalled, errors.Waiting, errors.BackendError) as error:
        trouble = error
    except TimeoutError:
        trouble = errors.Unreachable(f"{action.name} took longer than {CODE_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001 - the border to code of others
        trouble = errors.Stalled(
            "ConnectorBroken", f"the connector's code for {action.name} failed: {type(error).__name__}"
        )
    if session.changed and not action.idempotent:
        raise OutcomeUnknown(f"{trouble.message}; it may have been done") from None
    raise trouble


def _prepare(session: Calls, action: Action, typed: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """URL and body of an action's request."""

    def render() -> tuple[str, bytes | None]:
        scope = session.scope(typed)
        fields = {name: template.value(scope) for name, template in action.body.items()}
        told = {name: value for name, value in fields.items() if value is not None}
        query = {name: template.render(scope) for name, template in action.query.items()}
        address = session.url(action.path, scope, query=query)
        return address, json.dumps(told, default=text_of).encode() if fields else None

    return rendered(render, action.name)


def _typed(action: Action, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return action.parse(inputs)
    except ConfigError as error:
        raise errors.Stalled("InvalidInput", str(error)) from None


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


async def check(
    manifest: Manifest,
    *,
    account: Account,
    client: Outbound,
    clock: Clock | None = None,
    tokens: Tokens | None = None,
) -> Scopes | None:
    """Return if the provider accepts the credentials; what they may do, where it tells.

    Raises:
        as `perform`, but never OutcomeUnknown.
    """
    wanted = manifest.check
    assert wanted is not None, "a connector that is never called has no check"
    session = Calls(manifest, account, client=client, clock=clock, tokens=tokens)
    url = rendered(lambda: session.url(wanted.path, session.scope({})), "check")
    answer = await session.get(url)
    if wanted.scopes is None:
        return None
    return wanted.scopes.compare(calls.body_of(answer), status=answer.status, headers=answer.headers)
