"""A Model's story from data to promotion on ports in memory, also when it is killed after any write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.model.reconcile import reconcile
from ml import contract, figures
from pipewright import conditions, errors
from pipewright.api.v1alpha1 import Model
from pipewright.api.v1alpha1.model import ModelStatus
from pipewright.backends.memory import MemoryCluster
from pipewright.backends.memory_tracking import MemoryTracking
from pipewright.backends.memory_training import (
    MemoryArtifacts,
    MemoryCompute,
    MemoryPointers,
    MemoryTrainings,
    MemoryWindows,
)
from pipewright.backends.runner.memory import MemoryDirectory
from pipewright.outcome import Outcome
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import ExportedWindow, JobPlace, JobStatus

TENANT = TenantRef(id="abcdefghijkm", uid="tenant-uid", name="acme", state="Active", server="main")
UID = "11111111-2222-3333-4444-555555555555"
METRICS = figures.Metrics(
    accuracy=0.912345,
    false_positive_rate=0.02,
    recall=0.5,
    precision=0.7,
    auc=0.85,
    brier=0.1,
    calibration_error=0.02,
    first_failure_recall=None,
    coverage=0.95,
    selective_accuracy=0.92,
    rows=150,
    failures=20,
)


class Killed(Exception):
    """The process died here."""


@dataclass
class Clock:
    at: datetime = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@dataclass
class Turns:
    """Who counts."""

    ends: list[str] = field(default_factory=list)
    due: dict[str, datetime | None] = field(default_factory=dict)

    def saw(self, model_uid: str, *, due: datetime | None) -> None:
        self.due[model_uid] = due

    def ended(self, how: str) -> None:
        self.ends.append(how)


@dataclass
class World:
    """Ports in memory, and a clock."""

    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    trainings: MemoryTrainings = field(default_factory=MemoryTrainings)
    pointers: MemoryPointers = field(default_factory=MemoryPointers)
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    directory: MemoryDirectory = field(default_factory=lambda: MemoryDirectory({"acme": TENANT}))
    windows: MemoryWindows = field(
        default_factory=lambda: MemoryWindows(
            ExportedWindow(content=b"window", sha256=hashlib.sha256(b"window").hexdigest(), rows=600),
            labelled=600,
        )
    )
    clock: Clock = field(default_factory=Clock)
    tracking: MemoryTracking | None = None
    turns: Turns | None = field(default_factory=lambda: Turns())
    reports: dict[str, Any] = field(default_factory=dict)
    jobs: list[contract.TrainingJob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.compute = MemoryCompute(self.train)

    def train(self, job: contract.TrainingJob) -> bool:
        """What a job does: a model, then a report."""
        self.jobs.append(job)
        content = f"model of {job.window_sha256}".encode()
        report = contract.Report(
            submission_id=job.submission_id,
            outcome=self.reports.get("outcome", "Passed"),
            reason=self.reports.get("reason", "all gates passed"),
            metrics=self.reports.get("metrics", METRICS) if job.task == "RunFailure" else None,
            baselines={"alwaysPass": METRICS, "lastOutcome": METRICS} if job.task == "RunFailure" else {},
            curves=self.reports.get("curves"),
            durations=self.reports.get("durations"),
            causes=self.reports.get("causes"),
            model_format=contract.FORMATS[job.task],
            artifact_sha256=hashlib.sha256(content).hexdigest(),
            rows=580,
            data_from="2026-01-01T00:00:00Z",
            data_to="2026-03-01T00:00:00Z",
        )
        self.artifacts.files[job.artifact_uri] = content
        self.artifacts.files[job.report_uri] = contract.to_json(report).encode()
        return True

    async def step(self, model: Model) -> tuple[Model, Outcome[ModelStatus]]:
        """One reconcile; the model with the status that the driver would write."""
        outcome = await reconcile(model, ports=self, clock=self.clock)  # type: ignore[arg-type]
        return model.model_copy(update={"status": outcome.status}), outcome

    async def settle(self, model: Model) -> Model:
        """Reconcile until nothing is done any more."""
        for _ in range(20):
            model, outcome = await self.step(model)
            if not outcome.results.done and not outcome.results.failures:
                return model
        raise AssertionError("it does not come to rest")


def model(*, deleting: bool = False, **spec: Any) -> Model:
    metadata = {"name": "run-failure", "namespace": "acme", "uid": UID, "generation": 3}
    if deleting:
        metadata["deletionTimestamp"] = "2026-03-10T00:00:00Z"
    return Model.parse({"metadata": metadata, "spec": {"task": "RunFailure", **spec}})


def condition(subject: Model, aspect: str) -> tuple[str, str]:
    found = conditions.find(subject.status.conditions, aspect)
    assert found is not None
    return found.status, found.reason


async def test_from_data_to_an_active_version() -> None:
    world = World()
    ready = await world.settle(model(serving={"default": True}))
    assert condition(ready, "Ready") == ("True", "Active")
    assert condition(ready, "GatesPassed") == ("True", "GatesPassed")
    assert condition(ready, "Training") == ("False", "Idle")
    assert condition(ready, "Reconciling") == ("False", "Idle")
    assert condition(ready, "Stalled") == ("False", "NotStalled")
    told = ready.status.dump()
    assert told["active"]["metrics"]["accuracy"] == 0.9123
    assert told["dataset"]["rows"] == 580
    assert told["lastTraining"]["outcome"] == "Passed"
    assert told["observedGeneration"] == 3
    assert "candidate" not in told
    assert world.pointers.pointers[UID].is_default


QUANTILES = tuple(
    figures.QuantileMetrics(quantile=quantile, pinball_loss=20.0, covered=quantile)
    for quantile in (0.5, 0.9, 0.95)
)
LASTED = figures.DurationMetrics(
    pinball_loss=20.123456, coverage_error=0.012345, median_error=40.0, quantiles=QUANTILES, rows=150
)
DURATIONS = figures.Durations(
    metrics=LASTED, baselines={"recentRuns": LASTED, "lastRun": LASTED}, classes=(75, 60, 8, 7), days=()
)


async def test_a_model_of_durations_goes_the_same_way() -> None:
    world = World()
    world.reports["durations"] = DURATIONS
    subject = model(task="Duration", evaluation={"gates": {"minPinballGain": 0, "maxCoverageError": 0.1}})
    ready = await world.settle(subject)
    assert condition(ready, "Ready") == ("True", "Active")
    told = ready.status.dump()
    numbers = {"pinballLoss": 20.1235, "coverageError": 0.0123, "medianError": 40.0}
    assert told["active"]["metrics"] == numbers
    assert told["baselines"] == {"recentRuns": numbers, "lastRun": numbers}
    assert told["trainings"][0]["pinballLoss"] == 20.1235
    assert "accuracy" not in told["trainings"][0]
    assert world.pointers.pointers[UID].task == "Duration"
    (job,) = world.jobs
    assert (job.task, job.gates) == (
        "Duration", contract.Gates(min_pinball_gain=0, max_coverage_error=0.1),
    )  # fmt: skip


async def test_a_model_of_causes_goes_the_same_way() -> None:
    world = World()
    judged = figures.CauseMetrics(
        accuracy=0.85, auc=0.9, brier=0.1, calibration_error=0.05, coverage=0.8, selective_accuracy=0.95,
        rows=40, transient=15,
    )  # fmt: skip
    world.reports["causes"] = figures.Causes(
        metrics=judged, baselines={"majority": judged, "lineRate": judged}
    )
    ready = await world.settle(model(task="FailureCause", evaluation={"gates": {"minAccuracy": 0.7}}))
    assert condition(ready, "Ready") == ("True", "Active")
    assert condition(ready, "Drifted") == ("Unknown", "NotMeasured")
    told = ready.status.dump()
    numbers = {"accuracy": 0.85, "auc": 0.9, "brier": 0.1, "calibrationError": 0.05}
    assert told["active"]["metrics"] == numbers
    assert told["baselines"] == {"majority": numbers, "lineRate": numbers}
    assert told["trainings"][0]["accuracy"] == 0.85
    (job,) = world.jobs
    assert (job.task, job.gates) == ("FailureCause", contract.Gates(min_accuracy=0.7))


async def test_durations_that_drift_train_anew() -> None:
    world = World()
    world.reports["durations"] = DURATIONS
    drifting = model(task="Duration", training={"maxDrift": 0.25})
    ready = await world.settle(drifting)
    active = ready.status.active
    assert active is not None
    world.clock.at += timedelta(days=1)
    at = world.clock.at

    def lie(*counts: int) -> None:
        world.trainings.durations = [
            (active.version, at, place) for place, count in enumerate(counts) for _ in range(count)
        ]

    lie(0, 0, 0, 199)
    assert (await world.step(ready))[1].results.done == (), "too few to tell drift from chance"
    lie(150, 120, 16, 14)
    assert (await world.step(ready))[1].results.done == (), "as on the held-out runs"
    lie(20, 40, 60, 120)
    again, outcome = await world.step(ready)
    assert condition(again, "Drifted") == ("True", "Drifted")
    assert any("the durations have drifted" in str(done) for done in outcome.results.done)


async def test_an_earlier_version_predicts_while_it_is_named() -> None:
    nightly = {"schedule": "0 3 * * *"}
    world = World()
    first = (await world.settle(model(training=nightly))).status.active
    assert first is not None
    world.windows.window = ExportedWindow(
        content=b"later", sha256=hashlib.sha256(b"later").hexdigest(), rows=700
    )
    world.clock.at += timedelta(days=1)
    later = await world.settle(model(training=nightly))
    assert [(it.attempt, it.outcome, it.accuracy) for it in later.status.trainings] == [
        (2, "Passed", 0.9123),
        (1, "Passed", 0.9123),
    ]
    second = later.status.trainings[0].version
    assert later.status.trainings[1].version == first.version != second

    back = await world.settle(model(training=nightly, serving={"version": first.version}))
    assert back.status.active is not None
    assert back.status.active.version == first.version
    assert condition(back, "Ready") == ("True", "Active")
    assert back.status.candidate is not None
    assert back.status.candidate.version == second

    again = await world.settle(model(training=nightly))
    assert again.status.active is not None
    assert again.status.active.version == second
    assert world.pointers.pointers[UID].generation == 4


async def test_a_turn_without_anything_new_is_passed_over_once_and_remembered() -> None:
    nightly = model(training={"schedule": "0 3 * * *"})
    world = World()
    ready = await world.settle(nightly)
    world.windows.heard = 0
    world.clock.at += timedelta(days=1)
    passed, outcome = await world.step(ready)
    turn = datetime(2026, 3, 11, 3, 0, tzinfo=UTC)
    assert [name for name, _ in outcome.results.done] == ["SkipTraining"]
    assert condition(passed, "Training") == ("False", "NothingNew")
    assert condition(passed, "Ready") == ("True", "Active")
    assert passed.status.last_skipped is not None
    assert passed.status.last_skipped.turn == turn
    assert passed.status.next_training_at == turn + timedelta(days=1)
    assert outcome.next_look is not None
    assert outcome.next_look <= timedelta(days=1)

    world.windows.heard = 5
    again, outcome = await world.step(passed)
    assert outcome.results.done == ()
    assert again.status.last_skipped == passed.status.last_skipped
    world.clock.at += timedelta(days=1)
    trained = await world.settle(again)
    assert [it.attempt for it in trained.status.trainings] == [2, 1]
    assert world.turns is not None
    assert (world.turns.ends, world.turns.due) == (["Passed", "Skipped", "Passed"], {UID: None})
    assert trained.status.next_training_at == turn + timedelta(days=2)


async def test_probabilities_that_drift_train_anew() -> None:
    halves = (
        figures.Decile(least=0.0, rows=500, failures=5),
        figures.Decile(least=0.2, rows=500, failures=90),
    )
    world = World(reports={"curves": figures.Curves(calibration=(), deciles=halves, days=())})
    ready = await world.settle(model(training={"maxDrift": 0.25}))
    assert ready.status.active is not None
    version = ready.status.active.version
    world.clock.at += timedelta(days=1)
    few = [(version, world.clock.at, 0.9)] * 150
    world.trainings.predictions = list(few)
    _, outcome = await world.step(ready)
    assert outcome.results.done == (), "too few to tell drift from chance"
    world.trainings.predictions = few * 2 + [(version, world.clock.at, 0.1)] * 20
    _, outcome = await world.step(ready)
    (name, sentence) = outcome.results.done[0]
    assert name == "BeginTraining"
    assert "have drifted" in sentence


async def test_enough_new_runs_train_anew_and_count_from_there() -> None:
    growing = model(training={"onNewRuns": 50})
    world = World()
    ready = await world.settle(growing)
    world.windows.ended = 50
    world.clock.at += timedelta(minutes=30)
    _, outcome = await world.step(ready)
    assert outcome.results.done == ()
    assert outcome.next_look is not None
    assert outcome.next_look <= timedelta(minutes=30)
    world.clock.at += outcome.next_look
    began, outcome = await world.step(ready)
    assert outcome.results.done[0][1].endswith("50 runs passed or failed since attempt 1 began")
    world.windows.ended = 0
    assert [it.attempt for it in (await world.settle(began)).status.trainings] == [2, 1]


async def test_a_settled_model_says_the_same_again() -> None:
    world = World()
    ready = await world.settle(model())
    again, outcome = await world.step(ready)
    assert (again.status.dump(), outcome.results.done) == (ready.status.dump(), ())


async def test_a_version_goes_on_predicting_while_trouble_is_told() -> None:
    world = World()
    ready = await world.settle(model(training={"schedule": "0 3 * * *"}))
    world.clock.at += timedelta(days=1)
    forbid(world.compute, "submit", errors.Forbidden("Ray refuses our token"))
    begun, _ = await world.step(ready)
    refused, outcome = await world.step(begun)
    assert [str(it.error) for it in outcome.results.failures] == ["Ray refuses our token"]
    assert condition(refused, "Ready") == ("True", "Active")
    assert condition(refused, "Reconciling") == ("True", "Forbidden")


async def test_without_a_version_trouble_is_why_nothing_predicts() -> None:
    world = World()
    forbid(world.compute, "submit", errors.Forbidden("Ray refuses our token"))
    begun, _ = await world.step(model())
    refused, _ = await world.step(begun)
    assert condition(refused, "Ready") == ("False", "Forbidden")


async def test_a_refused_candidate_is_shown_and_not_promoted() -> None:
    world = World(reports={"outcome": "GatesFailed", "reason": "accuracy is 0.91, must be at least 1"})
    refused = await world.settle(model(evaluation={"gates": {"minAccuracy": 1}}))
    assert condition(refused, "Ready") == ("False", "GatesFailed")
    assert refused.status.candidate is not None
    assert refused.status.last_training is not None
    assert refused.status.last_training.reason == "GatesFailed: accuracy is 0.91, must be at least 1"
    assert world.pointers.pointers == {}


async def test_a_second_default_is_told_and_serves_without_being_it() -> None:
    world = World()
    await world.settle(model(serving={"default": True}))
    other = Model.parse(
        {
            "metadata": {"name": "second", "namespace": "acme", "uid": UID[::-1], "generation": 1},
            "spec": {"task": "RunFailure", "serving": {"default": True}},
        }
    )
    told = await world.settle(other)
    assert condition(told, "Ready") == ("False", "AnotherDefault")
    assert condition(told, "Stalled") == ("True", "AnotherDefault")
    assert [it.is_default for it in world.pointers.pointers.values()] == [True, False]


async def test_a_journal_that_cannot_be_read_leaves_the_status_as_it_was() -> None:
    world = World()
    ready = await world.settle(model())
    forbid(world.trainings, "latest", errors.Unreachable("the database is down"))
    told, outcome = await world.step(ready)
    assert condition(told, "Ready") == ("True", "Active")
    assert condition(told, "Training") == ("Unknown", "Unreachable")
    assert told.status.last_training == ready.status.last_training
    assert outcome.next_look == timedelta(seconds=10)


async def test_a_password_that_is_missing_leaves_a_serving_model_ready() -> None:
    world = World()
    ready = await world.settle(model())
    forbid(world.trainings, "latest", errors.Waiting("CredentialsMissing", "Vault has no password"))
    told, _ = await world.step(ready)
    assert condition(told, "Ready") == ("True", "Active")
    assert condition(told, "Training") == ("Unknown", "CredentialsMissing")


@pytest.mark.parametrize(
    "trouble",
    [errors.Unreachable("the database is down"), errors.Waiting("CredentialsMissing", "no password")],
    ids=lambda trouble: trouble.reason,
)
async def test_a_model_goes_with_a_tenant_whose_database_cannot_be_reached(trouble: Exception) -> None:
    world = World()
    await world.settle(model())
    world.directory.tenants["acme"] = dataclasses.replace(TENANT, state="Deleting")
    forbid(world.trainings, "latest", trouble)
    going = await world.settle(model(deleting=True))
    _, outcome = await world.step(going)
    assert outcome.finished
    assert (world.artifacts.files, world.pointers.pointers) == ({}, {})


async def test_an_artifact_store_that_is_down_wedges_nothing() -> None:
    world = World()
    ready = await world.settle(model(training={"schedule": "0 3 * * *"}))
    world.clock.at += timedelta(days=1)
    world.compute = MemoryCompute()
    begun = await world.settle(ready)
    (first, second) = world.trainings.attempts[UID].values()
    assert not first.running
    forbid(world.artifacts, "get", errors.Unreachable("artifact store: read report.json: stale"))
    world.compute.set(second.submission_id, JobStatus(phase="Succeeded"))
    told = await world.settle(begun)
    assert condition(told, "Ready") == ("True", "Active")
    assert condition(told, "Training") == ("True", "Unreachable")
    assert world.trainings.attempts[UID][2].running
    world.clock.at += timedelta(hours=1)
    await world.step(told)
    assert world.trainings.attempts[UID][2].reason.startswith("DeadlineExceeded")


async def test_a_report_that_the_store_refuses_to_read_is_a_failed_attempt() -> None:
    world = World()
    world.compute = MemoryCompute()
    begun = await world.settle(model(training={"retries": 0}))
    forbid(world.artifacts, "get", errors.BackendError("artifact store: report.json is no plain file"))
    told = await world.settle(begun)
    assert condition(told, "Training") == ("False", "TrainingFailed")
    assert world.trainings.attempts[UID][1].reason.endswith("report.json is no plain file")


async def test_a_namespace_without_a_tenant_waits() -> None:
    world = World(directory=MemoryDirectory())
    with pytest.raises(errors.Waiting, match="belongs to no tenant"):
        await world.step(model())


async def test_a_version_whose_file_is_lost_is_made_anew_and_predicts_again() -> None:
    world = World()
    ready = await world.settle(model())
    before = world.pointers.pointers[UID]
    world.windows.heard = 0
    await world.artifacts.delete(before.artifact_uri)
    told, _ = await world.step(ready)
    assert condition(told, "Ready") == ("False", "ArtifactMissing")
    again = await world.settle(told)
    after = world.pointers.pointers[UID]
    assert condition(again, "Ready") == ("True", "Active")
    assert (after.version, after.generation) == (before.version, 2)
    assert after.artifact_uri in world.artifacts.files
    assert [it.attempt for it in again.status.trainings] == [2, 1]


async def judged(world: World) -> Model:
    """A Model whose first version has passed, and is not promoted yet."""
    told = model()
    for _ in range(10):
        told, outcome = await world.step(told)
        if "FinishTraining" in dict(outcome.results.done):
            return told
    raise AssertionError("no training ends")


@pytest.mark.parametrize("content", [b"another", None], ids=["altered", "removed"])
async def test_a_version_whose_file_is_not_what_was_judged_is_not_promoted(content: bytes | None) -> None:
    world = World()
    told = await judged(world)
    (uri,) = (uri for uri in world.artifacts.files if uri.endswith("/model"))
    world.artifacts.files.pop(uri)
    if content is not None:
        world.artifacts.files[uri] = content
    told, outcome = await world.step(told)
    assert world.pointers.pointers == {}
    assert [reason for reason, _ in outcome.results.done] == ["BeginTraining"]
    again = await world.settle(told)
    assert condition(again, "Ready") == ("True", "Active")
    assert world.pointers.pointers[UID].artifact_uri != uri
    assert [(it.attempt, it.outcome) for it in again.status.trainings] == [(2, "Passed"), (1, "Passed")]


async def test_a_rollback_to_a_version_whose_file_is_another_leaves_the_active_one() -> None:
    nightly = {"schedule": "0 3 * * *"}
    world = World()
    await world.settle(model(training=nightly))
    old = world.pointers.pointers[UID]
    world.windows.window = ExportedWindow(
        content=b"later", sha256=hashlib.sha256(b"later").hexdigest(), rows=700
    )
    world.clock.at += timedelta(days=1)
    await world.settle(model(training=nightly))
    active = world.pointers.pointers[UID]
    assert active.version != old.version
    world.artifacts.files[old.artifact_uri] = b"another"
    back = await world.settle(model(training=nightly, serving={"version": old.version}))
    assert condition(back, "Ready") == ("False", "ArtifactMismatch")
    assert world.pointers.pointers[UID] == active


async def test_a_store_that_cannot_be_read_promotes_nothing_and_judges_nothing() -> None:
    world = World()
    told, get = await judged(world), world.artifacts.get
    forbid(world.artifacts, "get", errors.Unreachable("the store is down"))
    told, outcome = await world.step(told)
    assert (world.pointers.pointers, outcome.results.done) == ({}, ())
    assert condition(told, "Training") == ("Unknown", "Unreachable")
    world.artifacts.get = get  # type: ignore[method-assign]
    told = await world.settle(told)
    assert (condition(told, "Ready"), len(told.status.trainings)) == (("True", "Active"), 1)


async def test_an_artifact_store_that_is_down_has_lost_nothing() -> None:
    world = World()
    ready = await world.settle(model())
    forbid(world.artifacts, "exists", errors.Unreachable("the store is down"))
    told, outcome = await world.step(ready)
    assert (condition(told, "Ready"), outcome.results.done) == (("True", "Active"), ())


async def test_a_training_is_not_overdue_in_a_namespace_that_is_no_tenants_any_more() -> None:
    world = World()
    ready = await world.settle(model(training={"schedule": "0 3 * * *"}))
    world.clock.at += timedelta(days=1)
    forbid(world.windows, "export", errors.Unreachable("the database is down"))
    await world.step(ready)
    assert world.turns is not None
    assert world.turns.due[UID] == datetime(2026, 3, 11, 3, 0, tzinfo=UTC)
    world.directory.tenants.clear()
    with pytest.raises(errors.Waiting):
        await world.step(ready)
    assert world.turns.due[UID] is None


@pytest.mark.parametrize(
    ("task", "wrong", "says"),
    [
        ("RunFailure", {"metrics": replace(METRICS, accuracy=2)}, "metrics.accuracy is 2"),
        (
            "Duration",
            {"durations": replace(DURATIONS, metrics=replace(LASTED, pinball_loss=1e9))},
            "durations.metrics.pinballLoss is 1000000000.0",
        ),
    ],
)
async def test_a_report_of_the_impossible_is_an_invalid_one(
    task: str, wrong: dict[str, Any], says: str
) -> None:
    world = World(reports=wrong)
    told = await world.settle(model(task=task, training={"retries": 0}))
    assert condition(told, "Training") == ("False", "TrainingFailed")
    (training,) = world.trainings.attempts[UID].values()
    assert training.reason.startswith("InvalidReport: the training's report cannot be read: " + says)
    assert not world.pointers.pointers


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff", b"{}", b'{"submissionId": "another", "outcome": "Passed", "reason": ""}'],
)
async def test_a_report_that_is_none_is_a_failed_attempt(content: bytes) -> None:
    world = World()
    world.compute = MemoryCompute()
    begun = await world.settle(model(training={"retries": 0}))
    (training,) = world.trainings.attempts[UID].values()
    world.artifacts.files[training.report_uri] = content
    told = await world.settle(begun)
    assert condition(told, "Training") == ("False", "TrainingFailed")
    assert world.pointers.pointers == {}


async def test_a_deleted_model_leaves_nothing_but_its_journal() -> None:
    world = World()
    ready = await world.settle(model())
    going = model(deleting=True).model_copy(update={"status": ready.status})
    await world.settle(going)
    _, outcome = await world.step(going)
    assert outcome.finished
    assert (world.artifacts.files, world.pointers.pointers) == ({}, {})
    assert len(world.trainings.attempts[UID]) == 1


async def test_a_model_deleted_while_it_trains_stops_its_job_first() -> None:
    world = World()
    world.compute = MemoryCompute()
    begun = await world.settle(model())
    going = model(deleting=True).model_copy(update={"status": begun.status})
    await world.settle(going)
    _, outcome = await world.step(going)
    assert outcome.finished
    (training,) = world.trainings.attempts[UID].values()
    assert (training.outcome, training.reason[:12]) == ("Failed", "ModelDeleted")
    place = JobPlace(tenant_id=TENANT.id, namespace="acme", model="run-failure", model_uid=UID)
    assert await world.compute.status(training.submission_id, place=place) == JobStatus(phase="Stopped")


async def test_a_job_stays_where_it_began_whatever_the_spec_says_since() -> None:
    world = World()
    world.compute = MemoryCompute()
    gpu = {"kubeRay": {"gpus": 1, "queueName": "trainings", "tolerations": [{"operator": "Exists"}]}}
    first = model(training={"compute": gpu})
    while not world.compute.submitted:
        first, _ = await world.step(first)
    place, pod = world.compute.places[world.compute.submitted[0]]
    assert (place.namespace, place.model, place.compute) == ("acme", "run-failure", "kubeRay")
    assert (pod.gpus, pod.queue, list(pod.tolerations)) == (1, "trainings", [{"operator": "Exists"}])
    asked = []
    status = world.compute.status

    async def asking(submission_id: str, *, place: JobPlace) -> JobStatus | None:
        asked.append(place.compute)
        return await status(submission_id, place=place)

    world.compute.status = asking  # type: ignore[method-assign]
    moved = model(training={"compute": {"cluster": "gpu"}}).model_copy(update={"status": first.status})
    await world.step(moved)
    assert asked == ["kubeRay"]


async def test_a_place_that_nobody_set_up_is_told_and_nothing_begins() -> None:
    world = World()
    told = "the operator's settings have no Ray cluster gpu: they have default"
    world.compute.unusable["gpu"] = errors.Stalled("NoSuchCluster", told)
    subject = await world.settle(model(training={"compute": {"cluster": "gpu"}}))
    assert condition(subject, "Training") == ("False", "NoSuchCluster")
    assert condition(subject, "Stalled")[0] == "True"
    assert world.compute.submitted == []
    world.compute.unusable.clear()
    subject = await world.settle(subject)
    assert condition(subject, "Ready") == ("True", "Active")


class Lending(MemoryArtifacts):
    """A bucket: nobody can follow its addresses who was not lent them, and a job could not name them."""

    def url_for(self, *parts: str) -> str:
        return super().url_for(*parts).replace("file:///memory", "s3://bucket")

    @staticmethod
    def _inside(url: str) -> str:
        assert url.startswith("s3://bucket/")
        return url

    async def lend(self, url: str, *, to: str, lasting: timedelta) -> str:
        return (
            f"https://store.example/{to}/{lasting.total_seconds():.0f}{url.removeprefix('s3://bucket')}?s=1"
        )


async def test_a_job_is_lent_its_files_and_the_journal_has_their_own_addresses() -> None:
    jobs: list[contract.TrainingJob] = []
    world = World(artifacts=Lending())
    world.compute = MemoryCompute(lambda job: not jobs.append(job))  # type: ignore[func-returns-value]
    subject = model(training={"deadline": "20m"})
    for _ in range(5):
        subject, _ = await world.step(subject)
    [job], [training] = jobs, world.trainings.attempts[UID].values()
    assert training.window.uri.startswith("s3://bucket/")
    assert [job.window_uri, job.artifact_uri, job.report_uri] == [
        f"https://store.example/{to}/1800{url.removeprefix('s3://bucket')}?s=1"
        for to, url in (
            ("read", training.window.uri),
            ("write", training.artifact_uri),
            ("write", training.report_uri),
        )
    ]


WRITES = (
    ("artifacts", "put"),
    ("artifacts", "delete"),
    ("trainings", "begin"),
    ("trainings", "mark"),
    ("trainings", "finish"),
    ("compute", "submit"),
    ("compute", "stop"),
    ("pointers", "promote"),
    ("pointers", "change_serving"),
    ("pointers", "withdraw"),
)


@pytest.mark.parametrize("deleting", [False, True])
async def test_killed_after_any_write_it_ends_in_the_same_state(deleting: bool) -> None:
    undisturbed = await life(World(), deleting=deleting)
    writes = undisturbed.counted
    assert writes >= (8 if deleting else 6)
    for number in range(1, writes + 1):
        world = await life(World(), deleting=deleting, kill_after=number)
        assert state(world.world) == state(undisturbed.world), f"killed after write {number}"


NIGHT = {"schedule": "0 3 * * *"}


async def test_killed_after_any_write_of_a_longer_life_it_ends_in_the_same_state() -> None:
    """A second version, a turn that is passed over, a rollback to the first, and back."""
    undisturbed = await longer_life(World())
    told = state(undisturbed.world)
    assert [outcome for _, _, _, outcome in told["trainings"]] == ["Passed", "Passed"]
    assert [generation for _, _, generation in told["pointers"]] == [4]
    assert undisturbed.counted >= 14
    for number in range(1, undisturbed.counted + 1):
        world = await longer_life(World(), kill_after=number)
        assert state(world.world) == told, f"killed after write {number}"


async def longer_life(world: World, *, kill_after: int | None = None) -> Counted:
    counted = Counted(world)
    for port, method in WRITES:
        _count(counted, getattr(world, port), method, kill_after)
    subject = await _until_it_rests(world, model(training=NIGHT))
    first = subject.status.trainings[0].version
    world.windows.window = ExportedWindow(
        content=b"later", sha256=hashlib.sha256(b"later").hexdigest(), rows=700
    )
    world.clock.at += timedelta(days=1)
    subject = await _until_it_rests(world, subject)
    world.windows.heard = 0
    world.clock.at += timedelta(days=1)
    subject = await _until_it_rests(world, subject)
    assert subject.status.last_skipped is not None
    assert subject.status.last_skipped.turn == datetime(2026, 3, 12, 3, 0, tzinfo=UTC)
    for serving in ({"version": first}, {}):
        named = model(training=NIGHT, serving=serving)
        subject = await _until_it_rests(world, named.model_copy(update={"status": subject.status}))
    return counted


@dataclass
class Counted:
    world: World
    counted: int = 0


async def life(world: World, *, deleting: bool, kill_after: int | None = None) -> Counted:
    """A model until it rests; the process is killed once, after so many writes."""
    counted = Counted(world)
    for port, method in WRITES:
        _count(counted, getattr(world, port), method, kill_after)
    await _until_it_rests(world, model(serving={"default": True}))
    if deleting:
        await _until_it_rests(world, model(deleting=True))
    return counted


async def _until_it_rests(world: World, subject: Model) -> Model:
    while True:
        try:
            subject, outcome = await world.step(subject)
        except Killed:
            continue
        killed = any(isinstance(it.error, Killed) for it in outcome.results.failures)
        if not killed and not outcome.results.done and not outcome.results.failures:
            return subject


def _count(counted: Counted, port: Any, method: str, kill_after: int | None) -> None:
    original = getattr(port, method)

    async def write(*args: Any, **kwargs: Any) -> Any:
        answer = await original(*args, **kwargs)
        counted.counted += 1
        if counted.counted == kill_after:
            raise Killed
        return answer

    setattr(port, method, write)


def state(world: World) -> Any:
    """What must be the same whatever happened: no times."""
    return json.loads(
        json.dumps(
            {
                "files": sorted(world.artifacts.files),
                "trainings": [
                    (it.attempt, it.submission_id, it.phase, it.outcome)
                    for it in world.trainings.attempts[UID].values()
                ],
                "submitted": world.compute.submitted,
                "pointers": [
                    (it.version, it.is_default, it.generation) for it in world.pointers.pointers.values()
                ],
            }
        )
    )


def forbid(port: Any, method: str, error: Exception) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise error

    setattr(port, method, refuse)
