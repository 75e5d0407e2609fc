"""What a Model needs done, as tables of sentences: (what was seen, when) → (what is planned and said)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.model import objects
from controllers.model.due import overdue
from controllers.model.observed import Observed, Result, Unknown
from controllers.model.plan import Plan, plan_model, plan_teardown
from ml import contract, figures
from pipewright.actions.model import PruneTrainings
from pipewright.api.v1alpha1 import Model
from pipewright.api.v1alpha1.model import ModelStatus
from pipewright.plan import Fact
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import DataWindow, JobStatus, RunCount, Training

UID = "11111111-2222-3333-4444-555555555555"
TENANT = TenantRef(id="abcdefghijkm", uid="tenant-uid", name="acme", state="Active", server="main")
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
WINDOW = DataWindow(uri="file:///a/window", sha256="a" * 64, rows=600)
SHA = "b" * 64
METRICS = figures.Metrics(
    accuracy=0.9,
    false_positive_rate=0.02,
    recall=0.5,
    precision=0.7,
    auc=0.85,
    brier=0.1,
    calibration_error=0.02,
    first_failure_recall=0.2,
    coverage=0.95,
    selective_accuracy=0.92,
    rows=150,
    failures=20,
)


def model(*, deleting: bool = False, **spec: Any) -> Model:
    metadata = {"name": "run-failure", "namespace": "acme", "uid": UID, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Model.parse({"metadata": metadata, "spec": {"task": "RunFailure", **spec}})


PLAIN = model()
NIGHTLY = model(training={"schedule": "0 3 * * *", "timeZone": "Europe/Berlin"})


def skipped(subject: Model, *, turn: str) -> Model:
    told = {"lastSkipped": {"turn": turn, "reason": "nothing new"}}
    return subject.model_copy(update={"status": ModelStatus.model_validate(told)})


DRIFTING = model(training={"maxDrift": 0.25})
DURATIONS = model(task="Duration")
GROWING = model(training={"onNewRuns": 200})
NIGHTLY_DRIFTING = model(training={"schedule": "0 3 * * *", "timeZone": "Europe/Berlin", "maxDrift": 0.25})


def report(**other: Any) -> contract.Report:
    values = {
        "submission_id": "s1",
        "outcome": "Passed",
        "reason": "all gates passed",
        "metrics": METRICS,
        "baselines": {"alwaysPass": METRICS, "lastOutcome": METRICS},
        "artifact_sha256": SHA,
        "model_format": contract.MODEL_FORMAT,
        "rows": 600,
        "data_from": "2026-01-01T00:00:00Z",
        "data_to": "2026-03-01T00:00:00Z",
    }
    return contract.Report(**{**values, **other})


def training(
    number: int = 1, *, ago: timedelta = timedelta(minutes=1), of: Model = PLAIN, **other: Any
) -> Training:
    values: dict[str, Any] = {
        "submission_id": f"s{number}",
        "attempt": number,
        "recipe": objects.recipe(of),
        "phase": "Intended",
        "window": WINDOW,
        "artifact_uri": f"file:///a/{number}/model",
        "report_uri": f"file:///a/{number}/report.json",
        "started_at": NOW - ago,
    }
    return Training(**{**values, **other})


def finished(number: int = 1, outcome: str = "Passed", **other: Any) -> Training:
    began = training(number, **{k: v for k, v in other.items() if k in ("ago", "of")})
    told = None if outcome == "Failed" else report(outcome=outcome, submission_id=f"s{number}")
    values: dict[str, Any] = {
        "phase": "Finished",
        "outcome": outcome,
        "finished_at": began.started_at + timedelta(seconds=10),
        "reason": {
            "Passed": "GatesPassed: all gates passed",
            "GatesFailed": "GatesFailed: accuracy is 0.8000, must be at least 0.85",
            "Failed": "JobFailed: exit code 1",
        }[outcome],
        "report": told,
        **{k: v for k, v in other.items() if k not in ("ago", "of")},
    }
    return replace(began, **values)


def pointer(of: Training, *, subject: Model = PLAIN, generation: int = 1, is_default: bool = False) -> Any:
    made = objects.pointer(subject, of, tenant=TENANT, is_default=is_default, at=NOW)
    return replace(made, generation=generation)


def seen(*trainings: Training, runs: Any = 600, heard: int = 600, ended: int = 0, **other: Any) -> Observed:
    counted = RunCount(rows=runs, heard=heard, ended=ended) if isinstance(runs, int) else runs
    values: dict[str, Any] = {"tenant": TENANT, "trainings": trainings, "runs": counted, **other}
    return Observed(**values)


def sentences(plan: Plan) -> list[str]:
    return [str(action) for action in plan]


def fact(plan: Plan, name: str) -> Fact:
    return next(it for it in plan.facts if it.type == name)


RUNNING = training(phase="Submitted")
STOPPING = training(ago=timedelta(minutes=31), phase="Stopping")
DEADLINE_EXCEEDED = (
    "note training, attempt 1, as Failed: DeadlineExceeded: it was stopped after 30m; raise"
    " training.deadline if it needs more"
)
SPOILED = "the file of attempt 2 is not the one that was judged"
VERSION_ONE = finished(1, report=report(artifact_sha256="c" * 64))
OLD = replace(finished(1, report=report(model_format="pipewright-model/1")), recipe="0123456789")
"""Made by an earlier release."""
OTHER = finished(1, report=report(artifact_sha256="d" * 64))
"""A version that is older than those with the usual digest."""
BEGIN_1 = "export the data window and begin training, attempt 1"
BEGIN_2 = "export the data window and begin training, attempt 2"
DAY = timedelta(days=1)
SKIP = (
    "skip the training of 2026-03-10 02:00 UTC: nothing was heard of runs that passed or failed"
    " since attempt 1"
)

PLANS: dict[str, tuple[Model, Observed, list[str]]] = {
    "without a version and with enough runs the first training begins": (PLAIN, seen(), [BEGIN_1]),
    "with too few runs nothing begins": (PLAIN, seen(runs=499), []),
    "what was begun is submitted": (PLAIN, seen(training()), ["submit training, attempt 1"]),
    "a job that is queued or runs is left alone": (PLAIN, seen(RUNNING, job=JobStatus(phase="Pending")), []),
    "a job that the cluster has forgotten is submitted once more": (
        PLAIN,
        seen(RUNNING),
        ["submit training, attempt 1 again: the cluster has forgotten it"],
    ),
    "a job that the cluster has forgotten twice is lost": (
        PLAIN,
        seen(training(phase="Resubmitted")),
        ["note training, attempt 1, as Failed: JobLost: the Ray cluster has forgotten the job twice"],
    ),
    "a report counts although the cluster has forgotten the job": (
        PLAIN,
        seen(RUNNING, result=Result(report=report(), artifact_sha256=SHA)),
        ["note training, attempt 1, as Passed: GatesPassed: all gates passed"],
    ),
    "a report counts although the cluster does not answer": (
        PLAIN,
        seen(
            RUNNING,
            job=Unknown(reason="Unreachable", message="down"),
            result=Result(report=report(), artifact_sha256=SHA),
        ),
        ["note training, attempt 1, as Passed: GatesPassed: all gates passed"],
    ),
    "a model file that is not the reported one is not taken": (
        PLAIN,
        seen(RUNNING, result=Result(report=report(), artifact_sha256="c" * 64)),
        [
            (
                "note training, attempt 1, as Failed: ArtifactMismatch: the model file is not the one that"
                " the report names"
            )
        ],
    ),
    "a report that cannot be read is a failure": (
        PLAIN,
        seen(RUNNING, result=Result(problem="it is not JSON")),
        ["note training, attempt 1, as Failed: InvalidReport: it is not JSON"],
    ),
    "a missed gate is noted with its sentence": (
        PLAIN,
        seen(
            RUNNING,
            result=Result(
                report=report(outcome="GatesFailed", reason="accuracy is 0.8"), artifact_sha256=SHA
            ),
        ),
        ["note training, attempt 1, as GatesFailed: GatesFailed: accuracy is 0.8"],
    ),
    "a job that failed without a report is noted with the cluster's words": (
        PLAIN,
        seen(RUNNING, job=JobStatus(phase="Failed", message="exit code 1")),
        ["note training, attempt 1, as Failed: JobFailed: exit code 1"],
    ),
    "a job that was killed is told apart": (
        PLAIN,
        seen(RUNNING, job=JobStatus(phase="Failed", message="failed with exit code 137")),
        [
            (
                "note training, attempt 1, as Failed: OutOfMemory: the job was killed, most likely for its"
                " memory (failed with exit code 137): give the Ray cluster's nodes more, or shorten"
                " data.window"
            )
        ],
    ),
    "success without a report is a failure": (
        PLAIN,
        seen(RUNNING, job=JobStatus(phase="Succeeded")),
        ["note training, attempt 1, as Failed: NoReport: the job ended without a report"],
    ),
    "a job beyond its deadline is stopped": (
        PLAIN,
        seen(training(ago=timedelta(minutes=30), phase="Submitted"), job=JobStatus(phase="Running")),
        ["stop training, attempt 1"],
    ),
    "a job that was told to stop is waited for": (PLAIN, seen(STOPPING, job=JobStatus(phase="Running")), []),
    "when it has ended its attempt is closed": (
        PLAIN,
        seen(STOPPING, job=JobStatus(phase="Stopped")),
        [DEADLINE_EXCEEDED],
    ),
    "and when the cluster does not know it any more": (PLAIN, seen(STOPPING, job=None), [DEADLINE_EXCEEDED]),
    "a report that was written at the last moment counts": (
        PLAIN,
        seen(
            STOPPING,
            job=JobStatus(phase="Succeeded"),
            result=Result(report=report(), artifact_sha256=SHA),
        ),
        ["note training, attempt 1, as Passed: GatesPassed: all gates passed"],
    ),
    "beyond the deadline a cluster that does not answer is told to stop, until it answers": (
        PLAIN,
        seen(STOPPING, job=Unknown(reason="Unreachable", message="")),
        ["stop training, attempt 1"],
    ),
    "an artifact store that is down hides the report, so an ended job has not failed": (
        PLAIN,
        seen(RUNNING, job=JobStatus(phase="Succeeded"), result=Unknown(reason="Unreachable", message="down")),
        [],
    ),
    "nor is a forgotten one submitted again": (
        PLAIN,
        seen(RUNNING, result=Unknown(reason="Unreachable", message="down")),
        [],
    ),
    "the deadline counts although the artifact store is down": (
        PLAIN,
        seen(STOPPING, result=Unknown(reason="Unreachable", message="down")),
        [DEADLINE_EXCEEDED],
    ),
    "while the cluster does not answer nothing is done about its job": (
        PLAIN,
        seen(RUNNING, job=Unknown(reason="Unreachable", message="down")),
        [],
    ),
    "what passed is promoted": (PLAIN, seen(finished()), ["promote version bbbbbbbbbbbb"]),
    "what is active is not promoted again": (PLAIN, seen(finished(), pointer=pointer(finished())), []),
    "a newer version replaces the active one": (
        PLAIN,
        seen(finished(2, report=report(artifact_sha256="d" * 64)), finished(), pointer=pointer(finished())),
        ["promote version dddddddddddd"],
    ),
    "an older version never replaces a newer one": (
        PLAIN,
        seen(finished(2), finished(1, report=report(artifact_sha256="d" * 64)), pointer=pointer(finished(2))),
        [],
    ),
    "the same model made again is not promoted again": (
        PLAIN,
        seen(finished(2), finished(1), pointer=pointer(finished(1))),
        [],
    ),
    "a version that is named replaces a newer one": (
        model(serving={"version": "d" * 12}),
        seen(finished(2), OTHER, pointer=pointer(finished(2), generation=7)),
        ["promote version dddddddddddd"],
    ),
    "while one is named a newer one stays what it is": (
        model(serving={"version": "d" * 12}),
        seen(finished(2), OTHER, pointer=pointer(OTHER)),
        [],
    ),
    "when none is named any more the newest that passed returns": (
        PLAIN,
        seen(finished(3, "GatesFailed"), finished(2), OTHER, pointer=pointer(OTHER)),
        ["promote version bbbbbbbbbbbb"],
    ),
    "a version that missed a gate cannot be named": (
        model(serving={"version": "d" * 12}),
        seen(
            finished(2),
            finished(1, "GatesFailed", report=report(outcome="GatesFailed", artifact_sha256="d" * 64)),
            pointer=pointer(finished(2)),
        ),
        [],
    ),
    "nor one whose files are gone": (
        model(serving={"version": "d" * 12}),
        seen(*(finished(number) for number in range(12, 2, -1)), OTHER, pointer=pointer(finished(12))),
        [],
    ),
    "what missed a gate is not promoted, nor tried again by itself": (
        PLAIN,
        seen(finished(1, "GatesFailed")),
        [],
    ),
    "without a version a change of the gates trains again": (
        model(evaluation={"gates": {"minAccuracy": 0.5}}),
        seen(finished(1, "GatesFailed")),
        [BEGIN_2],
    ),
    "with a version a change of the gates waits for the schedule": (
        model(evaluation={"gates": {"minAccuracy": 0.5}}),
        seen(finished(), pointer=pointer(finished())),
        [],
    ),
    "a version that this release cannot read is trained anew at once": (
        PLAIN,
        seen(OLD, pointer=pointer(OLD)),
        [BEGIN_2],
    ),
    "and once: what the release made of it is not what stands in its way": (
        PLAIN,
        seen(finished(2, "GatesFailed"), OLD, pointer=pointer(OLD)),
        [],
    ),
    "technical trouble is tried again after a while": (
        PLAIN,
        seen(finished(1, "Failed", ago=timedelta(seconds=20))),
        [BEGIN_2],
    ),
    "and not before": (PLAIN, seen(finished(1, "Failed", ago=timedelta(seconds=19))), []),
    "the second time it waits longer": (
        PLAIN,
        seen(finished(2, "Failed", ago=timedelta(seconds=49)), finished(1, "Failed", ago=DAY)),
        [],
    ),
    "the retries come to an end": (
        PLAIN,
        seen(*(finished(number, "Failed", ago=DAY) for number in (3, 2, 1))),
        [],
    ),
    "the schedule trains again": (
        NIGHTLY,
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1))),
        [BEGIN_2],
    ),
    "the schedule trains again after a missed gate": (
        NIGHTLY,
        seen(finished(1, "GatesFailed", ago=DAY, of=NIGHTLY)),
        [BEGIN_2],
    ),
    "a turn of the schedule without anything new is passed over": (
        NIGHTLY,
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=0),
        [SKIP],
    ),
    "also when the last version missed a gate: the same runs would miss it again": (
        NIGHTLY,
        seen(finished(1, "GatesFailed", ago=DAY, of=NIGHTLY), heard=0),
        [SKIP],
    ),
    "one new run is something new": (
        NIGHTLY,
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=1),
        [BEGIN_2],
    ),
    "a changed spec is something new": (
        model(training={"schedule": "0 3 * * *"}, evaluation={"gates": {"minAccuracy": 0.5}}),
        seen(finished(1, ago=DAY), pointer=pointer(finished(1)), heard=0),
        [BEGIN_2],
    ),
    "turns that were missed are passed over together": (
        NIGHTLY,
        seen(finished(1, ago=9 * DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=0),
        [SKIP],
    ),
    "what was passed over is not due any more": (
        skipped(NIGHTLY, turn="2026-03-10T02:00:00Z"),
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=3),
        [],
    ),
    "but the next turn is": (
        skipped(NIGHTLY, turn="2026-03-09T02:00:00Z"),
        seen(finished(1, ago=3 * DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=3),
        [BEGIN_2],
    ),
    "technical trouble is tried again without anything new": (
        NIGHTLY,
        seen(finished(1, "Failed", ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), heard=0),
        [BEGIN_2],
    ),
    "what cannot be counted is neither passed over nor begun": (
        NIGHTLY,
        seen(
            finished(1, ago=DAY, of=NIGHTLY),
            pointer=pointer(finished(1)),
            runs=Unknown(reason="Unreachable", message="down"),
        ),
        [],
    ),
    "not before the schedule's time": (
        NIGHTLY,
        seen(finished(1, ago=timedelta(hours=9), of=NIGHTLY), pointer=pointer(finished(1))),
        [],
    ),
    "each turn of the schedule has retries of its own": (
        NIGHTLY,
        seen(
            finished(4, "Failed", ago=timedelta(hours=9), of=NIGHTLY),
            *(finished(number, "Failed", ago=DAY + timedelta(hours=9), of=NIGHTLY) for number in (3, 2, 1)),
        ),
        ["export the data window and begin training, attempt 5"],
    ),
    "promotion goes before the next training": (
        NIGHTLY,
        seen(finished(1, ago=DAY, of=NIGHTLY)),
        ["promote version bbbbbbbbbbbb"],
    ),
    "drift trains ahead of the schedule": (
        DRIFTING,
        seen(finished(1, ago=DAY, of=DRIFTING), pointer=pointer(finished(1)), drift=0.26),
        [f"{BEGIN_2}: the probabilities have drifted (index 0.26)"],
    ),
    "no more than what is allowed is no drift": (
        DRIFTING,
        seen(finished(1, ago=DAY, of=DRIFTING), pointer=pointer(finished(1)), drift=0.25),
        [],
    ),
    "nor what nobody could count": (
        DRIFTING,
        seen(
            finished(1, ago=DAY, of=DRIFTING),
            pointer=pointer(finished(1)),
            drift=Unknown(reason="Unreachable", message="down"),
        ),
        [],
    ),
    "drift trains once a day": (
        DRIFTING,
        seen(finished(1, ago=timedelta(hours=23), of=DRIFTING), pointer=pointer(finished(1)), drift=0.9),
        [],
    ),
    "nor drift while there is nothing new to learn from": (
        DRIFTING,
        seen(finished(1, ago=DAY, of=DRIFTING), pointer=pointer(finished(1)), drift=0.9, heard=0),
        [],
    ),
    "then a turn of the schedule is passed over": (
        NIGHTLY_DRIFTING,
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), drift=0.9, heard=0),
        [SKIP],
    ),
    "once": (
        skipped(NIGHTLY_DRIFTING, turn="2026-03-10T02:00:00Z"),
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1)), drift=0.9, heard=0),
        [],
    ),
    "new runs train ahead of the schedule": (
        GROWING,
        seen(finished(1, ago=timedelta(hours=1), of=GROWING), pointer=pointer(finished(1)), ended=200),
        [f"{BEGIN_2}: 200 runs passed or failed since attempt 1 began"],
    ),
    "once an hour": (
        GROWING,
        seen(finished(1, ago=timedelta(minutes=59), of=GROWING), pointer=pointer(finished(1)), ended=900),
        [],
    ),
    "fewer than that wait for more": (
        GROWING,
        seen(finished(1, ago=DAY, of=GROWING), pointer=pointer(finished(1)), ended=199),
        [],
    ),
    "new runs that cannot be counted train nothing": (
        GROWING,
        seen(
            finished(1, ago=DAY, of=GROWING),
            pointer=pointer(finished(1)),
            runs=Unknown(reason="Unreachable", message="down"),
        ),
        [],
    ),
    "new runs that nobody asked for train nothing": (
        PLAIN,
        seen(finished(1, ago=DAY), pointer=pointer(finished(1)), ended=900),
        [],
    ),
    "new runs wait for the job that runs": (
        GROWING,
        seen(
            training(2, of=GROWING, ago=timedelta(minutes=5), phase="Submitted"),
            finished(1, ago=DAY, of=GROWING),
            pointer=pointer(finished(1)),
            job=JobStatus(phase="Running"),
            ended=900,
        ),
        [],
    ),
    "a lost version is made anew at once, although nothing is new": (
        PLAIN,
        seen(finished(1, ago=DAY), pointer=pointer(finished(1)), is_lost=True, heard=0),
        [f"{BEGIN_2}: the active version's file is no longer in the artifact store"],
    ),
    "and promoted from where it lies now, though it is the same": (
        PLAIN,
        seen(finished(2), finished(1), pointer=pointer(finished(1)), is_lost=True),
        ["promote version bbbbbbbbbbbb"],
    ),
    "also where it is named": (
        model(serving={"version": "b" * 12}),
        seen(finished(2), finished(1), pointer=pointer(finished(1)), is_lost=True),
        ["promote version bbbbbbbbbbbb"],
    ),
    "what is promoted is not promoted again for being lost": (
        model(serving={"version": "b" * 12}),
        seen(finished(1, ago=DAY), pointer=pointer(finished(1)), is_lost=True, runs=3),
        [],
    ),
    "where the gates refuse what was made anew, it is made once a day": (
        PLAIN,
        seen(
            finished(2, "GatesFailed", ago=timedelta(hours=23)),
            finished(1, ago=2 * DAY),
            pointer=pointer(finished(1)),
            is_lost=True,
            heard=0,
        ),
        [],
    ),
    "and then again": (
        PLAIN,
        seen(
            finished(2, "GatesFailed", ago=DAY),
            finished(1, ago=2 * DAY),
            pointer=pointer(finished(1)),
            is_lost=True,
            heard=0,
        ),
        [f"{BEGIN_2[:-1]}3: the active version's file is no longer in the artifact store"],
    ),
    "technical trouble with a lost version has the retries of any other": (
        PLAIN,
        seen(
            *(finished(number, "Failed", ago=DAY) for number in (4, 3, 2)),
            finished(1, ago=2 * DAY),
            pointer=pointer(finished(1)),
            is_lost=True,
        ),
        [],
    ),
    "a version whose file is another since it was judged is made anew at once": (
        PLAIN,
        seen(finished(1), heard=0, spoiled=SPOILED),
        [f"{BEGIN_2}: {SPOILED}"],
    ),
    "also beside an active one, which stays": (
        PLAIN,
        seen(finished(2), finished(1, ago=DAY), pointer=pointer(VERSION_ONE), spoiled=SPOILED),
        [f"{BEGIN_2[:-1]}3: {SPOILED}"],
    ),
    "made anew in vain, it is made once a day": (
        PLAIN,
        seen(finished(2, ago=timedelta(hours=23)), finished(1, ago=DAY), spoiled=SPOILED),
        [],
    ),
    "and is made again then": (
        PLAIN,
        seen(finished(2, ago=DAY), finished(1, ago=DAY + timedelta(hours=1)), spoiled=SPOILED),
        [f"{BEGIN_2[:-1]}3: {SPOILED}"],
    ),
    "a version that a person named is not made anew": (
        model(serving={"version": "b" * 12}),
        seen(finished(2), finished(1), pointer=pointer(VERSION_ONE), spoiled=SPOILED),
        [],
    ),
    "a store that does not answer keeps a version waiting": (
        PLAIN,
        seen(finished(1), spoiled=Unknown(reason="Unreachable", message="down")),
        [],
    ),
    "drift that nobody asked for is shown and no more": (
        PLAIN,
        seen(finished(1, ago=DAY), pointer=pointer(finished(1)), drift=0.9),
        [],
    ),
    "an Integration that is not there is waited for": (
        model(data={"integrations": ["github"]}),
        seen(integrations={"github": None}, runs=None),
        [],
    ),
    "the default is marked when the spec says so": (
        model(serving={"default": True}),
        seen(finished(), pointer=pointer(finished())),
        ["make the model the default of its namespace, with a control group of 2.00%"],
    ),
    "and unmarked": (
        PLAIN,
        seen(finished(), pointer=pointer(finished(), is_default=True)),
        ["make the model not the default of its namespace, with a control group of 2.00%"],
    ),
    "another control group is told to the gateway": (
        model(serving={"controlShare": 0.05}),
        seen(finished(), pointer=pointer(finished())),
        ["make the model not the default of its namespace, with a control group of 5.00%"],
    ),
    "a second default is refused": (
        model(serving={"default": True}),
        seen(finished(), pointer=pointer(finished()), other_default="older"),
        [],
    ),
    "a journal that cannot be read changes nothing": (
        PLAIN,
        Observed(tenant=TENANT, trainings=Unknown(reason="Unreachable", message="down")),
        [],
    ),
    "a schedule that never comes begins nothing": (
        model(training={"schedule": "0 0 31 2 *"}),
        seen(),
        [],
    ),
}


@pytest.mark.parametrize(("subject", "observed", "wanted"), PLANS.values(), ids=PLANS.keys())
def test_plans(subject: Model, observed: Observed, wanted: list[str]) -> None:
    assert sentences(plan_model(subject, observed, now=NOW)) == wanted


SAID: dict[str, tuple[Model, Observed, str, bool | None, str, str]] = {
    "too few runs": (
        PLAIN,
        seen(runs=120),
        "Ready",
        False,
        "WaitingForData",
        (
            "no version predicts yet: training needs 500 runs of the last 90d that succeeded or failed; it"
            " begins when they are there"
        ),
    ),
    "the number of runs is not told, so the message stays": (
        PLAIN,
        seen(runs=121),
        "Training",
        False,
        "WaitingForData",
        "training needs 500 runs of the last 90d that succeeded or failed; it begins when they are there",
    ),
    "a version predicts while the next one is trained": (
        PLAIN,
        seen(
            training(2, phase="Submitted"),
            finished(),
            pointer=pointer(finished()),
            job=JobStatus(phase="Running"),
        ),
        "Ready",
        True,
        "Active",
        "version bbbbbbbbbbbb predicts",
    ),
    "a version predicts although the next one was refused": (
        PLAIN,
        seen(finished(2, "GatesFailed"), finished(), pointer=pointer(finished())),
        "Ready",
        True,
        "Active",
        "version bbbbbbbbbbbb predicts",
    ),
    "a refusal is told with its gate": (
        PLAIN,
        seen(finished(1, "GatesFailed")),
        "GatesPassed",
        False,
        "GatesFailed",
        "accuracy is 0.8000, must be at least 0.85",
    ),
    "too few predictions tell nothing of drift": (
        PLAIN,
        seen(finished(), pointer=pointer(finished())),
        "Drifted",
        None,
        "NotEnoughPredictions",
        "comes with 200 predictions of the active version",
    ),
    "probabilities that lie as they did have not drifted": (
        PLAIN,
        seen(finished(), pointer=pointer(finished()), drift=0.25),
        "Drifted",
        False,
        "Steady",
        "the probabilities lie as on the held-out runs, to less than 0.25 (population stability index)",
    ),
    "durations that lie as they did have not drifted": (
        DURATIONS,
        seen(finished(), pointer=replace(pointer(finished()), task="Duration"), drift=0.25),
        "Drifted",
        False,
        "Steady",
        "the durations lie as on the held-out runs, to less than 0.25 (population stability index)",
    ),
    "drift is told, also where nothing is trained for it": (
        PLAIN,
        seen(finished(), pointer=pointer(finished()), drift=0.26),
        "Drifted",
        True,
        "Drifted",
        (
            "the probabilities have moved by more than 0.25 (population stability index) from those on the"
            " held-out runs: the report shows how good they still are; set training.maxDrift to train anew"
            " then"
        ),
    ),
    "drift is measured by the spec's own limit": (
        model(training={"maxDrift": 1}),
        seen(finished(), pointer=pointer(finished()), drift=0.9),
        "Drifted",
        False,
        "Steady",
        "the probabilities lie as on the held-out runs, to less than 1 (population stability index)",
    ),
    "a journal that does not answer tells nothing of drift": (
        PLAIN,
        seen(trainings=Unknown(reason="Unreachable", message="down"), pointer=pointer(finished())),
        "Drifted",
        None,
        "Unreachable",
        "down",
    ),
    "without a version the refusal is why nothing predicts": (
        PLAIN,
        seen(finished(1, "GatesFailed")),
        "Ready",
        False,
        "GatesFailed",
        (
            "no version predicts yet: attempt 1: accuracy is 0.8000, must be at least 0.85; change the gates,"
            " the data or the learner's settings"
        ),
    ),
    "a version predicts while the journal cannot be read": (
        PLAIN,
        Observed(
            tenant=TENANT,
            pointer=pointer(finished()),
            trainings=Unknown(reason="Unreachable", message="the database is down"),
        ),
        "Ready",
        True,
        "Active",
        "version bbbbbbbbbbbb predicts",
    ),
    "a job on a cluster that does not answer": (
        PLAIN,
        seen(RUNNING, job=Unknown(reason="Unreachable", message="Ray did not answer")),
        "Training",
        True,
        "Unreachable",
        "Ray did not answer",
    ),
    "a version that nobody has": (
        model(serving={"version": "d" * 12}),
        seen(finished(), pointer=pointer(finished())),
        "Ready",
        False,
        "VersionNotFound",
        (
            "none of the last 10 trainings made the version dddddddddddd and passed its gates: name one of"
            " status.trainings, or clear serving.version; version bbbbbbbbbbbb predicts meanwhile"
        ),
    ),
    "a version that nobody has, and no other": (
        model(serving={"version": "d" * 12}),
        seen(finished()),
        "Ready",
        False,
        "VersionNotFound",
        (
            "none of the last 10 trainings made the version dddddddddddd and passed its gates: name one of"
            " status.trainings, or clear serving.version; none predicts meanwhile"
        ),
    ),
    "a version that is named and there": (
        model(serving={"version": "d" * 12}),
        seen(finished(2), OTHER, pointer=pointer(OTHER)),
        "Ready",
        True,
        "Active",
        "version dddddddddddd predicts",
    ),
    "a version whose file has gone": (
        PLAIN,
        seen(finished(), pointer=pointer(finished()), is_lost=True),
        "Ready",
        False,
        "ArtifactMissing",
        (
            "the file of version bbbbbbbbbbbb is no longer in the artifact store: a gateway that has it"
            " loaded goes on, others predict nothing; restore the file, name another version in"
            " serving.version, or wait for the next training"
        ),
    ),
    "a version that passed, and whose file is another in spite of two trainings": (
        PLAIN,
        seen(finished(2), finished(1, ago=timedelta(hours=1)), spoiled=SPOILED),
        "Training",
        False,
        "ArtifactMismatch",
        f"a version that passed is not promoted: {SPOILED}; it is trained anew",
    ),
    "a version that a person named, and whose file is another": (
        model(serving={"version": "b" * 12}),
        seen(finished(2), finished(1), pointer=pointer(VERSION_ONE), spoiled=SPOILED),
        "Ready",
        False,
        "ArtifactMismatch",
        (
            f"version bbbbbbbbbbbb cannot become the active one, because {SPOILED}: restore the file, or name"
            " another version; version cccccccccccc predicts meanwhile"
        ),
    ),
    "a version that waits for the store": (
        PLAIN,
        seen(finished(1), spoiled=Unknown(reason="Unreachable", message="down")),
        "Training",
        None,
        "Unreachable",
        "down",
    ),
    "a version that this release does not read": (
        PLAIN,
        seen(training(2, phase="Submitted"), OLD, pointer=pointer(OLD), job=JobStatus(phase="Running")),
        "Ready",
        False,
        "FormatNotRead",
        (
            "version bbbbbbbbbbbb was made by an earlier release, whose files this one does not read: nothing"
            " is predicted until a training passes its gates"
        ),
    ),
    "a second default": (
        model(serving={"default": True}),
        seen(finished(), pointer=pointer(finished()), other_default="older"),
        "Ready",
        False,
        "AnotherDefault",
        "the model older is the namespace's default already: set serving.default for one of the two only",
    ),
    "a time zone that is not there": (
        model(training={"schedule": "0 3 * * *", "timeZone": "Europe/Berlinn"}),
        seen(),
        "Training",
        False,
        "InvalidTimeZone",
        "the time zone Europe/Berlinn is not in the IANA database: use a name such as Europe/Berlin",
    ),
    "a schedule that never comes": (
        model(training={"schedule": "0 0 31 2 *"}),
        seen(),
        "Training",
        False,
        "InvalidSchedule",
        "the schedule '0 0 31 2 *' names no time that ever comes: correct it",
    ),
}


@pytest.mark.parametrize(
    ("subject", "observed", "aspect", "status", "reason", "message"), SAID.values(), ids=SAID.keys()
)
def test_what_is_said(
    subject: Model, observed: Observed, aspect: str, status: bool | None, reason: str, message: str
) -> None:
    told = fact(plan_model(subject, observed, now=NOW), aspect)
    assert (told.status, told.reason, told.message) == (status, reason, message)


LOOKS: dict[str, tuple[Model, Observed, timedelta | None]] = {
    "a running job is looked at every two seconds": (
        PLAIN,
        seen(RUNNING, job=JobStatus(phase="Running")),
        timedelta(seconds=2),
    ),
    "but not later than its deadline": (
        PLAIN,
        seen(
            training(ago=timedelta(minutes=29, seconds=59), phase="Submitted"),
            job=JobStatus(phase="Running"),
        ),
        timedelta(seconds=1),
    ),
    "the schedule's next time, in its own zone": (
        NIGHTLY,
        seen(finished(1, ago=timedelta(hours=1), of=NIGHTLY), pointer=pointer(finished(1))),
        timedelta(hours=14),
    ),
    "a model without a schedule that is at rest is left alone": (
        PLAIN,
        seen(finished(), pointer=pointer(finished())),
        None,
    ),
    "new runs that came too soon are remembered until the hour is over": (
        GROWING,
        seen(finished(1, ago=timedelta(minutes=59), of=GROWING), pointer=pointer(finished(1)), ended=900),
        timedelta(minutes=1),
    ),
    "runs to come are looked for": (PLAIN, seen(runs=1), timedelta(seconds=10)),
}


@pytest.mark.parametrize(("subject", "observed", "wanted"), LOOKS.values(), ids=LOOKS.keys())
def test_when_it_is_looked_at_again(subject: Model, observed: Observed, wanted: timedelta | None) -> None:
    assert plan_model(subject, observed, now=NOW).check_after == wanted


OVERDUE: dict[str, tuple[Model, Observed, datetime | None]] = {
    "a turn that has come": (
        NIGHTLY,
        seen(finished(1, ago=DAY, of=NIGHTLY), pointer=pointer(finished(1))),
        datetime(2026, 3, 10, 2, 0, tzinfo=UTC),
    ),
    "also where nobody can count the runs": (
        NIGHTLY,
        seen(
            finished(1, ago=DAY, of=NIGHTLY),
            pointer=pointer(finished(1)),
            runs=Unknown(reason="Unreachable", message="down"),
        ),
        datetime(2026, 3, 10, 2, 0, tzinfo=UTC),
    ),
    "the first one": (PLAIN, seen(), NOW),
    "not one that runs": (PLAIN, seen(RUNNING), None),
    "not one whose time has not come": (
        NIGHTLY,
        seen(finished(1, ago=timedelta(hours=9), of=NIGHTLY), pointer=pointer(finished(1))),
        None,
    ),
    "not one that waits for runs": (PLAIN, seen(runs=3), None),
    "not one that waits for an Integration": (PLAIN, seen(runs=None), None),
    "not one of a suspended tenant": (
        PLAIN,
        seen(tenant=replace(TENANT, state="Suspended")),
        None,
    ),
    "not one that the spec keeps from coming": (
        model(training={"schedule": "0 0 31 2 *"}),
        seen(finished(1, ago=DAY), pointer=pointer(finished(1))),
        None,
    ),
    "with a journal that cannot be read the status says when": (
        NIGHTLY.model_copy(
            update={"status": ModelStatus.model_validate({"nextTrainingAt": "2026-03-10T02:00:00Z"})}
        ),
        Observed(tenant=TENANT, trainings=Unknown(reason="Unreachable", message="down")),
        datetime(2026, 3, 10, 2, 0, tzinfo=UTC),
    ),
    "nothing of what is being deleted": (model(deleting=True), seen(), None),
}


@pytest.mark.parametrize(("subject", "observed", "since"), OVERDUE.values(), ids=OVERDUE.keys())
def test_what_is_overdue(subject: Model, observed: Observed, since: datetime | None) -> None:
    assert overdue(subject, observed, now=NOW) == since


def test_the_clock_change_moves_a_local_schedule_in_utc() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    last = finished(1, of=NIGHTLY, started_at=before)
    observed = seen(last, pointer=pointer(last))
    assert plan_model(NIGHTLY, observed, now=before).check_after == timedelta(hours=13)


GOING = model(deleting=True)
LEAVING = replace(TENANT, state="Deleting")
TEARDOWNS: dict[str, tuple[Observed, list[str], bool]] = {
    "a model that never was is gone at once": (Observed(tenant=None), [], True),
    "files and pointer go": (
        seen(finished(), pointer=pointer(finished()), has_files=True),
        ["withdraw the active version", "delete the model's files"],
        False,
    ),
    "then nothing is left to do": (seen(finished()), [], True),
    "a job that runs is stopped first": (
        seen(RUNNING, job=JobStatus(phase="Running"), has_files=True),
        ["stop training, attempt 1"],
        False,
    ),
    "and stopped once": (
        seen(training(phase="Stopping"), job=JobStatus(phase="Running"), has_files=True),
        [],
        False,
    ),
    "and stopped beyond its deadline, too": (
        seen(
            training(ago=timedelta(hours=1), phase="Submitted"),
            job=JobStatus(phase="Running"),
            has_files=True,
        ),
        ["stop training, attempt 1"],
        False,
    ),
    "when it has ended its attempt is closed": (
        seen(RUNNING, job=JobStatus(phase="Stopped"), has_files=True),
        ["note training, attempt 1, as Failed: ModelDeleted: the model was deleted meanwhile"],
        False,
    ),
    "a cluster that does not answer is waited for": (
        seen(RUNNING, job=Unknown(reason="Unreachable", message="down"), has_files=True),
        [],
        False,
    ),
    "until the attempt's deadline": (
        seen(
            training(ago=timedelta(hours=1), phase="Submitted"),
            job=Unknown(reason="Unreachable", message="down"),
            has_files=True,
        ),
        ["note training, attempt 1, as Failed: ModelDeleted: the model was deleted meanwhile"],
        False,
    ),
    "in a namespace that is no tenant's any more the files stay": (
        Observed(tenant=None, pointer=pointer(finished())),
        ["withdraw the active version"],
        False,
    ),
    "a journal that cannot be read is waited for": (
        Observed(tenant=TENANT, trainings=Unknown(reason="Unreachable", message="down"), has_files=True),
        [],
        False,
    ),
    "but not when it goes with its tenant: pointer and files go": (
        Observed(
            tenant=LEAVING,
            trainings=Unknown(reason="Unreachable", message="down"),
            pointer=pointer(finished()),
            has_files=True,
        ),
        ["withdraw the active version", "delete the model's files"],
        False,
    ),
    "then nothing is left to do, with the journal unread": (
        Observed(tenant=LEAVING, trainings=Unknown(reason="CredentialsMissing", message="no password")),
        [],
        True,
    ),
}


@pytest.mark.parametrize(("observed", "wanted", "over"), TEARDOWNS.values(), ids=TEARDOWNS.keys())
def test_teardowns(observed: Observed, wanted: list[str], over: bool) -> None:
    plan = plan_teardown(GOING, observed, now=NOW)
    assert sentences(plan) == wanted
    assert (plan.is_empty and not plan.facts) is over


def test_files_of_old_trainings_go_but_the_active_versions_and_windows_in_use_stay() -> None:
    ended = [finished(number, "GatesFailed", ago=DAY, of=NIGHTLY) for number in range(14, 0, -1)]
    ended = [replace(it, window=replace(WINDOW, uri=f"file:///a/window-{it.attempt // 2}")) for it in ended]
    observed = seen(*ended, pointer=pointer(ended[-1], subject=NIGHTLY))
    _, prune = plan_model(NIGHTLY, observed, now=NOW)
    assert isinstance(prune, PruneTrainings)
    assert prune.urls == ("file:///a/2", "file:///a/3", "file:///a/4", "file:///a/window-1")


def test_the_recipe_is_the_same_whatever_the_schedule_and_the_serving() -> None:
    other = model(training={"schedule": "0 3 * * *", "retries": 1}, serving={"default": True})
    assert objects.recipe(other) == objects.recipe(PLAIN)
    assert objects.recipe(model(data={"window": "30d"})) != objects.recipe(PLAIN)


def test_each_hyperparameter_of_the_contract_reaches_the_learner() -> None:
    wanted = {"numLeaves": 16, "learningRate": 0.1, "trees": 50, "minChild": 10}
    of_a_bucket = training(submission_id="s", artifact_uri="s3://b/model", report_uri="s3://b/report.json")
    job = objects.job(model(training={"hyperparameters": wanted}), of_a_bucket)
    assert job.hyperparameters == {
        "num_leaves": 16,
        "learning_rate": 0.1,
        "num_trees": 50,
        "min_child_samples": 10,
    }


SEARCHING = {"deadline": "40m", "search": {"trials": 30}}


def test_a_search_reaches_the_job_with_half_of_the_deadline_unless_a_time_is_given() -> None:
    job = objects.job(model(training=SEARCHING), training())
    assert job.search == contract.Search(trials=30, seconds=1200)
    asked = {"search": {"timeout": "5m"}, "hyperparameters": {"numLeaves": 4}}
    job = objects.job(model(training=asked), training())
    assert job.search == contract.Search(trials=20, seconds=300)
    assert job.hyperparameters == {"num_leaves": 4}
    assert objects.job(PLAIN, training()).search is None


def test_a_search_is_part_of_the_recipe_and_without_one_it_is_what_it_was() -> None:
    assert objects.recipe(model(training=SEARCHING)) != objects.recipe(PLAIN)
    assert objects.recipe(PLAIN) == "e0518d6a5a"


def test_what_a_search_found_is_told_of_the_last_training() -> None:
    searched = contract.Searched(
        trials=12, asked=30, loss=0.301239, default_loss=0.3055, by="RayTune",
        hyperparameters={"num_leaves": 6.0, "learning_rate": 0.0213, "num_trees": 50, "lambda_l2": 7.1},
    )  # fmt: skip
    told = objects.last_training(finished(report=report(search=searched))).dump()["search"]
    assert told == {
        "trials": 12,
        "loss": 0.3012,
        "defaultLoss": 0.3055,
        "hyperparameters": {"numLeaves": 6, "learningRate": 0.0213, "lambdaL2": 7.1},
    }
    assert objects.last_training(finished()).search is None
    assert objects.last_training(training()).search is None


# --- a suspended tenant -------------------------------------------------------------------------------

STOPPED = replace(TENANT, state="Suspended")
PAUSED: dict[str, tuple[Observed, list[str], str]] = {
    "the first training does not begin": (seen(), [], "TenantSuspended"),
    "one that is due by the schedule does not begin": (
        seen(finished(ago=DAY), pointer=pointer(finished(ago=DAY))),
        [],
        "TenantSuspended",
    ),
    "one that was intended is not submitted": (seen(training()), [], "TenantSuspended"),
    "a version that passed is not promoted": (seen(finished()), [], "TenantSuspended"),
    "a job that runs goes on": (seen(RUNNING, job=JobStatus(phase="Running")), [], "Running"),
    "what it made is noted": (
        seen(RUNNING, job=JobStatus(phase="Succeeded"), result=Result(report=report(), artifact_sha256=SHA)),
        ["note training, attempt 1, as Passed: GatesPassed: all gates passed"],
        "Running",
    ),
}


@pytest.mark.parametrize("sentence", PAUSED)
def test_nothing_begins_for_a_suspended_tenant(sentence: str) -> None:
    observed, expected, reason = PAUSED[sentence]
    plan = plan_model(NIGHTLY, replace(observed, tenant=STOPPED), now=NOW)
    assert sentences(plan) == expected
    assert fact(plan, "Training").reason == reason
    assert (fact(plan, "Ready").status, fact(plan, "Ready").reason) == (False, "TenantSuspended")
    assert plan.check_after is not None
    assert plan.check_after <= timedelta(seconds=30)
