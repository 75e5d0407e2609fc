"""What a registry is told of a Model, and that no trouble with it stands in a training's way."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from controllers.model import tracking
from controllers.model.observed import Unknown
from ml import contract
from pipewright import errors
from pipewright.api.v1alpha1 import Model
from pipewright.api.v1alpha1.model import ModelStatus
from pipewright.apply import tracking as applied
from pipewright.apply.tracking import record
from pipewright.backends.memory_tracking import MemoryTracking
from pipewright.tracking_facts import OWNER, Due, Recorded
from pipewright.training_facts import JobStatus
from tests.unit.controllers import test_model_plan as plans
from tests.unit.controllers.test_model_plan import PLAIN, TENANT, finished, pointer, report, seen, training
from tests.unit.controllers.test_model_reconcile import UID, World, condition, model

NAME = "acme.acme.run-failure"
NIGHTLY = {"schedule": "0 3 * * *"}


def said(*, trainings: Any = (), active: Any = None, subject: Model = PLAIN) -> Model:
    told = {"trainings": trainings, **({"active": active} if active else {})}
    return subject.model_copy(update={"status": ModelStatus.model_validate(told)})


# --- what is due ------------------------------------------------------------------------------------------


def test_each_training_that_ended_is_recorded_once_the_oldest_first() -> None:
    observed = seen(training(4), finished(3), finished(2, "Failed"), finished(1, "GatesFailed"))
    assert [it.attempt for it in tracking.due(PLAIN, observed).runs] == [1, 2, 3]
    known = [
        {"attempt": 2, "startedAt": plans.NOW, "outcome": "Failed", "mlflowRun": "r2"},
        {"attempt": 1, "startedAt": plans.NOW, "outcome": "GatesFailed"},
    ]
    assert [it.attempt for it in tracking.due(said(trainings=known), observed).runs] == [1, 3]


def test_only_the_ten_that_the_status_can_tell_of_are_recorded() -> None:
    observed = seen(*(finished(number) for number in range(14, 0, -1)))
    assert [it.attempt for it in tracking.due(PLAIN, observed).runs] == list(range(5, 15))


def test_nothing_is_due_of_a_journal_that_does_not_answer() -> None:
    silent = dataclasses.replace(seen(), trainings=Unknown(reason="Unreachable", message="no answer"))
    assert tracking.due(PLAIN, silent).is_nothing


def test_a_run_tells_what_was_trained_on_what_with_what_and_how_good_it_is() -> None:
    told = report(
        hyperparameters={"num_leaves": 8.0, "learning_rate": 0.03},
        search=contract.Searched(trials=9, asked=9, loss=0.3, default_loss=0.31, hyperparameters={}),
        duration_seconds=12.5,
    )
    [run] = tracking.due(PLAIN, seen(finished(7, report=told))).runs
    assert (run.name, run.group, run.submission_id, run.succeeded) == ("run-failure-7", "acme", "s7", True)
    assert run.finished_at - run.started_at == timedelta(seconds=10)
    assert run.params == {
        "recipe": finished(7).recipe,
        "window_rows": "600",
        "num_leaves": "8",
        "learning_rate": "0.03",
        "data_from": "2026-01-01T00:00:00Z",
        "data_to": "2026-03-01T00:00:00Z",
        "model_format": contract.MODEL_FORMAT,
    }
    assert run.metrics["accuracy"] == 0.9
    assert run.metrics["alwaysPass.accuracy"] == 0.9
    assert run.metrics["lastOutcome.recall"] == 0.5
    assert (run.metrics["search.loss"], run.metrics["search.default_loss"]) == (0.3, 0.31)
    assert run.metrics["duration_seconds"] == 12.5
    assert run.tags == {
        "mlflow.source.name": "pipewright",
        "mlflow.source.type": "JOB",
        OWNER: TENANT.id,
        "pipewright.tenant": "acme",
        "pipewright.namespace": "acme",
        "pipewright.model": "run-failure",
        "pipewright.model_uid": UID,
        "pipewright.attempt": "7",
        "pipewright.task": "RunFailure",
        "pipewright.outcome": "Passed",
        "pipewright.reason": "GatesPassed: all gates passed",
        "pipewright.dataset_sha256": "a" * 64,
        "pipewright.dataset_uri": "file:///a/window",
        "pipewright.version": "b" * 12,
        "pipewright.artifact_uri": "file:///a/7/model",
    }


def test_a_metric_that_divides_by_nothing_and_a_model_that_was_not_made_are_left_out() -> None:
    none = report(metrics=dataclasses.replace(plans.METRICS, auc=None))
    [run] = tracking.due(PLAIN, seen(finished(1, report=none))).runs
    assert "auc" not in run.metrics
    [run] = tracking.due(PLAIN, seen(finished(1, "Failed"))).runs
    assert (run.succeeded, run.metrics) == (False, {})
    assert "pipewright.version" not in run.tags
    assert "pipewright.artifact_uri" not in run.tags


def test_a_promotion_is_due_until_the_status_tells_of_this_very_one() -> None:
    made = finished(1)
    observed = seen(made, pointer=pointer(made))
    due = tracking.due(PLAIN, observed).version
    assert due is not None
    assert (due.model, due.owner, due.attempt, due.source) == (NAME, TENANT.id, 1, "file:///a/1/model")
    active = {
        "version": "b" * 12,
        "artifact": {"uri": "file:///a/1/model", "sha256": "b" * 64},
        "promotedAt": plans.NOW,
        "registered": {"model": NAME, "version": "4"},
    }
    assert tracking.due(said(active=active), observed).version is None
    earlier = {**active, "promotedAt": plans.NOW - timedelta(days=1)}
    assert tracking.due(said(active=earlier), observed).version is not None, "promoted again: a rollback"
    other = {**active, "artifact": {"uri": "file:///a/2/model", "sha256": "b" * 64}}
    assert tracking.due(said(active=other), observed).version is not None


def test_a_version_whose_training_left_the_journal_is_not_registered() -> None:
    assert tracking.due(PLAIN, seen(finished(2), pointer=pointer(finished(1)))).version is None


def test_a_long_name_is_cut_and_stays_one_models_own() -> None:
    long = plans.model().model_copy(
        update={"metadata": PLAIN.metadata.model_copy(update={"name": "m" * 253})}
    )
    made = finished(1)
    version = tracking.due(long, seen(made, pointer=pointer(made))).version
    assert version is not None
    assert len(version.model) == 250
    assert version.model.endswith(f"m-{UID[:8]}")


async def test_what_was_recorded_before_the_trouble_counts() -> None:
    class Breaks(MemoryTracking):
        async def record(self, run: Any) -> str:
            if run.attempt == 2:
                raise RuntimeError("postgresql://user:canary@db")
            return await super().record(run)

    due = tracking.due(PLAIN, seen(finished(2), finished(1)))
    found = await record(due, port=Breaks())
    assert list(found.runs) == [1]
    assert found.trouble is not None
    assert "canary" not in str(found.trouble)


def test_the_condition_is_what_it_was_while_other_work_is_under_way() -> None:
    due = Due(runs=tracking.due(PLAIN, seen(finished(1))).runs)
    assert tracking.fact(PLAIN, due, None).reason == "Pending"
    assert tracking.fact(PLAIN, Due(), None).reason == "NotYetTrained"
    trouble = Recorded(trouble=("Unreachable", "MLflow did not answer"))
    assert tracking.fact(PLAIN, due, trouble).reason == "Unreachable"
    assert tracking.fact(PLAIN, due, Recorded(runs={1: "r"})).reason == "Recorded"


# --- the story --------------------------------------------------------------------------------------------


async def test_without_a_registry_nothing_is_said_of_one() -> None:
    ready = await World().settle(model())
    assert [it.type for it in ready.status.conditions if it.type == tracking.RECORDED] == []
    assert ready.status.trainings[0].mlflow_run is None
    assert ready.status.active is not None
    assert ready.status.active.registered is None


async def test_a_training_and_its_promotion_are_recorded_and_told() -> None:
    registry = MemoryTracking()
    ready = await World(tracking=registry).settle(model())
    [(run_id, run)] = registry.runs.items()
    assert run.tags["pipewright.outcome"] == "Passed"
    told = ready.status.dump()
    assert told["trainings"][0]["mlflowRun"] == run_id
    assert told["active"]["registered"] == {"model": NAME, "version": "1"}
    assert registry.aliases == {NAME: "1"}
    assert condition(ready, tracking.RECORDED) == ("True", "Recorded")


async def test_at_rest_the_registry_is_not_asked() -> None:
    registry = MemoryTracking()
    world = World(tracking=registry)
    ready = await world.settle(model())
    calls = registry.calls
    again, outcome = await world.step(ready)
    assert registry.calls == calls == 2
    assert again.status == ready.status
    assert outcome.next_look is None


async def test_who_loses_the_status_records_nothing_twice() -> None:
    registry = MemoryTracking()
    world = World(tracking=registry)
    before = await world.settle(model())
    after = await world.settle(model())
    assert after.status.trainings == before.status.trainings
    assert len(registry.runs) == 1
    assert [len(made) for made in registry.versions.values()] == [1]


async def test_the_alias_follows_a_rollback_and_comes_back() -> None:
    registry = MemoryTracking()
    world = World(tracking=registry)
    ready = await world.settle(model(training=NIGHTLY))
    first = ready.status.trainings[0].version
    world.windows.window = dataclasses.replace(world.windows.window, content=b"later", sha256="e" * 64)
    world.clock.at += timedelta(days=1)
    ready = await world.settle(_with(ready, training=NIGHTLY))
    assert registry.aliases == {NAME: "2"}
    ready = await world.settle(_with(ready, training=NIGHTLY, serving={"version": first}))
    assert registry.aliases == {NAME: "1"}
    ready = await world.settle(_with(ready, training=NIGHTLY))
    assert registry.aliases == {NAME: "2"}
    assert len(registry.runs) == 2


def _with(before: Model, **spec: Any) -> Model:
    return model(**spec).model_copy(update={"status": before.status})


TROUBLE = [
    errors.Unreachable("MLflow did not answer"),
    errors.Forbidden("MLflow refuses our token"),
    errors.Stalled("ExperimentDeleted", "restore it"),
    errors.OwnedByOther("it is not this tenant's"),
    KeyError("run"),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda each: type(each).__name__)
async def test_no_trouble_with_it_keeps_a_model_from_training_and_predicting(trouble: Exception) -> None:
    registry = MemoryTracking()
    registry.trouble = trouble
    world = World(tracking=registry)
    ready = await world.settle(model())
    assert condition(ready, "Ready") == ("True", "Active")
    assert condition(ready, "Training") == ("False", "Idle")
    assert condition(ready, "Reconciling") == ("False", "Idle")
    assert condition(ready, "Stalled") == ("False", "NotStalled")
    status, reason = condition(ready, tracking.RECORDED)
    assert (status, reason) == ("False", getattr(trouble, "reason", "Internal"))
    same, outcome = await world.step(ready)
    assert outcome.results.failures == ()
    assert outcome.next_look == timedelta(minutes=1)
    assert same.status == ready.status, "the condition flutters"
    registry.trouble = None
    healed = await world.settle(same)
    assert condition(healed, tracking.RECORDED) == ("True", "Recorded")
    assert registry.aliases == {NAME: "1"}


async def test_while_a_job_runs_the_registry_is_not_asked_and_the_condition_stays() -> None:
    registry = MemoryTracking()
    registry.trouble = errors.Unreachable("MLflow did not answer")
    world = World(tracking=registry)
    ready = await world.settle(model(training=NIGHTLY))
    world.clock.at += timedelta(days=1)
    begun, _ = await world.step(_with(ready, training=NIGHTLY))
    submission = world.trainings.attempts[UID][2].submission_id
    world.compute._jobs[submission] = JobStatus(phase="Running")
    calls = registry.calls
    running, outcome = await world.step(begun)
    assert outcome.next_look is not None
    assert outcome.next_look <= timedelta(seconds=2)
    assert registry.calls == calls
    assert condition(running, tracking.RECORDED) == ("False", "Unreachable")


async def test_a_registry_that_is_slow_is_waited_for_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(MemoryTracking):
        async def record(self, run: Any) -> str:
            if run.attempt == 2:
                await asyncio.Event().wait()
            return await super().record(run)

    monkeypatch.setattr(applied, "LIMIT", 0.05)
    found = await record(tracking.due(PLAIN, seen(finished(2), finished(1))), port=Slow())
    assert list(found.runs) == [1]
    assert found.trouble == ("Unreachable", "MLflow took longer than 0.05 s; the rest comes later")


@pytest.mark.parametrize("after", range(6))
async def test_killed_after_any_write_to_the_registry_it_ends_the_same(after: int) -> None:
    class Killed(BaseException):
        """What ends a process is no Exception."""

    class Mortal(MemoryTracking):
        left = after

        async def record(self, run: Any) -> str:
            found = await super().record(run)
            self._die()
            return found

        async def register(self, version: Any, *, run_id: str) -> str:
            found = await super().register(version, run_id=run_id)
            self._die()
            return found

        def _die(self) -> None:
            if self.left == 0:
                self.left = -1
                raise Killed
            self.left -= 1

    registry = Mortal()
    world = World(tracking=registry)
    subject = model()
    for _ in range(20):
        try:
            subject, outcome = await world.step(subject)
        except Killed:
            continue
        if not outcome.results.done:
            break
    subject = await world.settle(subject)
    assert len(registry.runs) == 1
    assert [len(made) for made in registry.versions.values()] == [1]
    assert registry.aliases == {NAME: "1"}
    assert condition(subject, tracking.RECORDED) == ("True", "Recorded")


async def test_a_model_that_is_deleted_leaves_its_record() -> None:
    registry = MemoryTracking()
    world = World(tracking=registry)
    ready = await world.settle(model())
    calls = registry.calls
    gone = model(deleting=True).model_copy(update={"status": ready.status})
    await world.settle(gone)
    assert registry.calls == calls
    assert len(registry.runs) == 1
