"""How good a predictor is, on runs it has not seen. The positive class is failure; no formula is our own.

Sources: accuracy, false positive rate, recall, precision: Fawcett, An introduction to ROC analysis, Pattern
Recognition Letters 27 (2006), §2. AUC as the Mann-Whitney statistic: Hanley and McNeil, Radiology 143 (1982).
Brier score: Brier, Monthly Weather Review 78 (1950), halved as usual for two classes. Expected calibration
error: Naeini, Cooper and Hauskrecht, AAAI (2015), ten bins of equal width. First failures: those whose line
of work was not red before (Jin and Servant, ICSE 2020, predict them apart from repeated ones).
"""

import numpy as np

from ml.arrays import Flags, Floats
from ml.figures import Metrics


def metrics(
    *, failed: Flags, probability: Floats, flagged: Flags, red_before: Flags, unsure: Flags | None = None
) -> Metrics:
    """All metrics of one predictor.

    `failed` is what happened, `probability` of failure what was said, `flagged` what was called a failure,
    `red_before` whether the line of work was red before; `unsure` rows count in all but the selective ones.
    """
    sure = ~unsure if unsure is not None else np.ones_like(failed)
    correct = flagged == failed
    return Metrics(
        accuracy=float(correct.mean()),
        false_positive_rate=share(flagged, of=~failed),
        recall=share(flagged, of=failed),
        precision=share(failed, of=flagged),
        auc=auc(failed, probability),
        brier=brier(failed, probability),
        calibration_error=calibration_error(failed, probability),
        first_failure_recall=share(flagged, of=failed & ~red_before),
        repeat_failure_recall=share(flagged, of=failed & red_before),
        coverage=float(sure.mean()),
        selective_accuracy=share(correct, of=sure),
        rows=len(failed),
        failures=int(failed.sum()),
    )


def auc(failed: Flags, score: Floats) -> float | None:
    """P(a failure scores above a pass), ties count half; from ranks, ties sharing their mean rank."""
    positives, negatives = int(failed.sum()), int((~failed).sum())
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = float(ranks[failed].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def brier(failed: Flags, probability: Floats) -> float:
    """Mean squared distance between probability and outcome."""
    return float(np.mean((probability - failed) ** 2))


def calibration_error(failed: Flags, probability: Floats, *, bins: int = 10) -> float:
    """Mean distance between the mean probability and the failure rate of each bin, weighted by its rows."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    said = np.bincount(place, weights=probability, minlength=bins)
    happened = np.bincount(place, weights=failed.astype(np.float64), minlength=bins)
    return float(np.abs(said - happened).sum() / len(failed))


def baselines(*, failed: Flags, red_before: Flags) -> dict[str, Metrics]:
    """What any model must beat: always saying "pass", and repeating the last outcome of the line of work."""
    never = np.zeros_like(failed)
    return {
        "alwaysPass": metrics(
            failed=failed, probability=never.astype(np.float64), flagged=never, red_before=red_before
        ),
        "lastOutcome": metrics(
            failed=failed,
            probability=red_before.astype(np.float64),
            flagged=red_before,
            red_before=red_before,
        ),
    }


def share(hits: Flags, *, of: Flags) -> float | None:
    """The share of some rows that is among the hits; None of no rows."""
    total = int(of.sum())
    return float((hits & of).sum() / total) if total else None
