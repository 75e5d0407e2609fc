"""The report of a model of causes from counts, and its page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway import cause_page, cause_report
from ml import contract, figures
from pipewright.store.causes import Rerun
from pipewright.store.records import Judged, ModelPointer, Training

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
POINTER = ModelPointer(
    model_uid="m", tenant_id="t", namespace="n", model="causes", task="FailureCause", is_default=True,
    version="0123456789ab", artifact_uri="file:///nowhere", artifact_sha256="0123456789ab" + "0" * 52,
    promoted_at=SINCE,
)  # fmt: skip
RERUNS = [
    Rerun(kind="flaky", bin=8, passed=True, rows=9, right=9, total=7.65, squares=0.2025),
    Rerun(kind="flaky", bin=8, passed=False, rows=1, right=0, total=0.85, squares=0.7225),
    Rerun(kind="code", bin=1, passed=False, rows=10, right=10, total=1.5, squares=0.225),
    Rerun(kind="code", bin=1, passed=None, rows=30, right=0, total=4.5, squares=0.0),
]
NUMBERS = figures.CauseMetrics(
    accuracy=0.9, auc=0.95, brier=0.08, calibration_error=0.04, coverage=0.8, selective_accuracy=0.96,
    rows=40, transient=12,
)  # fmt: skip
REPORT = contract.Report(
    submission_id="s", outcome="Passed", reason="", rows=160, artifact_sha256=POINTER.artifact_sha256,
    causes=figures.Causes(metrics=NUMBERS, baselines={"majority": NUMBERS, "lineRate": NUMBERS}),
)  # fmt: skip
TRAINING = Training(
    submission_id="s", model_uid="m", attempt=1, phase="Finished", window_sha256="", window_uri="", rows=160,
    artifact_uri="", report_uri="", started_at=SINCE, outcome="Passed", reason="<b>all</b> gates passed",
)  # fmt: skip


def body(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "report": REPORT, "reruns": RERUNS, "trainings": [(TRAINING, REPORT)], "since": SINCE,
    }  # fmt: skip
    return cause_report.body(POINTER, **values | changes)


def test_the_counts_give_the_formulas_of_rows() -> None:
    live = body().live
    assert (live.causes, live.judged, live.passed) == (50, 20, 9)
    assert live.kinds == {"code": 40, "flaky": 10}
    assert live.accuracy == pytest.approx(0.95)
    assert live.brier == pytest.approx((0.2025 + 0.7225 + 0.225) / 20)
    assert [(each.predicted, each.passed, each.rows) for each in live.calibration] == [
        (pytest.approx(0.15), 0.0, 10),
        (pytest.approx(0.85), 0.9, 10),
    ]


def test_nothing_judged_is_not_zero() -> None:
    found = body(report=None, reruns=[], trainings=[])
    assert (found.held_out, found.live.accuracy, found.live.brier) == (None, None, None)
    assert "not on record" in cause_page.render(found)


@pytest.mark.parametrize(
    ("transient", "advice"),
    [(0.7, "run it again"), (0.69, "unsure"), (0.31, "unsure"), (0.3, "do not run it again")],
)
def test_advice_is_given_where_the_model_is_sure(transient: float, advice: str) -> None:
    made = Judged(
        integration="u1", provider_id="7", attempt=1, kind="unsure", category="", owner="", recipe="",
        transient=transient, reasons=(), model_version="v", made_at=SINCE,
    )  # fmt: skip
    found = cause_report.recorded(made, model="causes", integrations={"u1": "github"})
    assert (found.advice, found.owner, found.category) == (advice, None, None)


def test_the_page_is_whole_draws_each_picture_and_escapes() -> None:
    page = cause_page.render(body())
    labels = [ET.fromstring(each).get("aria-label") for each in re.findall(r"<svg.*?</svg>", page)]
    assert labels == ["Calibration", "Kinds"]
    assert "<b>" not in page
    assert "0.950" in page
