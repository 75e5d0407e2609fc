"""What a delivery asks models of durations and causes, and when: once for an attempt, by what was known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway import forecasts, lines
from gateway.forecasts import Book, Told
from gateway.lines import Held
from gateway.metrics import Metrics
from gateway.scoring import Models
from ml import artifact, cause_train, contract, duration_train, history, window
from ml.diagnosis import Judge
from ml.forecast import Forecaster
from pipewright.store.records import Run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(run: str, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "integration": "i", "provider_id": run, "attempt": 1, "project": "acme/shop", "pipeline": "ci",
        "number": 1, "trigger": "push", "branch": "main", "sha": f"s{run}", "actor": "", "phase": "queued",
        "outcome": "", "queued_at": NOW, "started_at": None, "finished_at": None, "url": "",
        "failed_jobs": (), "jobs": 0, "seen_at": NOW,
    }  # fmt: skip
    return Run(**{**values, **changes})


def ended(run: str, outcome: str, *, minutes: int = 5, **changes: Any) -> Run:
    end = NOW + timedelta(minutes=minutes)
    return row(run, phase="finished", outcome=outcome, started_at=NOW, finished_at=end, **changes)


def window_of(count: int) -> bytes:
    """Runs of five minutes that fail in e2e and pass when they are run again, or in unit and do not."""
    start, found = datetime(2026, 1, 1, tzinfo=UTC), []
    for number in range(count):
        job, began = ("e2e", "unit")[number % 2], start + timedelta(hours=number)
        for attempt, outcome in ((1, "failure"), (2, "success" if job == "e2e" else "failure")):
            at = began + timedelta(minutes=20 * attempt)
            found.append(
                {
                    "integration": "i", "project": "acme/shop", "pipeline": "ci", "run_id": str(number),
                    "attempt": attempt, "number": number, "event": "push", "branch": "main", "actor": "u",
                    "sha": f"s{number}", "outcome": outcome, "queued_at": None, "started_at": at,
                    "finished_at": at + timedelta(minutes=5, seconds=number % 30),
                    "failed_jobs": [job] if outcome == "failure" else [], "jobs": 2,
                }
            )  # fmt: skip
    return window.write(found)


@pytest.fixture(scope="module")
def loaded() -> tuple[Forecaster, Judge]:
    """Small models that were really trained."""
    content = window_of(150)

    def job(task: contract.Task) -> contract.TrainingJob:
        return contract.TrainingJob(
            submission_id="t", task=task, window_uri="file:///w", window_sha256=artifact.digest(content),
            artifact_uri="file:///m", report_uri="file:///r", hyperparameters={"num_trees": 10},
        )  # fmt: skip

    durations = duration_train.learn(content, job("Duration"))[0]
    causes = cause_train.learn(content, job("FailureCause"))[0]
    return (
        Forecaster.load(durations, sha256=artifact.digest(durations)),
        Judge.load(causes, sha256=artifact.digest(causes)),
    )


def book(*rows: Run) -> Book:
    """Of runs of whose lines nothing is kept."""
    named = {
        (run.integration, run.run_id, run.attempt): tuple(history.lines(run).items())
        for run in map(lines.run_of, rows)
    }
    return Book({}, Held({line: () for names in named.values() for line in names}, named))


async def follow(opened: Book, told: Run, loaded: tuple[Forecaster, Judge]) -> None:
    models = Models(fetch=lambda _pointer: b"", metrics=Metrics())
    forecaster, judge = loaded
    asked = Told(
        row=told,
        phase=told.phase,  # type: ignore[arg-type]
        predictor=None,
        forecaster=forecaster,
        judge=judge,
    )
    await opened.follow(asked, models=models, now=NOW)
    await models.close()


async def test_a_duration_is_forecast_once_when_something_is_known(loaded: tuple[Forecaster, Judge]) -> None:
    first, second = ended("1", "success"), row("2")
    opened = book(first, second)
    await follow(opened, first, loaded)
    assert opened.new_durations == [], "nothing was known"
    await follow(opened, second, loaded)
    (made,) = opened.new_durations
    assert (made.provider_id, made.model_version) == ("2", loaded[0].version)
    assert 200 < made.p50 <= made.p90 <= made.p95 < 500
    await follow(opened, ended("2", "success"), loaded)
    assert opened.new_durations == [made]
    assert opened.new_causes == []


async def test_what_comes_late_of_a_run_that_has_ended_asks_nothing(loaded: tuple[Forecaster, Judge]) -> None:
    known, late = ended("1", "success"), ended("2", "success")
    opened = book(known, late)
    await follow(opened, known, loaded)
    told = Told(row=late, phase="started", predictor=None, forecaster=loaded[0], judge=loaded[1])
    models = Models(fetch=lambda _pointer: b"", metrics=Metrics())
    await opened.follow(told, models=models, now=NOW)
    await models.close()
    assert opened.new_durations == []


@pytest.mark.parametrize(("job", "kind"), [("e2e", "flaky"), ("unit", "code")])
async def test_a_failure_is_judged_once_by_its_failed_jobs(
    loaded: tuple[Forecaster, Judge], job: str, kind: str
) -> None:
    failed = ended("1", "failure", failed_jobs=(job,))
    opened = book(failed)
    await follow(opened, failed, loaded)
    (made,) = opened.new_causes
    assert (made.kind, made.model_version) == (kind, loaded[1].version)
    await follow(opened, failed, loaded)
    assert opened.new_causes == [made]
    prediction = forecasts.as_prediction({}, None, opened.cause_of(failed.key))
    assert prediction is not None
    assert prediction.cause is not None
    assert (prediction.cause.kind, prediction.cause.category) == (kind, None)
    assert (prediction.probability, prediction.duration) == (None, None)


@pytest.mark.parametrize("outcome", ["success", "cancel", "error", "skip"])
async def test_what_did_not_fail_has_no_cause(loaded: tuple[Forecaster, Judge], outcome: str) -> None:
    opened = book(ended("1", outcome))
    await follow(opened, ended("1", outcome), loaded)
    assert opened.new_causes == []


def test_of_nothing_there_is_no_prediction() -> None:
    assert forecasts.as_prediction({}) is None
