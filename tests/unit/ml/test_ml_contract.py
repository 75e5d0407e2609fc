"""The words between the Model controller and a training job."""

import dataclasses
import functools
import json
import math
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml import artifact, contract, features
from ml.contract import ContractError, Gates, Report, Searched, TrainingJob
from ml.figures import (
    Bin,
    CauseMetrics,
    Causes,
    Curves,
    DurationMetrics,
    Durations,
    Metrics,
    QuantileMetrics,
)

ROOT = Path(__file__).parents[3]

JOB = {
    "submissionId": "a1",
    "task": "RunFailure",
    "windowUri": "file:///data/window.parquet",
    "windowSha256": "0" * 64,
    "artifactUri": "https://store.example/model?signature=secret",
    "reportUri": "http://127.0.0.1:9/report?signature=secret",
    "seed": 3,
    "holdout": 0.25,
    "gates": {"maxFalsePositiveRate": 0.05},
    "hyperparameters": {"num_leaves": 8, "learning_rate": 0.03},
}


def test_a_job_survives_json() -> None:
    job = contract.from_json(TrainingJob, json.dumps(JOB))
    assert job.gates == Gates(max_false_positive_rate=0.05)
    assert job.hyperparameters == {"num_leaves": 8, "learning_rate": 0.03}
    assert contract.from_json(TrainingJob, contract.to_json(job)) == job


METRICS = Metrics(
    accuracy=0.9, false_positive_rate=0.03, recall=0.5, precision=None, auc=0.8, brier=0.1,
    calibration_error=0.02, first_failure_recall=None, coverage=0.95, selective_accuracy=0.92,
    rows=100, failures=20,
)  # fmt: skip
CAUSES = CauseMetrics(
    accuracy=0.85, auc=None, brier=0.1, calibration_error=0.05, coverage=0.8, selective_accuracy=None,
    rows=40, transient=15,
)  # fmt: skip
LASTED = DurationMetrics(
    pinball_loss=20.0, coverage_error=0.01, median_error=40.0, rows=100,
    quantiles=(QuantileMetrics(quantile=0.5, pinball_loss=20.0, covered=0.51),),
)  # fmt: skip
REPORT = Report(
    submission_id="a1",
    outcome="GatesFailed",
    reason="accuracy is 0.9000, must be at least 0.95",
    metrics=METRICS,
    baselines={"alwaysPass": METRICS, "lastOutcome": METRICS},
    curves=Curves(calibration=(Bin(predicted=0.1, observed=0.2, rows=5),), deciles=(), days=()),
    durations=Durations(metrics=LASTED, baselines={"lastRun": LASTED}, classes=(50, 50), days=()),
    causes=Causes(metrics=CAUSES, baselines={"majority": CAUSES}),
    artifact_sha256="f" * 64,
    artifact_bytes=12,
    rows=400,
    data_from="2026-01-01T00:00:00Z",
    data_to="2026-02-01T00:00:00Z",
    trained_at="2026-02-01T00:00:10Z",
    duration_seconds=4.2,
)


def test_a_report_survives_json() -> None:
    text = contract.to_json(REPORT)
    assert contract.from_json(Report, text) == REPORT
    assert json.loads(text)["baselines"]["alwaysPass"]["falsePositiveRate"] == 0.03


@pytest.mark.parametrize("least", [0, 1])
def test_figures_may_lie_on_their_bounds(least: int) -> None:
    text = contract.to_json(dataclasses.replace(METRICS, accuracy=least, auc=1 - least, failures=0))
    assert contract.from_json(Metrics, text).accuracy == least


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("metrics.accuracy", 2, "metrics.accuracy is 2; it must be between 0 and 1"),
        ("metrics.accuracy", 1.0000001, "metrics.accuracy is 1.0000001; it must be between 0 and 1"),
        ("metrics.auc", -0.1, "metrics.auc is -0.1; it must be between 0 and 1"),
        ("metrics.brier", 10**400, "metrics.brier is of the wrong kind .int.; it must be a number"),
        ("metrics.brier", math.nan, "metrics.brier is of the wrong kind .float.; it must be a number"),
        ("metrics.recall", math.inf, "metrics.recall is of the wrong kind .float.; it must be a number"),
        ("metrics.failures", -1, "metrics.failures is -1"),
        ("metrics.rows", 10**400, "metrics.rows is of the wrong kind .int.; it must be a whole number"),
        ("baselines.lastOutcome.coverage", 1.01, "baselines.lastOutcome.coverage is 1.01"),
        ("curves.calibration.0.predicted", 1.5, r"curves.calibration\[0\].predicted is 1.5"),
        ("causes.metrics.calibrationError", 7, "causes.metrics.calibrationError is 7"),
        ("durations.metrics.pinballLoss", 1e9, "pinballLoss is 1000000000.0; it must be between 0 and 86400"),
        ("durations.metrics.quantiles.0.covered", -1, r"quantiles\[0\].covered is -1"),
        ("durations.classes.1", -5, r"durations.classes\[1\] is -5"),
        ("rows", -3, "rows is -3"),
        ("dataFrom", "yesterday", "dataFrom must be a time as 2026-01-31T12:00:00Z"),
        ("dataTo", "2026-02-01T00:00:00", "dataTo must be a time"),
    ],
)
def test_a_report_of_the_impossible_is_refused(place: str, value: object, message: str) -> None:
    told: Any = json.loads(contract.to_json(REPORT))
    *way, last = (int(each) if each.isdigit() else each for each in place.split("."))
    functools.reduce(operator.getitem, way, told)[last] = value
    with pytest.raises(ContractError, match=message):
        contract.from_json(Report, json.dumps(told))


FOUND = {"trials": 3, "asked": 9, "loss": 0.25, "defaultLoss": 0.5, "hyperparameters": {"num_leaves": 4}}


def test_what_a_search_found_survives_json_and_may_name_what_only_a_later_release_knows() -> None:
    later = {**FOUND, "hyperparameters": {"num_leaves": 4, "max_bins": 9}}
    found = contract.from_json(Searched, json.dumps(later))
    assert found.hyperparameters == {"num_leaves": 4, "max_bins": 9}
    report = Report(submission_id="a1", outcome="Passed", reason="", search=found)
    assert contract.from_json(Report, contract.to_json(report)) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "search.trials is 0"),
        ({"loss": -1}, "search.loss is -1"),
        ({"defaultLoss": 1e9}, r"search.defaultLoss is 1e\+09; it must be between 0 and 100"),
        ({"hyperparameters": {"num_leaves": 4.5}}, "hyperparameters.num_leaves is 4.5; it must be a whole"),
        ({"hyperparameters": {"num_leaves": 400}}, "hyperparameters.num_leaves is 400"),
    ],
)
def test_a_found_search_that_no_status_could_show_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        contract.from_json(Searched, json.dumps({**FOUND, **change}))


def test_an_unknown_key_is_ignored_so_that_either_side_may_be_newer() -> None:
    assert contract.from_json(TrainingJob, json.dumps({**JOB, "later": 1})).seed == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"submissionId": ""}, "submissionId is empty"),
        ({"windowSha256": "abc"}, "windowSha256 must be the 64"),
        ({"windowSha256": 5}, "windowSha256 is of the wrong kind .int.; it must be a string"),
        ({"holdout": 0.9}, "holdout is 0.9; it must be a share between"),
        ({"seed": 1.5}, "seed is of the wrong kind"),
        ({"seed": True}, "seed is of the wrong kind"),
        ({"seed": -1}, "seed is -1"),
        ({"task": "Weather"}, "task is of the wrong kind .str.; it must be RunFailure"),
        ({"windowUri": "s3://bucket/key"}, "windowUri must be file:///"),
        ({"windowUri": "file://host/key"}, "windowUri must be file:///"),
        ({"artifactUri": "https://user:word@store/x"}, "artifactUri must be file:///"),
        ({"gates": {"minAccuracy": "high"}}, "gates.minAccuracy is of the wrong kind"),
        ({"gates": {"minAccuracy": 85}}, "gates.minAccuracy is 85"),
        ({"gates": []}, "gates is of the wrong kind .list.; it must be an object"),
        ({"hyperparameters": {"depth": 3}}, "hyperparameters.depth is unknown; known are ensemble"),
        ({"hyperparameters": {"num_leaves": 1}}, "hyperparameters.num_leaves is 1; it must be between 2 and"),
        ({"hyperparameters": {"num_leaves": 8.5}}, "hyperparameters.num_leaves is 8.5; it must be a whole"),
        ({"search": {"trials": 0, "seconds": 9}}, "search.trials is 0; it must be between 1 and 1000"),
        ({"search": {"trials": 9, "seconds": 0}}, "search.seconds is 0; it must be above 0"),
        ({"search": {"trials": 9}}, "search.seconds is missing"),
        ({"hyperparameters": {"num_leaves": "8"}}, "hyperparameters.num_leaves is of the wrong kind"),
    ],
)
def test_a_bad_job_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        contract.from_json(TrainingJob, json.dumps({**JOB, **change}))


def test_a_missing_field_is_named() -> None:
    short = {key: value for key, value in JOB.items() if key != "reportUri"}
    with pytest.raises(ContractError, match="reportUri is missing in TrainingJob"):
        contract.from_json(TrainingJob, json.dumps(short))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(ContractError, match="TrainingJob is not JSON"):
        contract.from_json(TrainingJob, b"{")


def test_no_message_repeats_a_signed_address() -> None:
    with pytest.raises(ContractError) as caught:
        contract.from_json(TrainingJob, json.dumps({**JOB, "windowUri": "ftp://a/?signature=secret"}))
    assert "secret" not in str(caught.value)


def test_the_contract_imports_without_numpy() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import ml.contract; print('numpy' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


def test_the_format_that_the_operator_knows_is_the_files() -> None:
    written = f"{artifact.ENVELOPE.format} {features.SCHEMA}"
    assert written == contract.MODEL_FORMAT
