"""What is done for a WorkflowRun: rows of the journal, and steps' actions between intent and outcome.

A provider's answer, good or bad, becomes an outcome in the journal. Only when that row cannot be written does
an error leave this room; the next pass then finds an intent without an outcome, as after a crash.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, assert_never

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
    )


async def _in_time(action: run.PerformStep, ports: RunnerPorts) -> Performed:
    sent = False
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
        seconds = action.timeout.total_seconds()
        safe = action.idempotent or not sent
        return Performed(
            phase="Failed" if safe else "Unknown", message=f"there was no answer within {seconds:g} s"
        )
    except (errors.Waiting, errors.Stalled, errors.BackendError) as refused:
        # nearly always before anything was sent: the Integration, its Secret or the API server
        safe = action.idempotent or not sent
        return Performed(phase="Failed" if safe else "Unknown", message=refused.message)


async def _account(action: run.PerformStep, ports: RunnerPorts) -> tuple[Integration, Mapping[str, Secret]]:
    """The Integration and the fields of its Secret, read when they are needed and kept nowhere."""
    named = Ref(
        api_version=Integration.api_version,
        kind=Integration.kind,
        namespace=action.namespace,
        name=action.integration,
    )
    found = await ports.cluster.get(named)
    if found is None:
        raise errors.Stalled("IntegrationMissing", f"there is no Integration {action.integration}")
    integration = Integration.parse(found)
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
