"""How a run goes on, as a table of sentences: (what the journal has) → (what is planned)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.workflowrun import objects
from controllers.workflowrun.plan import Observed, Plan, advance, plan_teardown
from pipewright import actions as act
from pipewright import errors
from pipewright.api.v1alpha1 import WorkflowRun
from pipewright.api.v1alpha1.workflow import WorkflowSpec
from pipewright.events import Event, Prediction, Retry, RunRef
from pipewright.plan import Failure, Results
from pipewright.runner_facts import Attempt, Decision, RunJournal, TenantRef

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
DECISION = Decision(
    event=Event(
        type="pipelinerun.finished",
        id="delivery-1",
        integration="github",
        project="acme/shop",
        pipeline="ci",
        branch="main",
        sha="5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
        trigger="push",
        actor="",
        outcome="failure",
        run=RunRef(id="77", number=7, attempt=1, url="https://github.com/acme/shop/actions/runs/77"),
        job=None,
        queued_at=NOW,
        started_at=NOW,
        finished_at=NOW,
    ),
    prediction=Prediction(
        probability=0.9,
        band="high",
        reasons=("flaky",),
        model="3",
        retry=Retry(probability=0.8, band="high"),
    ),
)
RERUN = {
    "name": "rerun",
    "uses": "github/rerun-failed-jobs",
    "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
    "outputs": {"status": "result.status"},
}
TELL = {
    "name": "tell",
    "needs": ["rerun"],
    "uses": "github/comment",
    "with": {"body": "started again: ${{ steps.rerun.outputs.status }}"},
}


def run(*, deleting: bool = False) -> WorkflowRun:
    metadata = {"name": "heal-1", "namespace": "acme", "uid": "run-uid", "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    spec = {
        "workflow": {"name": "heal", "revision": "heal-0123456789"},
        "event": {"integration": "github", "deliveryId": "delivery-1", "type": "pipelinerun.finished"},
    }
    return WorkflowRun.parse({"metadata": metadata, "spec": spec})


def spec(*steps: dict[str, Any], **more: Any) -> WorkflowSpec:
    return WorkflowSpec.model_validate(
        {"triggers": [{"event": "pipelinerun.finished"}], "steps": list(steps or (RERUN, TELL)), **more}
    )


def tried(step: str, phase: str, *, number: int = 1, ago: float = 0, **more: Any) -> Attempt:
    at = NOW - timedelta(seconds=ago)
    ended = None if phase == "Running" else at
    return Attempt(step=step, number=number, phase=phase, started_at=at, finished_at=ended, **more)  # type: ignore[arg-type]


def begun(*attempts: Attempt, ago: float = 60) -> RunJournal:
    return RunJournal(phase="Running", started_at=NOW - timedelta(seconds=ago), attempts=attempts)


def observed(journal: RunJournal | None, *steps: dict[str, Any], **more: Any) -> Observed:
    options = {key: more.pop(key) for key in ("timeout",) if key in more}
    return replace(
        Observed(
            tenant=TENANT,
            journal=journal,
            spec=spec(*steps, **options),
            workflow_uid="workflow-uid",
            decision=DECISION,
            idempotent={"github/rerun-failed-jobs": False, "github/comment": False, "github/label": True},
        ),
        **more,
    )


def sentences(plan: Plan) -> list[str]:
    return [str(action) for action in plan]


def chains(plan: Plan) -> list[list[str]]:
    return [[str(action) for action in chain.actions] for chain in plan.chains]


DONE = tried("rerun", "Succeeded", outputs={"status": "201"})
LABEL = {"name": "label", "uses": "github/label"}
ALWAYS = {**RERUN, "name": "again", "retry": {"limit": 2, "backoff": "10s"}}
BEGIN = "begin run heal-1"
BEGIN_RERUN = "begin attempt 1 of step rerun"
PERFORM_RERUN = "perform github/rerun-failed-jobs for step rerun, attempt 1"
SUCCEEDED = "end the run as Succeeded: Succeeded: every step succeeded or was left out"
LOST = "the process ended while this was being performed, and nobody knows whether it happened"

ADVANCES: dict[str, tuple[Observed, list[str]]] = {
    "a new run is opened in the journal before anything else": (observed(None), [BEGIN]),
    "the intent is written before the action": (observed(begun()), [BEGIN_RERUN, PERFORM_RERUN]),
    "a step waits for the one that it needs": (
        observed(begun(tried("rerun", "Running"))),
        [f"note attempt 1 of step rerun as Unknown: {LOST}"],
    ),
    "the next step begins when the one that it needs has succeeded": (
        observed(begun(DONE)),
        ["begin attempt 1 of step tell", "perform github/comment for step tell, attempt 1"],
    ),
    "when every step has succeeded the run ends": (
        observed(begun(DONE, tried("tell", "Succeeded"))),
        [SUCCEEDED],
    ),
    "a step whose condition is false is left out": (
        observed(begun(), {**RERUN, "if": "event.outcome == 'success'"}),
        ["skip step rerun: its condition is false"],
    ),
    "a step whose condition has no value is left out, and says so": (
        observed(
            begun(),
            {**RERUN, "if": "prediction.probability > 0.5"},
            decision=replace(DECISION, prediction=None),
        ),
        ["skip step rerun: its condition could not be evaluated: "],
    ),
    "a condition sees event and prediction": (
        observed(begun(), {**RERUN, "if": "event.run.attempt == 1 && prediction.retry.probability > 0.7"}),
        [BEGIN_RERUN, PERFORM_RERUN],
    ),
    "what needs a step that was left out is left out": (
        observed(begun(tried("rerun", "Skipped"))),
        ["skip step tell: it needs rerun, which did not succeed"],
    ),
    "what needs a step that failed is left out": (
        observed(begun(tried("rerun", "Failed"))),
        ["skip step tell: it needs rerun, which did not succeed"],
    ),
    "a failed step fails the run, when all else has ended": (
        observed(begun(tried("rerun", "Failed"), tried("tell", "Skipped"))),
        ["end the run as Failed: StepFailed: rerun did not succeed; status.steps says why"],
    ),
    "a run of steps that were all left out has succeeded": (
        observed(begun(tried("rerun", "Skipped"), tried("tell", "Skipped"))),
        [SUCCEEDED],
    ),
    "an idempotent action is performed again after a crash, under the same attempt": (
        observed(begun(tried("label", "Running")), LABEL),
        ["perform github/label for step label, attempt 1"],
    ),
    "any other action becomes Unknown after a crash": (
        observed(begun(tried("rerun", "Running"))),
        [f"note attempt 1 of step rerun as Unknown: {LOST}"],
    ),
    "an action that nobody can judge becomes Unknown after a crash": (
        observed(begun(tried("label", "Running")), LABEL, idempotent={}),
        [f"note attempt 1 of step label as Unknown: {LOST}"],
    ),
    "Unknown fails the step unless it says otherwise": (
        observed(begun(tried("rerun", "Unknown")), RERUN),
        ["end the run as Failed: StepFailed: rerun did not succeed; status.steps says why"],
    ),
    "onUnknown: Retry allows another attempt": (
        observed(begun(tried("rerun", "Unknown", ago=60)), {**RERUN, "onUnknown": "Retry"}),
        ["begin attempt 2 of step rerun", "perform github/rerun-failed-jobs for step rerun, attempt 2"],
    ),
    "onUnknown: Retry without a retry limit allows one more and no second": (
        observed(begun(tried("rerun", "Unknown", number=2, ago=60)), {**RERUN, "onUnknown": "Retry"}),
        ["end the run as Failed: StepFailed: rerun did not succeed; status.steps says why"],
    ),
    "a failed step is tried again after its backoff": (
        observed(begun(tried("again", "Failed", ago=10)), ALWAYS),
        ["begin attempt 2 of step again", "perform github/rerun-failed-jobs for step again, attempt 2"],
    ),
    "the backoff doubles": (
        observed(begun(tried("again", "Failed", ago=40), tried("again", "Failed", number=2, ago=19)), ALWAYS),
        [],
    ),
    "what was put off is tried again without a retry limit": (
        observed(begun(tried("rerun", "Failed", ago=60, not_before=NOW)), RERUN),
        ["begin attempt 2 of step rerun", "perform github/rerun-failed-jobs for step rerun, attempt 2"],
    ),
    "what was put off longer than the backoff is waited for": (
        observed(begun(tried("rerun", "Failed", ago=60, not_before=NOW + timedelta(seconds=9))), RERUN),
        [],
    ),
    "the backoff is waited for although it was put off for less": (
        observed(begun(tried("rerun", "Failed", ago=9, not_before=NOW)), RERUN),
        [],
    ),
    "what was put off is none of the retries": (
        observed(
            begun(
                tried("again", "Failed", ago=300, not_before=NOW),
                tried("again", "Failed", number=2, ago=200),
                tried("again", "Failed", number=3, ago=100),
            ),
            ALWAYS,
        ),
        ["begin attempt 4 of step again", "perform github/rerun-failed-jobs for step again, attempt 4"],
    ),
    "beside what was put off the retries are counted": (
        observed(
            begun(
                tried("again", "Failed", ago=300, not_before=NOW),
                tried("again", "Failed", number=4, ago=100),
            ),
            ALWAYS,
        ),
        ["end the run as Failed: StepFailed: again did not succeed; status.steps says why"],
    ),
    "what is put off ends with the run's time": (
        observed(begun(tried("rerun", "Failed", ago=60, not_before=NOW), ago=3600), RERUN),
        ["end the run as Failed: TimedOut: it took longer than 1h"],
    ),
    "after the last attempt the step has failed": (
        observed(begun(tried("again", "Failed", number=3, ago=100)), ALWAYS),
        ["end the run as Failed: StepFailed: again did not succeed; status.steps says why"],
    ),
    "inputs that cannot be filled in fail the step before any intent": (
        observed(begun(DONE), RERUN, {**TELL, "with": {"body": "${{ steps.rerun.outputs.nothing }}"}}),
        ["note attempt 1 of step tell as Failed: its inputs could not be filled in: "],
    ),
    "inputs that cannot be filled in are not tried again": (
        observed(
            begun(DONE, tried("tell", "Failed", ago=600), ago=700),
            RERUN,
            {**TELL, "retry": {"limit": 3}, "with": {"body": "${{ steps.rerun.outputs.nothing }}"}},
        ),
        ["end the run as Failed: StepFailed: tell did not succeed; status.steps says why"],
    ),
    "a run that takes too long ends, with nothing left open": (
        observed(begun(tried("rerun", "Running"), ago=3600)),
        [
            f"note attempt 1 of step rerun as Unknown: {LOST}",
            "skip step tell: the run's time was over",
            "end the run as Failed: TimedOut: it took longer than 1h",
        ],
    ),
    "a run whose steps have all ended is not timed out": (
        observed(begun(DONE, tried("tell", "Succeeded"), ago=9000)),
        [SUCCEEDED],
    ),
    "a run without its revision fails": (
        observed(None, spec=None),
        [BEGIN, "end the run as Failed: RevisionMissing: the revision heal-0123456789 is not kept any more"],
    ),
    "a run whose revision goes away midway fails, with nothing left open": (
        observed(begun(tried("rerun", "Running")), spec=None),
        [
            f"note attempt 1 of step rerun as Unknown: {LOST}",
            "end the run as Failed: RevisionMissing: the revision heal-0123456789 is not kept any more",
        ],
    ),
    "a run on an event that was never decided fails": (
        observed(None, decision=None),
        [
            BEGIN,
            (
                "end the run as Failed: EventMissing: "
                "the tenant's database has no decision of this workflow on this event"
            ),
        ],
    ),
    "a suspended workflow holds a run that has not begun": (observed(None, suspended=True), []),
    "a tenant that is not Active holds every run": (
        observed(begun(), tenant=replace(TENANT, state="Suspended")),
        [],
    ),
    "a namespace without a tenant holds every run": (observed(None, tenant=None), []),
    "a run that has ended needs nothing": (
        observed(replace(begun(), phase="Succeeded", finished_at=NOW, reason="Succeeded: …")),
        [],
    ),
}


@pytest.mark.parametrize("sentence", ADVANCES)
def test_advance(sentence: str) -> None:
    seen, expected = ADVANCES[sentence]
    planned = sentences(advance(run(), seen, now=NOW))
    assert len(planned) == len(expected), planned
    for found, wanted in zip(planned, expected, strict=True):
        # an evaluation's own words are the CEL runtime's
        assert found.startswith(wanted) if wanted.endswith(": ") else found == wanted


def test_steps_that_do_not_need_each_other_are_chains_of_their_own() -> None:
    other = {**RERUN, "name": "other"}
    assert chains(advance(run(), observed(begun(), RERUN, other), now=NOW)) == [
        [BEGIN_RERUN, PERFORM_RERUN],
        ["begin attempt 1 of step other", "perform github/rerun-failed-jobs for step other, attempt 1"],
    ]


def test_a_failed_step_does_not_hold_those_that_do_not_need_it() -> None:
    seen = observed(begun(tried("rerun", "Failed")), RERUN, {**RERUN, "name": "other"})
    assert chains(advance(run(), seen, now=NOW)) == [
        ["begin attempt 1 of step other", "perform github/rerun-failed-jobs for step other, attempt 1"]
    ]


def performed(plan: Plan) -> act.PerformStep:
    (found,) = [action for action in plan if isinstance(action, act.PerformStep)]
    return found


def test_inputs_are_filled_in_from_the_event_and_from_outputs_of_needed_steps() -> None:
    assert performed(advance(run(), observed(begun()), now=NOW)).inputs == {
        "project": "acme/shop",
        "run": "77",
    }
    assert performed(advance(run(), observed(begun(DONE)), now=NOW)).inputs == {"body": "started again: 201"}


def test_a_step_does_not_see_a_step_that_it_does_not_need() -> None:
    stranger = {**TELL, "needs": []}
    plan = advance(run(), observed(begun(DONE), RERUN, stranger), now=NOW)
    assert sentences(plan)[0].startswith("note attempt 1 of step tell as Failed: its inputs could not")


TIMEOUTS = {
    "the step's own": ("20s", 60.0, 20.0),
    "the longest that a step may have": ("100s", 60.0, 100.0),
    "never longer than the run has left": ("60s", 3590.0, 10.0),
}


@pytest.mark.parametrize("sentence", TIMEOUTS)
def test_an_actions_time(sentence: str) -> None:
    timeout, ago, expected = TIMEOUTS[sentence]
    plan = advance(run(), observed(begun(ago=ago), {**RERUN, "timeout": timeout}), now=NOW)
    assert performed(plan).timeout == timedelta(seconds=expected)


def test_a_backoff_is_waited_for_and_not_slept() -> None:
    plan = advance(run(), observed(begun(tried("again", "Failed", ago=4)), ALWAYS), now=NOW)
    assert plan.is_empty
    assert plan.check_after == timedelta(seconds=6)


def test_the_runs_own_time_is_waited_for() -> None:
    later = {**ALWAYS, "retry": {"limit": 2, "backoff": "1h"}}
    plan = advance(run(), observed(begun(tried("again", "Failed", ago=4)), later, timeout="2m"), now=NOW)
    assert plan.check_after == timedelta(seconds=60)


CANCEL = "end the run as Cancelled: Cancelled: the WorkflowRun was deleted"
TEARDOWNS: dict[str, tuple[Observed, list[str]]] = {
    "a run that is deleted midway is cancelled": (observed(begun(DONE)), [CANCEL]),
    "what it was doing is noted as Unknown": (
        observed(begun(tried("rerun", "Running"))),
        [f"note attempt 1 of step rerun as Unknown: {LOST}", CANCEL],
    ),
    "a run that never began is deletable at once": (observed(None), []),
    "a run that has ended is deletable at once": (observed(replace(begun(), finished_at=NOW)), []),
    "a tenant that is gone is no hindrance": (observed(begun(), tenant=None), []),
}


@pytest.mark.parametrize("sentence", TEARDOWNS)
def test_teardown(sentence: str) -> None:
    seen, expected = TEARDOWNS[sentence]
    assert sentences(plan_teardown(run(deleting=True), seen)) == expected


# --- what others see ----------------------------------------------------------------------------------


def conditions(seen: Observed, results: Results | None = None) -> dict[str, tuple[str, str]]:
    plan = advance(run(), seen, now=NOW)
    told = objects.conditions(run(), plan.facts[0], results or Results(), now=NOW)
    return {condition.type: (condition.status, condition.reason) for condition in told}


SAID: dict[str, tuple[Observed, dict[str, tuple[str, str]]]] = {
    "a run that goes on is neither a success nor a failure": (
        observed(begun()),
        {
            "Succeeded": ("Unknown", "Running"),
            "Reconciling": ("True", "Running"),
            "Stalled": ("False", "NotStalled"),
        },
    ),
    "a run that waits says why": (
        observed(None, suspended=True),
        {
            "Succeeded": ("Unknown", "Suspended"),
            "Reconciling": ("True", "Suspended"),
            "Stalled": ("False", "NotStalled"),
        },
    ),
    "a run that has succeeded": (
        observed(replace(begun(), phase="Succeeded", finished_at=NOW, reason="Succeeded: every step …")),
        {
            "Succeeded": ("True", "Succeeded"),
            "Reconciling": ("False", "Finished"),
            "Stalled": ("False", "NotStalled"),
        },
    ),
    "a run that has failed": (
        observed(replace(begun(), phase="Failed", finished_at=NOW, reason="StepFailed: rerun did not …")),
        {
            "Succeeded": ("False", "StepFailed"),
            "Reconciling": ("False", "Finished"),
            "Stalled": ("False", "NotStalled"),
        },
    ),
}


@pytest.mark.parametrize("sentence", SAID)
def test_conditions(sentence: str) -> None:
    seen, expected = SAID[sentence]
    assert conditions(seen) == expected


def test_trouble_is_told_and_is_no_failure_of_the_run() -> None:
    trouble = Failure(serves="Succeeded", action="…", error=errors.Unreachable("the database is down"))
    assert conditions(observed(begun()), Results(failures=(trouble,))) == {
        "Succeeded": ("Unknown", "Unreachable"),
        "Reconciling": ("True", "Unreachable"),
        "Stalled": ("False", "NotStalled"),
    }


STEPS: dict[str, tuple[tuple[Attempt, ...], tuple[str, int]]] = {
    "not begun is Pending": ((), ("Pending", 0)),
    "begun is Running": ((tried("again", "Running"),), ("Running", 1)),
    "failed and tried again is Pending": ((tried("again", "Failed"),), ("Pending", 1)),
    "put off is Pending": ((tried("again", "Failed", number=9, not_before=NOW),), ("Pending", 9)),
    "failed for good is Failed": ((tried("again", "Failed", number=3),), ("Failed", 3)),
    "left out was never tried": ((tried("again", "Skipped"),), ("Skipped", 0)),
}


@pytest.mark.parametrize("sentence", STEPS)
def test_steps_in_the_status(sentence: str) -> None:
    attempts, expected = STEPS[sentence]
    (step,) = objects.steps(spec(ALWAYS).steps, begun(*attempts))
    assert (step.phase, step.attempt) == expected


def test_when_the_run_has_ended_no_step_is_tried_again() -> None:
    ended = replace(begun(tried("again", "Failed")), finished_at=NOW)
    assert [step.phase for step in objects.steps(spec(ALWAYS).steps, ended)] == ["Failed"]


# --- a suspended tenant -------------------------------------------------------------------------------

STOPPED = replace(TENANT, state="Suspended")
PAUSED: dict[str, RunJournal | None] = {
    "that has not begun": None,
    "whose next step is due": begun(tried("rerun", "Succeeded", outputs={"status": "201"})),
    "whose step may be tried again": begun(tried("rerun", "Failed", ago=3600)),
    "whose process ended during a step": begun(tried("rerun", "Running")),
    "whose time would be over": begun(ago=3601),
}


@pytest.mark.parametrize("sentence", PAUSED)
def test_nothing_begins_of_a_run_of_a_suspended_tenant(sentence: str) -> None:
    seen = observed(PAUSED[sentence], tenant=STOPPED)
    plan = advance(run(), seen, now=NOW)
    assert plan.is_empty
    [fact] = plan.facts
    assert (fact.status, fact.reason) == (None, "TenantSuspended")
    assert fact.message == "paused: the tenant acme is suspended; this goes on when it is resumed"
    assert plan.check_after == timedelta(seconds=30)


def test_a_run_that_has_ended_is_told_all_the_same() -> None:
    ended = replace(begun(), phase="Succeeded", finished_at=NOW, reason="Succeeded: done")
    [fact] = advance(run(), observed(ended, tenant=STOPPED), now=NOW).facts
    assert fact.status is True


def test_with_the_resume_the_runs_time_begins_anew() -> None:
    """It goes on where it was: the pause is none of its time."""
    late = begun(tried("rerun", "Succeeded", outputs={"status": "201"}), ago=86400)
    resumed = replace(TENANT, resumed_at=NOW - timedelta(minutes=10))
    plan = advance(run(), observed(late, tenant=resumed), now=NOW)
    assert [sentence for sentence in sentences(plan) if "TimedOut" in sentence] == []
    assert sentences(plan)
    assert plan.check_after == timedelta(minutes=50)
    early = replace(TENANT, resumed_at=NOW - timedelta(minutes=61))
    assert "TimedOut" in sentences(advance(run(), observed(late, tenant=early), now=NOW))[-1]
