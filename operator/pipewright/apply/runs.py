"""What is done for a WorkflowRun: rows of the journal, and steps' actions between intent and outcome.

The account is read before the intent, too: a server of ours that does not answer leaves no attempt behind.
From the intent on a provider's answer, good or bad, becomes an outcome in the journal. Only when that row
cannot be written does an error leave this room; the next pass then finds an intent without an outcome, as
after a crash.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeVar, assert_never

from pydantic import ValidationError

from pipewright import errors, expressions, plan
from pipewright.actions import run
from pipewright.actions.run import RunAction
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import apply
from pipewright.expressions import EvaluationError, ExpressionError
from pipewright.plan import Manifest, Ref
from pipewright.ports import RunnerPorts, Secret
from pipewright.runner_facts import Performed

ActionT = TypeVar("ActionT")


async def side_by_side(
    wanted: plan.Plan[ActionT], perform: Callable[[ActionT], Awaitable[None]]
) -> plan.Results:
    """As `apply`, but the chains run at the same time: a slow step does not hold its neighbours."""
    alone = [plan.Plan(chains=(chain,)) for chain in wanted.chains]
    results = await asyncio.gather(*(apply(one, perform) for one in alone))
    return plan.Results(
        done=tuple(pair for result in results for pair in result.done),
        failures=tuple(failure for result in results for failure in result.failures),
    )


async def perform(action: RunAction, *, ports: RunnerPorts) -> None:
    """Do one action."""
    journal = ports.journal
    match action:
        case run.BeginRun():
            await journal.begin(
                action.tenant,
                run_uid=action.run_uid,
                namespace=action.namespace,
                name=action.name,
                workflow_uid=action.workflow_uid,
            )
        case run.SkipStep():
            await journal.finish_step(
                action.tenant,
                run_uid=action.run_uid,
                step=action.step,
                attempt=1,
                phase="Skipped",
                message=action.reason,
            )
        case run.BeginStep():
            with contextlib.suppress(errors.Stalled):  # that is an outcome: the attempt ends with it
                await _account(action, ports)
            await journal.begin_step(
                action.tenant, run_uid=action.run_uid, step=action.step, attempt=action.attempt
            )
        case run.PerformStep():
            await _perform_step(action, ports)
        case run.FinishStep():
            await journal.finish_step(
                action.tenant,
                run_uid=action.run_uid,
                step=action.step,
                attempt=action.attempt,
                phase=action.phase,
                message=action.message,
            )
        case run.FinishRun():
            await journal.finish(
                action.tenant, run_uid=action.run_uid, phase=action.phase, reason=action.reason
            )
        case _:
            assert_never(action)


async def _perform_step(action: run.PerformStep, ports: RunnerPorts) -> None:
    performed = await _in_time(action, ports)
    outputs: dict[str, str] = {}
    if performed.phase == "Succeeded":
        try:
            outputs = _outputs(action.outputs, performed.result)
        except EvaluationError as error:
            # done, but not as the workflow needs it: repeating it is for `onUnknown` to allow
            performed = Performed(phase="Unknown", message=f"it was done, but {error.message}")
    await ports.journal.finish_step(
        action.tenant,
        run_uid=action.run_uid,
        step=action.step,
        attempt=action.attempt,
        phase=performed.phase,
        message=performed.message,
        outputs=outputs,
        after=performed.after if performed.phase == "Failed" else None,
    )


async def _in_time(action: run.PerformStep, ports: RunnerPorts) -> Performed:
    """What came of the action. Until the account is read nothing is sent."""
    sent = False
    unanswered: Literal["Failed", "Unknown"] = "Failed" if action.idempotent else "Unknown"
    try:
        async with asyncio.timeout(action.timeout.total_seconds()) as stopwatch:
            integration, credentials = await _account(action, ports)
            sent = True
            return await ports.actions.perform(
                connector=integration.spec.connector,
                action=action.action,
                config=integration.spec.config,
                credentials=credentials,
                inputs=action.inputs,
            )
    except TimeoutError:
        if not stopwatch.expired():
            raise
        message = f"there was no answer within {action.timeout.total_seconds():g} s"
        return Performed(phase=unanswered, message=message) if sent else _put_off(message)
    except errors.Stalled as refused:
        return Performed(phase=unanswered if sent else "Failed", message=refused.message)
    except (errors.Waiting, errors.BackendError) as trouble:
        after = trouble.after if isinstance(trouble, errors.Waiting) else timedelta(0)
        if sent:
            return Performed(phase=unanswered, message=trouble.message)
        return _put_off(trouble.message, after=after)


def _put_off(message: str, *, after: timedelta = timedelta(0)) -> Performed:
    """Nothing was sent for want of our own servers, which is none of the step's retries."""
    return Performed(phase="Failed", message=message, after=after)


async def _account(
    action: run.BeginStep | run.PerformStep, ports: RunnerPorts
) -> tuple[Integration, Mapping[str, Secret]]:
    """The Integration and the fields of its Secret, read when they are needed and kept nowhere.

    Raises:
        Stalled: one of them is not there, or the Integration's spec cannot be read.
        Unreachable: the API server does not answer.
    """
    named = Ref(
        api_version=Integration.api_version,
        kind=Integration.kind,
        namespace=action.namespace,
        name=action.integration,
    )
    found = await ports.cluster.get(named)
    if found is None:
        raise errors.Stalled("IntegrationMissing", f"there is no Integration {action.integration}")
    try:
        integration = Integration.parse(found)
    except ValidationError:
        message = f"the spec of the Integration {action.integration} cannot be read: its conditions say why"
        raise errors.Stalled("InvalidSpec", message) from None
    if integration.spec.credentials is None:
        return integration, {}
    name = integration.spec.credentials.secret_ref.name
    held = await ports.cluster.get(
        Ref(api_version="v1", kind="Secret", namespace=action.namespace, name=name)
    )
    if held is None:
        raise errors.Stalled("SecretMissing", f"there is no Secret {name}")
    return integration, fields_of(held)


def fields_of(secret: Manifest) -> dict[str, Secret]:
    """The values of a Kubernetes Secret that are text; the others are left out."""
    found: dict[str, Secret] = {}
    for key, encoded in (secret.get("data") or {}).items():
        try:
            found[key] = Secret(base64.b64decode(encoded, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def _outputs(wanted: Mapping[str, str], result: Any) -> dict[str, str]:
    """A step's outputs by name.

    Raises:
        EvaluationError: names the output that has no value.
    """
    scope = expressions.bind_result(result)
    found: dict[str, str] = {}
    for name, source in wanted.items():
        try:
            found[name] = expressions.text_of(expressions.outputs().expression(source).value(scope))
        except (EvaluationError, ExpressionError) as error:
            raise EvaluationError(f"its output {name} could not be read: {error.message}") from None
    return found
