"""Metrics, against numbers worked out by hand and against slower definitions."""

import numpy as np
import pytest

from ml import metrics


def flags(text: str) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([letter == "F" for letter in text])


def test_all_metrics_of_a_small_table() -> None:
    found = metrics.metrics(
        failed=flags("FFFPPPPP"),
        probability=np.array([0.9, 0.7, 0.2, 0.6, 0.1, 0.1, 0.1, 0.1]),
        flagged=flags("FFPFPPPP"),
        red_before=flags("FPPPPPPP"),
        unsure=flags("PPFFPPPP"),
    )
    assert found.accuracy == 6 / 8
    assert found.false_positive_rate == 1 / 5
    assert found.recall == 2 / 3
    assert found.precision == 2 / 3
    assert found.auc == 14 / 15
    assert (found.first_failure_recall, found.repeat_failure_recall) == (1 / 2, 1.0)
    assert found.coverage == 6 / 8
    assert found.selective_accuracy == 1.0
    assert (found.rows, found.failures) == (8, 3)
    assert found.brier == pytest.approx((0.01 + 0.09 + 0.64 + 0.36 + 4 * 0.01) / 8)


def test_a_share_of_nothing_is_none() -> None:
    found = metrics.metrics(
        failed=flags("PP"),
        probability=np.zeros(2),
        flagged=flags("PP"),
        red_before=flags("PP"),
        unsure=flags("FF"),
    )
    assert found.recall is None
    assert found.precision is None
    assert found.auc is None
    assert found.selective_accuracy is None
    assert found.false_positive_rate == 0.0


def test_auc_is_the_chance_that_a_failure_scores_above_a_pass() -> None:
    dice = np.random.default_rng(3)
    failed = dice.random(80) < 0.3
    score = np.round(dice.random(80) + failed * 0.3, 1)
    pairs = [(f > p) + (f == p) / 2 for f in score[failed] for p in score[~failed]]
    assert metrics.auc(failed, score) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("failed", "probability", "error"),
    [
        ("FP", [1.0, 0.0], 0.0),
        ("FP", [0.0, 1.0], 1.0),
        ("FPPP", [0.25, 0.25, 0.25, 0.25], 0.0),
        ("FFPP", [0.25, 0.25, 0.25, 0.25], 0.25),
        ("PPPF", [0.05, 0.05, 0.85, 0.85], (2 * 0.05 + 2 * 0.35) / 4),
    ],
)
def test_calibration_error(failed: str, probability: list[float], error: float) -> None:
    assert metrics.calibration_error(flags(failed), np.array(probability)) == pytest.approx(error)


def test_baselines_always_pass_or_repeat_the_last_outcome() -> None:
    found = metrics.baselines(failed=flags("FFPP"), red_before=flags("PFFP"))
    assert found["alwaysPass"].accuracy == 0.5
    assert found["alwaysPass"].recall == 0.0
    assert found["lastOutcome"].accuracy == 0.5
    assert found["lastOutcome"].recall == 0.5
    assert found["lastOutcome"].first_failure_recall == 0.0
