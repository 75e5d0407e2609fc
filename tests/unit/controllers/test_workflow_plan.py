"""What a Workflow needs done, as a table of sentences: (what was seen) → (what is planned)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from connectors import catalogue
from controllers.workflow import objects
from controllers.workflow.plan import Observed, Plan, plan_teardown, plan_workflow, wanted_triggers
from pipewright.api.v1alpha1 import Workflow
from pipewright.runner_facts import TenantRef

TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
RERUN = {
    "name": "rerun",
    "uses": "github/rerun-failed-jobs",
    "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
}
TRIGGER = {"event": "pipelinerun.finished", "if": "event.outcome == 'failure'"}


def workflow(*, name: str = "heal", uid: str = "workflow-uid", generation: int = 1, **spec: Any) -> Workflow:
    metadata = {"name": name, "namespace": "acme", "uid": uid, "generation": generation}
    return Workflow.parse({"metadata": metadata, "spec": {"triggers": [TRIGGER], "steps": [RERUN]} | spec})


def kept(subject: Workflow, *, uid: str = "revision-uid") -> Any:
    made = objects.revision(subject)
    return {**made, "metadata": {**made["metadata"], "uid": uid}}


SUBJECT = workflow()
NEW = Observed(tenant=TENANT, integrations={"github": "github"}, connectors=catalogue.load())
COMPLETE = replace(NEW, triggers=wanted_triggers(SUBJECT, TENANT), revisions=(kept(SUBJECT),))
NAME = objects.revision_name(SUBJECT)
CREATE = f"create ControllerRevision acme/{NAME}"
PUBLISH = f"publish 1 triggers at revision {NAME}"
WITHDRAW = "withdraw the triggers"


def sentences(plan: Plan) -> list[str]:
    return [str(action) for action in plan]


def step(**changes: Any) -> dict[str, Any]:
    return {**RERUN, **changes}


SUSPENDED = workflow(suspended=True)
PLANS: dict[str, tuple[Workflow, Observed, list[str]]] = {
    "nothing to do is an empty plan": (SUBJECT, COMPLETE, []),
    "a new one keeps its revision before its triggers name it": (SUBJECT, NEW, [CREATE, PUBLISH]),
    "a crash after the revision goes on with the triggers": (
        SUBJECT,
        replace(COMPLETE, triggers=()),
        [PUBLISH],
    ),
    "a suspended one withdraws its triggers": (SUSPENDED, COMPLETE, [WITHDRAW]),
    "a suspended one without triggers is at rest": (SUSPENDED, replace(COMPLETE, triggers=()), []),
    "a missing Integration withdraws the triggers": (
        SUBJECT,
        replace(COMPLETE, integrations={}),
        [WITHDRAW],
    ),
    "an expression that does not compile withdraws the triggers": (
        workflow(triggers=[{"event": "pipelinerun.finished", "if": "event.outcom == 'x'"}]),
        COMPLETE,
        [WITHDRAW],
    ),
}


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    subject, observed, expected = PLANS[sentence]
    assert sentences(plan_workflow(subject, observed)) == expected


def test_suspending_makes_no_new_revision() -> None:
    assert objects.revision_name(SUSPENDED) == objects.revision_name(SUBJECT)


def test_a_change_of_the_spec_makes_a_new_revision_and_new_triggers() -> None:
    changed = workflow(timeout="10m")
    name = objects.revision_name(changed)
    assert name != NAME
    assert sentences(plan_workflow(changed, COMPLETE)) == [
        f"create ControllerRevision acme/{name}",
        f"publish 1 triggers at revision {name}",
    ]


def test_a_namesake_has_revisions_of_its_own() -> None:
    assert objects.revision_name(workflow(uid="another-uid")) != NAME


def test_the_longest_name_still_gives_a_dns_label() -> None:
    assert len(objects.revision_name(workflow(name="w" * 63))) == 63


WRONG: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "an unknown field in a trigger": (
        {"triggers": [TRIGGER, {"event": "pipelinerun.finished", "if": "event.outcom == 'failure'"}]},
        "InvalidExpression",
        ["triggers[1].if", "line 1, column 6", "outcom"],
    ),
    "a field that this type of event does not have": (
        {"triggers": [{"event": "pipelinerun.started", "if": "event.outcome == 'failure'"}]},
        "InvalidExpression",
        ["triggers[0].if", "outcome"],
    ),
    "a condition that is not a bool": (
        {"steps": [step(**{"if": "event.project"})]},
        "InvalidExpression",
        ["steps[0] (rerun) if", "true or false"],
    ),
    "a hole that does not compile": (
        {"steps": [step(**{"with": {"project": "${{ event.project }}", "run": "id ${{ event.runId }}"}})]},
        "InvalidExpression",
        ["steps[0] (rerun) with.run", "line 1, column 13", "runId"],
    ),
    "a hole that only one of the triggers can fill": (
        {
            "triggers": [TRIGGER, {"event": "pipelinerun.started"}],
            "steps": [step(**{"if": "event.outcome != ''"})],
        },
        "InvalidExpression",
        ["steps[0] (rerun) if", "outcome"],
    ),
    "an output that does not compile": (
        {"steps": [step(outputs={"url": "reslt.url"})]},
        "InvalidExpression",
        ["steps[0] (rerun) outputs.url", "reslt"],
    ),
    "an unknown action": (
        {"steps": [step(uses="github/rerun")]},
        "UnknownAction",
        ["steps[0] (rerun)", "rerun-failed-jobs"],
    ),
    "a missing input": (
        {"steps": [step(**{"with": {"project": "a/b"}})]},
        "InvalidInput",
        ["steps[0] (rerun) with", "run is required"],
    ),
    "an unknown input": (
        {"steps": [step(**{"with": {**RERUN["with"], "force": "yes"}})]},  # type: ignore[dict-item]
        "InvalidInput",
        ["steps[0] (rerun) with", "force"],
    ),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_stalled(sentence: str) -> None:
    spec, reason, parts = WRONG[sentence]
    plan = plan_workflow(workflow(**spec), NEW)
    (stalled,) = [fact for fact in plan.facts if fact.stalled]
    assert (stalled.type, stalled.reason) == ("Understood", reason)
    assert [part for part in parts if part not in stalled.message] == []
    assert plan.is_empty


def test_an_integration_that_is_not_there_is_waited_for_and_not_stalled() -> None:
    plan = plan_workflow(SUBJECT, replace(NEW, integrations={}))
    told = {fact.type: (fact.status, fact.reason) for fact in plan.facts}
    assert told["IntegrationsFound"] == (False, "WaitingForIntegration")
    assert not any(fact.stalled for fact in plan.facts)
    assert plan.check_after == timedelta(seconds=10)


def _many(count: int) -> list[Any]:
    versions = [workflow(timeout=f"{number}m", generation=number) for number in range(1, count + 1)]
    return [kept(version, uid=f"uid-{number}") for number, version in enumerate(versions, start=1)]


def test_old_revisions_are_thrown_away_but_those_that_runs_are_pinned_to() -> None:
    revisions = _many(13)
    subject = workflow(timeout="13m", generation=13)
    oldest = [found["metadata"]["name"] for found in revisions[:3]]
    observed = replace(
        COMPLETE,
        triggers=wanted_triggers(subject, TENANT),
        revisions=tuple(revisions),
        pinned=frozenset({oldest[1]}),
    )
    assert sentences(plan_workflow(subject, observed)) == [
        f"delete ControllerRevision acme/{oldest[2]}",
        f"delete ControllerRevision acme/{oldest[0]}",
    ]


def test_ten_revisions_stay() -> None:
    subject = workflow(timeout="10m", generation=10)
    observed = replace(COMPLETE, triggers=wanted_triggers(subject, TENANT), revisions=tuple(_many(10)))
    assert plan_workflow(subject, observed).is_empty


def test_a_teardown_withdraws_the_triggers_and_then_has_nothing_left() -> None:
    assert sentences(plan_teardown(SUBJECT, COMPLETE)) == [WITHDRAW]
    assert plan_teardown(SUBJECT, replace(COMPLETE, triggers=())).is_empty
