"""A model's report from counts, and its page."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway import model_page, model_report, page_frame
from gateway.model_schemas import CurvesBody, HeldOutBody, MetricsBody, ModelReportBody, TrainingBody
from gateway.schemas import ModelRef
from ml import contract
from ml.figures import Curves, Decile
from pipewright.store.records import Training
from pipewright.store.verdicts import Verdicts

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)


def said(
    day: date,
    band: str,
    *,
    failed: bool | None,
    rows: int,
    probability: float,
    decile: int = 1,
    control: bool = False,
) -> Verdicts:
    return Verdicts(
        day=day, decile=decile, bin=min(int(probability * 10), 9), band=band, failed=failed, control=control,
        rows=rows, total=rows * probability,
    )  # fmt: skip


COUNTS = [
    said(FIRST, "low", failed=False, rows=80, probability=0.05),
    said(FIRST, "unsure", failed=True, rows=5, probability=0.5),
    said(SECOND, "high", failed=True, rows=10, probability=0.9, decile=2),
    said(SECOND, "high", failed=False, rows=5, probability=0.9, decile=2),
    said(SECOND, "low", failed=None, rows=7, probability=0.05),
]


def test_the_formulas_are_those_of_rows() -> None:
    live = model_report.live(COUNTS, since=SINCE, expected=None)
    assert (live.predictions, live.judged, live.failures, live.flagged) == (107, 100, 15, 15)
    assert live.accuracy == pytest.approx(0.9)
    assert live.recall == pytest.approx(10 / 15)
    assert live.precision == pytest.approx(10 / 15)
    assert live.false_positive_rate == pytest.approx(5 / 85)
    assert live.coverage == pytest.approx(0.95)
    gaps = (80 * 0.05 + 5 * 0.5 + 15 * abs(0.9 - 10 / 15)) / 100
    assert live.calibration_error == pytest.approx(gaps)
    assert [(day.day, day.rows, day.failures, day.found) for day in live.days] == [
        (FIRST, 85, 5, 0),
        (SECOND, 15, 10, 10),
    ]
    assert live.population_stability_index is None


def test_nothing_judged_is_not_zero() -> None:
    live = model_report.live([], since=SINCE, expected=None)
    assert (live.accuracy, live.recall, live.calibration_error, live.coverage) == (None, None, None, None)


def test_drift_counts_every_prediction_by_the_tenths_of_the_held_out_runs() -> None:
    halves = (Decile(least=0.0, rows=50, failures=1), Decile(least=0.3, rows=50, failures=20))
    expected = Curves(calibration=(), deciles=halves, days=())
    even = [said(FIRST, "low", failed=None, rows=30, probability=0.1, decile=at) for at in (1, 2)]
    below = [said(FIRST, "low", failed=None, rows=30, probability=0.1, decile=0)]
    same = model_report.live(even, since=SINCE, expected=expected)
    moved = model_report.live(even + below, since=SINCE, expected=expected)
    assert same.population_stability_index == pytest.approx(0.0)
    assert moved.population_stability_index is not None
    assert moved.population_stability_index > 0.05


def test_the_report_is_that_of_the_file_that_serves() -> None:
    def training(attempt: int, sha: str, **more: Any) -> Training:
        report = {"submissionId": "t", "outcome": "Passed", "reason": "", "artifactSha256": sha, **more}
        return Training(
            submission_id=f"s{attempt}", model_uid="m", attempt=attempt, phase="Finished", window_sha256="",
            window_uri="", rows=1, artifact_uri="", report_uri="", started_at=SINCE, report=report,
        )  # fmt: skip

    trainings = [training(3, "c" * 64), training(2, "b" * 64, rows=9), training(1, "a" * 64)]
    found = model_report.report_of(trainings, "b" * 64)
    assert found is not None
    assert found.rows == 9
    assert model_report.report_of(trainings, "d" * 64) is None
    assert model_report.report_of([training(1, "e" * 64, rows="many")], "e" * 64) is None


# --- the page ---------------------------------------------------------------------------------------------

NUMBERS = MetricsBody(
    accuracy=0.9, false_positive_rate=0.04, recall=0.5, precision=0.7, auc=0.86, brier=0.08,
    calibration_error=0.02, first_failure_recall=0.2, repeat_failure_recall=0.8, coverage=0.95,
    selective_accuracy=0.93, rows=1000, failures=120,
)  # fmt: skip


def report(**changes: Any) -> ModelReportBody:
    drawn = {
        "calibration": [{"predicted": 0.1, "observed": 0.12, "rows": 900}],
        "deciles": [{"least": at / 10, "rows": 100, "failures": at} for at in range(10)],
        "days": [{"day": "2026-02-27", "rows": 20, "failures": 0, "flagged": 0, "found": 0}],
    }
    whole: dict[str, Any] = {
        "model": ModelRef(name="run-failure", version="0123456789ab"),
        "task": "RunFailure",
        "promoted_at": SINCE,
        "held_out": HeldOutBody(
            metrics=NUMBERS, baselines={"alwaysPass": NUMBERS}, curves=CurvesBody.model_validate(drawn),
            rows=4000, data_from=SINCE, data_to=SINCE,
        ),
        "live": model_report.live(COUNTS, since=SINCE, expected=None),
        "control": None,
        "trainings": (
            TrainingBody(
                attempt=2, started_at=SINCE, finished_at=None, outcome=None,
                reason="<script>alert(1)</script>",
                version=None, accuracy=None, false_positive_rate=None, recall=None,
            ),
        ),
    }  # fmt: skip
    return ModelReportBody(**whole | changes)


def test_the_page_is_whole_and_draws_each_picture() -> None:
    page = model_page.render(report())
    drawings = re.findall(r"<svg.*?</svg>", page)
    labels = [ET.fromstring(each).get("aria-label") for each in drawings]
    assert labels == ["Calibration", "Risk deciles", "Recall by day", "Recall by day, live"]
    assert "90.0%" in page
    assert "120 of them failed" in page


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = model_page.render(report())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "default-src 'none'" in page_frame.HEADERS["Content-Security-Policy"]


def test_a_version_whose_training_is_forgotten_has_a_page() -> None:
    page = model_page.render(report(held_out=None))
    assert "not on record any more" in page
    assert page.count("<svg") == 2


def test_the_page_says_that_a_version_is_pooled_and_of_how_much() -> None:
    assert "pooled" not in model_page.render(report())
    whole = report()
    assert whole.held_out is not None
    told = model_report.pooled_of(contract.Pooled(tenants=3, rows=940, own_rows=40))
    held = whole.held_out.model_copy(update={"pooled": told})
    page = model_page.render(report(held_out=held))
    assert "a pooled version, of 940 runs of 3 tenants, 40 of them your own" in page


def test_the_page_tells_the_control_group_apart() -> None:
    assert "control group" not in model_page.render(report())
    alone = [*COUNTS, said(SECOND, "high", failed=True, rows=3, probability=0.9, control=True)]
    control = model_report.judged_of([each for each in alone if each.control])
    assert (control.predictions, control.judged, control.recall) == (3, 3, 1.0)
    told = model_page.render(report(control=control))
    assert "of these, the control group" in told
    assert "Nothing is done by the predictions of 3 of these; 3 of them have ended." in told


def test_what_a_search_found_stands_beside_its_training() -> None:
    searched = {
        "trials": 12, "asked": 30, "loss": 0.30124, "defaultLoss": 0.3055, "seconds": 60, "by": "RayTune",
        "hyperparameters": {"num_leaves": 6, "learning_rate": 0.0213, "<b>": 1},
    }  # fmt: skip
    told = {"submissionId": "t", "outcome": "Passed", "reason": "", "search": searched}
    row = Training(
        submission_id="s1", model_uid="m", attempt=1, phase="Finished", window_sha256="", window_uri="",
        rows=1, artifact_uri="", report_uri="", started_at=SINCE, report=told,
    )  # fmt: skip
    found = model_report._training(row)
    assert found.search is not None
    assert found.search.model_dump(by_alias=True) == searched
    page = model_page.render(report(trainings=(found,)))
    assert "12 of 30 trials: log loss 0.3012, defaults 0.3055" in page
    assert "learning_rate 0.0213, num_leaves 6" in page
    assert "<b>" not in page
