"""Points of a predictor that a page draws, on runs that can be counted by hand."""

from __future__ import annotations

from bisect import bisect_right
from math import log

import numpy as np
import pytest

from ml import contract, curves, drift, metrics, train
from ml.figures import Bin, Curves, Day, Decile

MIDNIGHT = 20_000 * 86_400.0
"""2024-10-04."""


@pytest.fixture
def found() -> Curves:
    return curves.curves(
        failed=np.array([False, False, True, True]),
        probability=np.array([0.1, 0.15, 0.55, 1.0]),
        flagged=np.array([False, False, False, True]),
        started_at=MIDNIGHT + np.array([0.0, 86_399.0, 86_400.0, 90_000.0]),
    )


def test_a_bin_has_what_was_said_and_what_happened(found: Curves) -> None:
    assert found.calibration == (
        Bin(predicted=pytest.approx(0.125), observed=0.0, rows=2),
        Bin(predicted=0.55, observed=1.0, rows=1),
        Bin(predicted=1.0, observed=1.0, rows=1),
    )


def test_deciles_rise_and_hold_every_run_once(found: Curves) -> None:
    assert found.deciles == (
        Decile(least=0.1, rows=1, failures=0),
        Decile(least=0.15, rows=1, failures=0),
        Decile(least=0.55, rows=1, failures=1),
        Decile(least=1.0, rows=1, failures=1),
    )


def test_a_day_ends_at_midnight(found: Curves) -> None:
    assert found.days == (
        Day(day="2024-10-04", rows=2, failures=0, flagged=0, found=0),
        Day(day="2024-10-05", rows=2, failures=2, flagged=1, found=1),
    )


def test_the_bins_make_up_the_calibration_error() -> None:
    rng = np.random.default_rng(3)
    probability = rng.random(5_000)
    failed = rng.random(5_000) < probability**2
    points = curves.curves(
        failed=failed, probability=probability, flagged=probability > 0.5, started_at=np.zeros(5_000)
    )
    made = sum(each.rows * abs(each.predicted - each.observed) for each in points.calibration) / 5_000
    assert made == pytest.approx(metrics.calibration_error(failed, probability))
    assert [each.rows for each in points.deciles] == [500] * 10
    assert sum(each.failures for each in points.deciles) == failed.sum()


def test_they_survive_a_report(found: Curves) -> None:
    report = contract.Report(submission_id="t", outcome="Passed", reason="", curves=found)
    assert contract.from_json(contract.Report, contract.to_json(report)) == report


def test_a_report_of_before_has_none() -> None:
    text = '{"submissionId":"t","outcome":"Passed","reason":""}'
    assert contract.from_json(contract.Report, text).curves is None


def test_what_is_no_point_is_named() -> None:
    text = '{"calibration":[{"predicted":0.1,"observed":"x","rows":1}],"deciles":[],"days":[]}'
    with pytest.raises(contract.ContractError, match=r"calibration\[0\]\.observed"):
        contract.from_json(Curves, text)


@pytest.mark.parametrize(
    ("before", "now", "index"),
    [
        ((10, 10), (50, 50), 0.0),
        ((50, 50), (25, 75), 0.25 * log(75 / 25)),
        ((100, 0), (100, 0), 0.0),
        ((1, 1), (0, 0), None),
        ((0, 0), (1, 1), None),
    ],
)
def test_the_stability_index(before: tuple[int, int], now: tuple[int, int], index: float | None) -> None:
    found = drift.stability(before, now)
    assert found == (None if index is None else pytest.approx(index))


def test_deciles_that_begin_at_one_probability_are_one_class() -> None:
    rows = [0.05] * 60 + [0.2, 0.3, 0.4, 0.5] * 10
    none = np.zeros(100, dtype=bool)
    deciles = curves.curves(
        failed=none, probability=np.array(rows), flagged=none, started_at=np.zeros(100)
    ).deciles
    bounds = [each.least for each in deciles]
    assert len(set(bounds)) < len(bounds)
    found = [0] * len(bounds)
    for probability in rows:
        found[bisect_right(bounds, probability) - 1] += 1
    assert drift.since(deciles, found) == pytest.approx(0.0)


def test_an_empty_class_is_a_large_shift_and_not_an_infinite_one() -> None:
    index = drift.stability((50, 50), (100, 0))
    assert index is not None
    assert 1 < index < 10


def test_a_training_measures_its_points_on_the_runs_of_its_metrics(trained: train.Trained) -> None:
    points, numbers = trained.curves, trained.metrics
    for part in (points.calibration, points.deciles, points.days):
        assert sum(each.rows for each in part) == numbers.rows
    assert sum(day.found for day in points.days) == pytest.approx(numbers.failures * (numbers.recall or 0))
