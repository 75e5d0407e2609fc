"""Decisions are pure: triggers × event × prediction → fired or not, and why."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway import decide
from gateway.decide import Held
from pipewright import expressions
from pipewright.api.v1alpha1 import WorkflowRun
from pipewright.events import DurationForecast, Prediction, Retry, RunRecord, run_event
from pipewright.store.records import Trigger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FAILED = run_event(
    RunRecord(
        project="acme/shop", pipeline="ci", id="100", attempt=1, number=7, trigger="push", branch="main",
        sha="abc", phase="finished", outcome="failure", started_at=AT, finished_at=AT,
    ),
    id="d-1",
    integration="github",
)  # fmt: skip
LIKELY = Prediction(
    probability=0.4, band="medium", reasons=(), model="v1", retry=Retry(probability=0.9, band="high")
)
ON_FAILURE = Trigger(
    workflow_uid="11111111-1111-1111-1111-111111111111", position=0, tenant_id="t", namespace="acme",
    workflow="heal", revision="heal-0123456789", event="pipelinerun.finished",
)  # fmt: skip

ONE = {
    "no condition fires": ({}, LIKELY, True, "fired"),
    "a condition on the prediction that holds fires": (
        {"condition": "prediction.retry.probability > 0.7"}, LIKELY, True, "fired",
    ),
    "a condition that does not hold": (
        {"condition": "event.outcome == 'success'"}, LIKELY, False, "condition is false",
    ),
    "an integration that is not the event's": (
        {"integration": "gitlab"}, LIKELY, False, "other integration: the trigger waits for gitlab",
    ),
    "the event's own integration fires": ({"integration": "github"}, LIKELY, True, "fired"),
    "a suspended workflow": ({"enabled": False}, LIKELY, False, "suspended"),
    "a division by zero": (
        {"condition": "1 / (event.run.attempt - 1) > 0"}, LIKELY, False, "evaluation failed: divide by zero",
    ),
    "an expression from a release with another event model": (
        {"condition": "event.colour == 'red'"}, LIKELY, False, "the condition does not compile: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("trigger", "prediction", "fired", "reason"), ONE.values(), ids=ONE)
def test_one_trigger(trigger, prediction, fired, reason):
    [verdict] = decide.decide([replace(ON_FAILURE, **trigger)], FAILED, prediction)
    assert verdict.fired is fired
    assert verdict.reason.startswith(reason)


def test_nothing_is_done_by_the_prediction_of_a_run_in_the_control_group():
    by_it = replace(ON_FAILURE, condition="event.outcome == 'failure' && prediction.retry.probability > 0.7")
    without = replace(ON_FAILURE, workflow_uid="2" * 8, condition="event.outcome == 'failure'")
    # one that would fire where there is no prediction acts by it all the same
    either = replace(
        ON_FAILURE, workflow_uid="3" * 8, condition="prediction == null || prediction.probability > 0.1"
    )
    verdicts = list(decide.decide([by_it, without, either], FAILED, None, held=Held(failure=True)))
    assert [(verdict.fired, verdict.reason) for verdict in verdicts] == [
        (False, decide.HELD),
        (True, "fired"),
        (False, decide.HELD),
    ]


@pytest.mark.parametrize(
    ("held", "reasons"),
    [
        (Held(), ["fired", "fired", "fired"]),
        (Held(failure=True), [decide.HELD, "fired", decide.HELD]),
        (Held(duration=True), ["fired", decide.HELD, decide.HELD]),
        (Held(cause=True), ["fired", "fired", decide.HELD]),
        (Held(failure=True, duration=True), [decide.HELD] * 3),
    ],
)
def test_the_control_group_of_one_model_is_not_that_of_the_other(held, reasons):
    lasts = replace(LIKELY, duration=DurationForecast(p50=60.0, p90=90.0, p95=100.0, model="v2"))
    conditions = ("prediction.probability > 0.1", "prediction.duration.p95 > 99.0", "prediction != null")
    triggers = [
        replace(ON_FAILURE, workflow_uid=str(number), condition=condition)
        for number, condition in enumerate(conditions)
    ]
    assert [each.reason for each in decide.decide(triggers, FAILED, lasts, held=held)] == reasons


def test_a_trigger_for_another_type_of_event_decides_nothing():
    assert not list(decide.decide([replace(ON_FAILURE, event="taskrun.finished")], FAILED, LIKELY))


def test_a_workflow_decides_once_and_any_of_its_triggers_suffices():
    triggers = [
        replace(ON_FAILURE, condition="false"),
        replace(ON_FAILURE, position=1),
        replace(ON_FAILURE, position=2),
    ]
    [verdict] = decide.decide(triggers, FAILED, LIKELY)
    assert verdict.fired


def test_of_several_triggers_each_says_why_not():
    triggers = [
        replace(ON_FAILURE, condition="false"),
        replace(ON_FAILURE, position=1, integration="gitlab"),
    ]
    [verdict] = decide.decide(triggers, FAILED, LIKELY)
    assert verdict.reason == (
        "triggers[0]: condition is false; triggers[1]: other integration: the trigger waits for gitlab"
    )


def test_without_a_prediction_a_condition_on_it_is_not_fired_with_a_reason():
    trigger = replace(ON_FAILURE, condition="prediction.probability > 0.5")
    [verdict] = decide.decide([trigger], FAILED, None)
    assert (verdict.fired, verdict.reason.startswith("evaluation failed: ")) == (False, True)


def test_the_run_name_is_the_same_for_the_same_decision_and_fits_a_label():
    [verdict] = decide.decide([replace(ON_FAILURE, workflow="w" * 62 + "x")], FAILED, LIKELY)
    key = {"integration_uid": "i", "delivery_id": "d-1"}
    name = decide.run_name(verdict, **key)
    assert name == decide.run_name(verdict, **key)
    assert name != decide.run_name(verdict, **{**key, "delivery_id": "d-2"})
    assert name != decide.run_name(replace(verdict, revision="w-9"), **key)
    assert name != decide.run_name(verdict, **{**key, "integration_uid": "j"})
    assert len(name) == 63
    assert re.fullmatch("[0-9a-f]{16}", name.rpartition("-")[2])


def test_a_cut_name_has_no_dash_before_its_hash_twice():
    [verdict] = decide.decide([replace(ON_FAILURE, workflow="w" * 45 + "-abc")], FAILED, LIKELY)
    assert "--" not in decide.run_name(verdict, integration_uid="i", delivery_id="d-1")


def test_the_manifest_is_a_workflow_run_of_the_contract():
    [verdict] = decide.decide([ON_FAILURE], FAILED, LIKELY)
    manifest = decide.manifest(verdict, FAILED, namespace="acme", name="heal-1")
    run = WorkflowRun.parse(
        {**manifest, "metadata": {**manifest["metadata"], "uid": "u", "resourceVersion": "1"}}
    )
    assert run.spec.event.delivery_id == "d-1"
    assert manifest["metadata"]["name"] == "heal-1"
    assert run.spec.event.attempt == 1
    assert run.spec.workflow.revision == "heal-0123456789"


HOLDS = "event.outcome == 'failure'"


def test_conditions_of_a_namespace_have_a_budget_on_each_event():
    cost = expressions.conditions(FAILED.type).condition(HOLDS).program.cost
    triggers = [replace(ON_FAILURE, workflow_uid=str(number), condition=HOLDS) for number in range(3)]
    free = replace(ON_FAILURE, workflow_uid="free")
    for _ in range(2):  # each event has its own
        verdicts = list(decide.decide([*triggers, free], FAILED, LIKELY, budget=2 * cost))
        assert [verdict.fired for verdict in verdicts] == [True, True, False, True]
        assert verdicts[2].reason == "the namespace's budget of condition cost per event is used up"


def test_the_dearest_condition_that_is_allowed_fits_into_the_budget():
    assert expressions.conditions(FAILED.type).bounds.cost <= decide.BUDGET


def test_a_workflow_is_decided_only_when_it_is_asked_for():
    triggers = [ON_FAILURE, replace(ON_FAILURE, workflow_uid="other", event="pipelinerun.finished")]
    verdicts = decide.decide(triggers, FAILED, LIKELY)
    assert next(verdicts).workflow_uid == ON_FAILURE.workflow_uid
    assert next(verdicts).workflow_uid == "other"


def test_after_a_trigger_that_fires_the_workflows_others_cost_nothing():
    cost = expressions.conditions(FAILED.type).condition(HOLDS).program.cost
    triggers = [replace(ON_FAILURE, position=number, condition=HOLDS) for number in range(3)]
    other = replace(ON_FAILURE, workflow_uid="other", condition=HOLDS)
    assert [v.fired for v in decide.decide([*triggers, other], FAILED, LIKELY, budget=2 * cost)] == [True] * 2
