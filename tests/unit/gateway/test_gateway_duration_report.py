"""The report of a model of durations from sums by day, and its page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway import duration_page, duration_report
from ml import contract, figures
from pipewright.store.durations import Lasted, Slow
from pipewright.store.records import ModelPointer, Training

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
POINTER = ModelPointer(
    model_uid="m", tenant_id="t", namespace="n", model="durations", task="Duration", is_default=True,
    version="0123456789ab", artifact_uri="file:///nowhere", artifact_sha256="0123456789ab" + "0" * 52,
    promoted_at=SINCE,
)  # fmt: skip
DAYS = [
    Lasted(
        day=date(2026, 3, 1), forecasts=60, judged=50, within_p50=25, within_p90=45, within_p95=48,
        off=500.0, pinball=1500.0,
    ),
    Lasted(
        day=date(2026, 3, 2), forecasts=60, judged=50, within_p50=25, within_p90=45, within_p95=47,
        off=1500.0, pinball=3000.0,
    ),
    Lasted(
        day=date(2026, 3, 3), forecasts=9, judged=0, within_p50=0, within_p90=0, within_p95=0, off=0.0,
        pinball=0.0,
    ),
]  # fmt: skip
SLOW = Slow(
    integration="u1", provider_id="77", attempt=2, project="acme/shop", pipeline="ci",
    branch="<script>alert(1)</script>", seconds=1900.0, p50=300.0, p95=600.0, finished_at=SINCE, url="",
)  # fmt: skip
NUMBERS = figures.DurationMetrics(
    pinball_loss=12.0, coverage_error=0.02, median_error=20.0, rows=100,
    quantiles=tuple(
        figures.QuantileMetrics(quantile=quantile, pinball_loss=12.0, covered=quantile)
        for quantile in (0.5, 0.9, 0.95)
    ),
)  # fmt: skip
REPORT = contract.Report(
    submission_id="s", outcome="Passed", reason="", rows=400, artifact_sha256=POINTER.artifact_sha256,
    durations=figures.Durations(
        metrics=NUMBERS, baselines={"recentRuns": NUMBERS, "lastRun": NUMBERS}, classes=(50, 40, 5, 5),
        days=(figures.DurationDay(day="2026-02-27", rows=100, within=90, median_error=20.0),),
    ),
)  # fmt: skip
TRAINING = Training(
    submission_id="s", model_uid="m", attempt=1, phase="Finished", window_sha256="", window_uri="", rows=400,
    artifact_uri="", report_uri="", started_at=SINCE, outcome="Passed", reason="all gates passed",
)  # fmt: skip


def body(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "report": REPORT,
        "lasted": DAYS,
        "slow": [SLOW],
        "integrations": {"u1": "github"},
        "trainings": [(TRAINING, REPORT)],
        "since": SINCE,
    }
    return duration_report.body(POINTER, **values | changes)


def test_the_days_together_give_the_formulas_of_the_training() -> None:
    live = body().live
    assert (live.forecasts, live.judged) == (129, 100)
    assert live.pinball_loss == pytest.approx(4500 / 300)
    assert live.median_error == pytest.approx(20.0)
    assert live.covered == {"p50": 0.5, "p90": 0.9, "p95": 0.95}
    assert live.population_stability_index == pytest.approx(0.0)
    assert [day.median_error for day in live.days] == [10.0, 30.0, None]


def test_runs_that_take_longer_than_they_did_are_drift() -> None:
    slower = [replace(each, within_p50=5, within_p90=25, within_p95=30) for each in DAYS[:2]]
    assert body(lasted=slower).live.population_stability_index > 0.25


def test_without_forecasts_or_a_training_nothing_is_made_up() -> None:
    found = body(report=None, lasted=[], slow=[], trainings=[])
    assert found.held_out is None
    assert (found.live.covered, found.live.pinball_loss, found.live.population_stability_index) == (
        {}, None, None,
    )  # fmt: skip
    assert "No run took longer" in duration_page.render(found)


def test_a_slow_run_of_another_namespaces_integration_is_not_shown() -> None:
    assert [each.run for each in body().slow] == ["77"]
    assert body(integrations={"other": "x"}).slow == ()


def test_the_page_is_whole_draws_each_picture_and_runs_nothing() -> None:
    page = duration_page.render(body())
    drawings = re.findall(r"<svg.*?</svg>", page)
    labels = [ET.fromstring(each).get("aria-label") for each in drawings]
    assert labels == ["Coverage", "By day", "By day, live"]
    assert "<script>" not in page
    for told in ("12.0 s", "15.0 s", "32 min", "population stability index of the durations is 0.000"):
        assert told in page, told
