"""Triggers × event × prediction → decisions. Pure: whether each workflow fires, and why or why not.

A trigger for another type of event is no news and makes no decision. One workflow decides once on an event:
any of its triggers suffices. A condition that fails to evaluate is "not fired", with the error as the reason.
So is one that comes when the conditions before it have used up what an event may cost a namespace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipewright import expressions
from pipewright.events import Event, Prediction
from pipewright.expressions import EvaluationError, ExpressionError, Scope
from pipewright.runner_facts import WORKFLOW_LABEL
from pipewright.store.records import Trigger

FIRED = "fired"
HELD = "the run is in the model's control group: nothing is done by its prediction"
_LONGEST_NAME = 63
_HASH = 16
_LONGEST_REASON = 1000

BUDGET = 2_000_000
"""Units of `expressions.cost` that all conditions of a namespace may cost at worst on one event: four of the
dearest ones that are allowed, 50 to 160 ms."""
USED_UP = "the namespace's budget of condition cost per event is used up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Of which models' control groups the event's run is: nothing is done by what these said."""

    failure: bool = False
    duration: bool = False
    cause: bool = False

    def by(self, paths: Collection[tuple[str, ...]]) -> bool:
        """Whether a condition that reads these paths of `prediction` would do something by it."""
        parts = {"duration": self.duration, "cause": self.cause}
        return any(
            parts.get(path[0], self.failure) if path else self.failure or any(parts.values())
            for path in paths
        )


NOT_HELD = Held()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One workflow's decision on one event."""

    workflow_uid: str
    workflow: str
    revision: str
    fired: bool
    reason: str


@dataclass(slots=True)
class _Budget:
    """What is left for the conditions of one event."""

    left: int

    def pays(self, cost: int) -> bool:
        """Take the cost; False, and nothing taken, when it is more than what is left."""
        if cost > self.left:
            return False
        self.left -= cost
        return True


def concerned(triggers: Iterable[Trigger], event_type: str) -> list[Trigger]:
    """Those of the triggers that wait for this type of event."""
    return [trigger for trigger in triggers if trigger.event == event_type]


def decide(
    triggers: Sequence[Trigger],
    event: Event,
    prediction: Prediction | None,
    *,
    held: Held = NOT_HELD,
    budget: int = BUDGET,
) -> Iterator[Verdict]:
    """What each workflow with a trigger for this type of event decides: each when it is asked for, so that a
    caller on an event loop can give others a turn between two of them. `triggers` are of one namespace.

    `held`: of what there is a prediction, and nothing is to be done by it.
    """
    wanted = concerned(triggers, event.type)
    if not wanted:
        return
    scope = expressions.bind_event(expressions.conditions(event.type), event, prediction)
    workflows: dict[tuple[str, str], list[Trigger]] = {}
    for trigger in wanted:
        workflows.setdefault((trigger.workflow_uid, trigger.revision), []).append(trigger)
    purse = _Budget(budget)
    for of_one in workflows.values():
        yield _verdict(of_one, event, scope, purse, held=held)


def _verdict(
    triggers: Sequence[Trigger], event: Event, scope: Scope, purse: _Budget, *, held: Held
) -> Verdict:
    reasons: list[str] = []
    for trigger in triggers:
        reasons.append(_reason(trigger, event, scope, purse, held=held))
        if reasons[-1] == FIRED:
            break
    fired = FIRED in reasons
    first = triggers[0]
    return Verdict(
        workflow_uid=first.workflow_uid,
        workflow=first.workflow,
        revision=first.revision,
        fired=fired,
        reason=FIRED if fired else _together(triggers, reasons),
    )


def _reason(trigger: Trigger, event: Event, scope: Scope, purse: _Budget, *, held: Held) -> str:
    """`fired`, or why this trigger does not."""
    if not trigger.enabled:
        return "suspended"
    if trigger.integration is not None and trigger.integration != event.integration:
        return f"other integration: the trigger waits for {trigger.integration}"
    if not trigger.condition:
        return FIRED
    try:
        condition = scope.environment.condition(trigger.condition)
        if held.by(condition.program.reads("prediction")):
            return HELD
        if not purse.pays(condition.program.cost):
            return USED_UP
        holds = condition.holds(scope)
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


def run_name(verdict: Verdict, *, integration_uid: str, delivery_id: str) -> str:
    """The WorkflowRun's name: the same for the same decision, so that creating it twice creates it once.

    Delivery ids are the provider's: two Integrations may have the same.
    """
    key = f"{verdict.workflow_uid}|{integration_uid}|{delivery_id}|{verdict.revision}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:_HASH]
    return f"{verdict.workflow[: _LONGEST_NAME - _HASH - 1].rstrip('-.')}-{digest}"


def manifest(verdict: Verdict, event: Event, *, namespace: str, name: str) -> Mapping[str, Any]:
    """The WorkflowRun that a fired decision wants, by the `name` that `run_name` gave."""
    run = {"runId": event.run.id, "attempt": event.run.attempt} if event.run is not None else {}
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {
            "name": name,
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
                **run,
            },
        },
    }
