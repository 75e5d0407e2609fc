"""The task Duration from a data window to a forecast: honest, repeatable, the same online as offline."""

import dataclasses
import json
import math
import random
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml import artifact, contract, duration_artifact, duration_features, duration_train, replay, train, window
from ml.artifact import ArtifactRefused
from ml.contract import Gates, Report, TrainingJob
from ml.forecast import Forecaster
from ml.history import Outcome, Run
from ml.learning import TrainingFailed

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(count: int, *, seed: int = 3) -> list[dict[str, Any]]:
    """Runs of one pipeline: of a minute on branches, of ten on main; half as long again at night."""
    chance, found = random.Random(seed), []
    for number in range(count):
        branch = chance.choice(["main", "topic"])
        began = START + timedelta(minutes=31 * number)
        usual = (600 if branch == "main" else 60) * (1.5 if began.hour < 6 else 1.0)
        took = usual * math.exp(chance.gauss(0, 0.1))
        found.append(
            {
                "integration": "github", "project": "a", "pipeline": "ci", "run_id": str(number),
                "attempt": 1, "number": number, "event": "push", "branch": branch, "actor": "u",
                "sha": str(number), "outcome": "success" if number % 7 else "failure", "queued_at": None,
                "started_at": began, "finished_at": began + timedelta(seconds=took), "failed_jobs": [],
                "jobs": 1,
            }
        )  # fmt: skip
    return found


def job_of(content: bytes, **changes: Any) -> TrainingJob:
    plain = TrainingJob(
        submission_id="t1",
        task="Duration",
        window_uri="file:///nowhere/window",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report",
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def content() -> bytes:
    return window.write(rows(1200))


@pytest.fixture(scope="module")
def learned(content: bytes) -> tuple[bytes, Report]:
    return duration_train.learn(content, job_of(content))


def test_it_learns_what_the_quantiles_of_recent_runs_do_not_say(learned: tuple[bytes, Report]) -> None:
    found = learned[1].durations
    assert found is not None
    best = found.baselines["recentRuns"]
    assert found.metrics.pinball_loss < 0.5 * best.pinball_loss
    assert found.metrics.median_error < 0.5 * found.baselines["lastRun"].median_error
    assert found.metrics.coverage_error < 0.08
    assert sum(found.classes) == found.metrics.rows == sum(day.rows for day in found.days) == 300
    assert 0.8 < sum(found.classes[:2]) / 300 < 0.97


def test_the_same_window_and_seed_give_the_same_file(learned: tuple[bytes, Report], content: bytes) -> None:
    assert duration_train.learn(content, job_of(content))[0] == learned[0]


def test_pure_chance_is_not_learned() -> None:
    chance, noise = random.Random(1), rows(600)
    for row in noise:
        row["branch"] = "main"
        row["finished_at"] = row["started_at"] + timedelta(seconds=300 * math.exp(chance.gauss(0, 0.5)))
    content = window.write(noise)
    found = duration_train.learn(content, job_of(content))[1].durations
    assert found is not None
    assert found.metrics.pinball_loss < 1.1 * found.baselines["recentRuns"].pinball_loss


def test_a_gate_that_is_missed_is_told_with_value_and_limit(
    learned: tuple[bytes, Report],
) -> None:
    found = learned[1].durations
    assert found is not None
    gates = Gates(min_pinball_gain=0.99, max_coverage_error=0.0)
    gain, coverage = duration_train.missed_gates(gates, found)
    assert gain.startswith("gain in pinball loss over the baseline recentRuns is 0.")
    assert gain.endswith("must be at least 0.99")
    assert coverage == f"coverage error is {found.metrics.coverage_error:.4f}, must be at most 0"
    assert duration_train.missed_gates(Gates(min_pinball_gain=0.3, max_coverage_error=0.1), found) == []
    # gates of the other task say nothing here
    assert duration_train.missed_gates(Gates(min_accuracy=1.0), found) == []


def test_the_job_leaves_a_report_and_the_model_that_it_speaks_of(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "window").write_bytes(content)
    job = job_of(
        content,
        window_uri=(tmp_path / "window").as_uri(),
        artifact_uri=(tmp_path / "model").as_uri(),
        report_uri=(tmp_path / "report").as_uri(),
        gates=Gates(min_pinball_gain=0.99),
    )
    report = train.run(job)
    assert report == contract.from_json(Report, (tmp_path / "report").read_bytes())
    assert (report.outcome, report.metrics, report.model_format) == (
        "GatesFailed", None, contract.DURATION_FORMAT,
    )  # fmt: skip
    assert report.durations is not None
    assert report.figures == report.durations.metrics
    file = duration_artifact.load((tmp_path / "model").read_bytes(), sha256=report.artifact_sha256 or "")
    assert file.metrics == report.durations.metrics
    assert file.window_sha256 == job.window_sha256


@pytest.mark.parametrize("outcome", ["success", "cancel"])
def test_too_little_to_learn_from_is_said(outcome: str) -> None:
    few = rows(100 if outcome == "success" else 500)
    content = window.write([{**row, "outcome": outcome} for row in few])
    with pytest.raises(TrainingFailed, match=r"training needs 200: wait for more runs"):
        duration_train.learn(content, job_of(content))


def test_what_is_known_only_later_is_not_seen(content: bytes) -> None:
    """A change of durations after the cut changes no feature, and no model, of what came before."""
    later = [dict(row) for row in rows(1200)]
    for row in later[900:]:
        row["finished_at"] = row["started_at"] + timedelta(hours=2)
    changed = window.write(later)
    first = duration_train.dataset(window.read(content, sha256=artifact.digest(content)))
    other = duration_train.dataset(window.read(changed, sha256=artifact.digest(changed)))
    assert np.array_equal(first.rows.x[:890], other.rows.x[:890], equal_nan=True)


def test_the_format_names_the_features() -> None:
    assert f"{duration_artifact.ENVELOPE.format} {duration_features.SCHEMA}" == contract.DURATION_FORMAT


# --- serving ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forecaster(learned: tuple[bytes, Report]) -> Forecaster:
    found = Forecaster.load(learned[0], sha256=artifact.digest(learned[0]))
    found.warm()
    return found


def test_a_forecast_is_what_training_said_of_the_same_run(forecaster: Forecaster, content: bytes) -> None:
    table = window.read(content, sha256=artifact.digest(content))
    data = duration_train.dataset(table)
    said = forecaster.file.mixture.quantiles(data.rows.x, data.rows.scale, data.rows.empirical)
    seen = [(row, lines) for row, lines in replay.replay(replay.attempts(table)) if lines["pipeline"]]
    for place in (5, 700, 1100):
        row, lines = seen[place]
        found = forecaster.forecast(row.run, lines)
        assert found is not None
        assert (found.p50, found.p90, found.p95) == pytest.approx(tuple(said[place]))
        assert found.p50 <= found.p90 <= found.p95
        assert found.version == artifact.digest(duration_artifact.dump(forecaster.file))[:12]


def outcome(number: int, seconds: float) -> Outcome:
    began = 1000.0 * number
    return Outcome(
        run=str(number), attempt=1, sha="", started_at=began, finished_at=began + seconds, failed=False
    )


RUN = Run(
    integration="i", project="p", pipeline="ci", event="push", branch="main", actor="", sha="", run_id="9",
    attempt=1, started_at=1e6,
)  # fmt: skip


def test_a_forecast_says_what_it_rests_on(forecaster: Forecaster) -> None:
    own = [outcome(number, 60.0 + number) for number in range(12)]
    found = forecaster.forecast(RUN, {"pipeline": own, "branch": own[-2:]})
    assert found is not None
    assert found.reasons == (
        "12 runs of this pipeline took 66 s in the middle",
        "the last of them took 71 s",
        "the last 2 on this branch took 70 s in the middle",
    )


def test_a_pipeline_of_few_runs_borrows_and_nothing_is_made_up(forecaster: Forecaster) -> None:
    others = [outcome(number, 300.0) for number in range(20)]
    found = forecaster.forecast(RUN, {"pipeline": [outcome(1, 60)], "project": others})
    assert found is not None
    assert found.reasons[0] == "20 runs of this project took 5 min in the middle"
    assert forecaster.forecast(RUN, {}) is None
    assert forecaster.forecast(RUN, {"pipeline": [outcome(1, 0), outcome(2, 30 * 86400)]}) is None


def changed(content: bytes, **changes: Any) -> bytes:
    return artifact.pack({**json.loads(zlib.decompress(content)), **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "pipewright-model/2"}, "has the format pipewright-model/2"),
        ({"features": {"schema": "x", "names": []}}, "trained on the features x"),
        ({"quantiles": [0.5]}, "is not of the quantiles"),
        ({"offsets": [0.0]}, "is not of the quantiles"),
        ({"weight": "half"}, "weight and offsets are not numbers"),
        ({"models": ["tree", "tree", "tree"]}, "LightGBM cannot read the model"),
        ({"models": [1, 2, 3]}, "holds no LightGBM models"),
        ({"window": {}}, "is incomplete"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    learned: tuple[bytes, Report], changes: dict[str, Any], says: str
) -> None:
    wrong = changed(learned[0], **changes)
    with pytest.raises(ArtifactRefused, match=says):
        duration_artifact.load(wrong, sha256=artifact.digest(wrong))
    with pytest.raises(ArtifactRefused, match="digest"):
        duration_artifact.load(wrong, sha256="0" * 64)


def test_gates_are_shares() -> None:
    with pytest.raises(contract.ContractError, match="maxCoverageError is 5"):
        dataclasses.replace(Gates(), max_coverage_error=5.0)
