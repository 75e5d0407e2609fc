"""Builders of what others see of a run, steps and conditions, from its journal; and names of its neighbours.

A run is a bounded job, so `Succeeded` is Unknown until the end and then stands. `Reconciling` is True until
the end, so that a client that knows only kstatus waits, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pipewright import errors
from pipewright.api.meta import Condition, now_without_fraction
from pipewright.api.v1alpha1 import Integration, Workflow, WorkflowRun
from pipewright.api.v1alpha1.workflow import Step
from pipewright.api.v1alpha1.workflowrun import StepStatus
from pipewright.plan import Fact, Ref, Results
from pipewright.runner_facts import Attempt, RunJournal

SUCCEEDED = "Succeeded"
MESSAGE = 1024
"""The longest message of a step in the status; the journal has the whole."""


def revision_ref(run: WorkflowRun) -> Ref:
    """Names the ControllerRevision that the run is pinned to."""
    name = run.spec.workflow.revision
    return Ref(api_version="apps/v1", kind="ControllerRevision", namespace=run.namespace, name=name)


def workflow_ref(run: WorkflowRun) -> Ref:
    """Names the Workflow as it is now."""
    name = run.spec.workflow.name
    return Ref(api_version=Workflow.api_version, kind=Workflow.kind, namespace=run.namespace, name=name)


def integration_ref(run: WorkflowRun, name: str) -> Ref:
    """Names an Integration that a step uses."""
    return Ref(api_version=Integration.api_version, kind=Integration.kind, namespace=run.namespace, name=name)


# --- steps --------------------------------------------------------------------------------------------


def steps(wanted: Sequence[Step], journal: RunJournal | None) -> tuple[StepStatus, ...]:
    """How far each step is, in the workflow's order."""
    attempts = journal.attempts if journal is not None else ()
    ended = journal is not None and journal.finished_at is not None
    return tuple(
        _step(step, [tried for tried in attempts if tried.step == step.name], ended=ended) for step in wanted
    )


def _step(step: Step, tried: Sequence[Attempt], *, ended: bool) -> StepStatus:
    if not tried:
        return StepStatus(name=step.name, phase="Pending")
    last = tried[-1]
    told = StepStatus(
        name=step.name,
        phase=last.phase,
        attempt=0 if last.phase == "Skipped" else last.number,
        started_at=now_without_fraction(tried[0].started_at),
        finished_at=now_without_fraction(last.finished_at) if last.finished_at else None,
        message=last.message[:MESSAGE] or None,
    )
    if not ended and may_try_again(step, tried):
        message = f"attempt {last.number} ended as {last.phase}, it is tried again: {last.message}"
        return told.model_copy(update={"phase": "Pending", "finished_at": None, "message": message[:MESSAGE]})
    return told


def may_try_again(step: Step, tried: Sequence[Attempt]) -> bool:
    """Whether the step's own words allow another attempt after these; the last of them has ended.

    What was put off is none of the retries: only the run's time bounds how often that may happen.
    """
    last = tried[-1]
    counted = last.number - sum(attempt.not_before is not None for attempt in tried)
    match last.phase:
        case "Failed":
            return last.not_before is not None or counted <= step.retry.limit
        case "Unknown":
            return step.on_unknown == "Retry" and counted <= max(1, step.retry.limit)
        case _:
            return False


# --- conditions ---------------------------------------------------------------------------------------


def conditions(run: WorkflowRun, fact: Fact, results: Results, *, now: datetime) -> tuple[Condition, ...]:
    """The conditions after one pass; `fact` is what the plan says about `Succeeded`."""
    trouble = results.failures[0].error if results.failures else None
    reason, message = errors.explain(trouble) if trouble is not None else (fact.reason, fact.message)
    ended, stuck = fact.status is not None, isinstance(trouble, errors.Stalled)
    summary = fact
    if trouble is not None and not ended:
        summary = Fact(type=SUCCEEDED, status=None, reason=reason, message=message)
    facts = (
        summary,
        Fact(
            type="Reconciling",
            status=not ended and not stuck,
            reason="Finished" if ended else reason,
            message="" if ended or stuck else message,
        ),
        Fact(
            type="Stalled",
            status=stuck,
            reason=reason if stuck else "NotStalled",
            message=message if stuck else "",
        ),
    )
    before = {condition.type: condition for condition in run.status.conditions}
    return tuple(
        _condition(told, before.get(told.type), generation=run.generation, now=now) for told in facts
    )


def _condition(fact: Fact, before: Condition | None, *, generation: int, now: datetime) -> Condition:
    words: dict[bool | None, Literal["True", "False", "Unknown"]] = {
        True: "True",
        False: "False",
        None: "Unknown",
    }
    status = words[fact.status]
    unchanged = before is not None and before.status == status
    return Condition(
        type=fact.type,
        status=status,
        reason=fact.reason,
        message=fact.message,
        last_transition_time=before.last_transition_time
        if before is not None and unchanged
        else now_without_fraction(now),
        observed_generation=generation,
    )
