"""Triggers × event × prediction → decisions. Pure: whether each workflow fires, and why or why not.

A trigger for another type of event is no news and makes no decision. One workflow decides once on an event:
any of its triggers suffices. A condition that fails to evaluate is "not fired", with the error as the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipewright import expressions
from pipewright.events import Event, Prediction
from pipewright.expressions import EvaluationError, ExpressionError, Scope
from pipewright.runner_facts import WORKFLOW_LABEL
from pipewright.store.records import Trigger

FIRED = "fired"
_LONGEST_NAME = 63
_HASH = 10
_LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One workflow's decision on one event."""

    workflow_uid: str
    workflow: str
    revision: str
    fired: bool
    reason: str


def concerned(triggers: Iterable[Trigger], event_type: str) -> list[Trigger]:
    """Those of the triggers that wait for this type of event."""
    return [trigger for trigger in triggers if trigger.event == event_type]


def decide(triggers: Sequence[Trigger], event: Event, prediction: Prediction | None) -> list[Verdict]:
    """What each workflow with a trigger for this type of event decides."""
    wanted = concerned(triggers, event.type)
    if not wanted:
        return []
    scope = expressions.bind_event(expressions.conditions(event.type), event, prediction)
    workflows: dict[tuple[str, str], list[Trigger]] = {}
    for trigger in wanted:
        workflows.setdefault((trigger.workflow_uid, trigger.revision), []).append(trigger)
    return [_verdict(of_one, event, scope) for of_one in workflows.values()]


def _verdict(triggers: Sequence[Trigger], event: Event, scope: Scope) -> Verdict:
    reasons = [reason(trigger, event, scope) for trigger in triggers]
    fired = FIRED in reasons
    first = triggers[0]
    return Verdict(
        workflow_uid=first.workflow_uid,
        workflow=first.workflow,
        revision=first.revision,
        fired=fired,
        reason=FIRED if fired else _together(triggers, reasons),
    )


def reason(trigger: Trigger, event: Event, scope: Scope) -> str:
    """`fired`, or why this trigger does not."""
    if not trigger.enabled:
        return "suspended"
    if trigger.integration is not None and trigger.integration != event.integration:
        return f"other integration: the trigger waits for {trigger.integration}"
    if not trigger.condition:
        return FIRED
    try:
        holds = scope.environment.condition(trigger.condition).holds(scope)
    except EvaluationError as error:
        return f"evaluation failed: {error.message}"
    except ExpressionError as error:
        return f"the condition does not compile: {error.message}"
    return FIRED if holds else "condition is false"


def _together(triggers: Sequence[Trigger], reasons: Sequence[str]) -> str:
    if len(reasons) == 1:
        return reasons[0][:_LONGEST_REASON]
    each = (f"triggers[{trigger.position}]: {why}" for trigger, why in zip(triggers, reasons, strict=True))
    return "; ".join(each)[:_LONGEST_REASON]


def run_name(verdict: Verdict, *, delivery_id: str) -> str:
    """The WorkflowRun's name: the same for the same decision, so that creating it twice creates it once."""
    key = f"{verdict.workflow_uid}|{delivery_id}|{verdict.revision}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:_HASH]
    return f"{verdict.workflow[: _LONGEST_NAME - _HASH - 1].rstrip('-.')}-{digest}"


def manifest(verdict: Verdict, event: Event, *, namespace: str) -> Mapping[str, Any]:
    """The WorkflowRun that a fired decision wants."""
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {
            "name": run_name(verdict, delivery_id=event.id),
            "namespace": namespace,
            "labels": {WORKFLOW_LABEL: verdict.workflow[:_LONGEST_NAME]},
        },
        "spec": {
            "workflow": {"name": verdict.workflow, "revision": verdict.revision},
            "event": {
                "integration": event.integration,
                "deliveryId": event.id,
                "type": event.type,
                "project": event.project,
                "runId": event.run.id,
                "attempt": event.run.attempt,
            },
        },
    }
