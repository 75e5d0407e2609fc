"""Tries a learner as it would be used: past runs teach it, newer ones judge it, and nobody looks ahead.

    │ oldest runs: learned │ scored in steps: limits │ test: scored; learned again every N days, if asked │
                                                     └ one cut in time for all projects
Limits (calibration, threshold, what is unsure) come from the newest scores whose outcomes were known when the
learner learned last; on the test part these move on with it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from ml import fit, metrics
from ml.arrays import Flags, Floats
from ml.figures import Metrics
from ml.fit import Learn
from ml.replay import Dataset

DAY = 86400.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a predictor said of each run of the test part."""

    probability: Floats
    flagged: Flags
    unsure: Flags

    def measure(self, test: Dataset, rows: npt.NDArray[np.int64] | None = None) -> Metrics:
        """The metrics on these rows, on all of them if none are named; a row may be named twice."""
        at = np.arange(len(test)) if rows is None else rows
        return metrics.metrics(
            failed=test.failed[at],
            probability=self.probability[at],
            flagged=self.flagged[at],
            red_before=test.red_before[at],
            unsure=self.unsure[at],
        )


def run(
    data: Dataset,
    *,
    cut: int,
    days: float | None,
    learn: Learn,
    target: float = fit.TARGET_FALSE_POSITIVE_RATE,
    told: Callable[[str], None] = lambda _: None,
) -> Answers:
    """What the learner says of the rows from the cut on; it learns every so many days, or once."""
    known = np.zeros(len(data), dtype=np.bool_)
    known[fit.seen(data, cut, at=data.judged_at[cut])] = True
    scores = np.full(len(data), np.nan)
    scores[known] = fit.prequential(data.take(known), learn=learn)
    probability, flagged, unsure = np.zeros(len(data)), np.zeros(len(data), bool), np.zeros(len(data), bool)
    for at, start, end in list(_steps(data, cut=cut, days=days)):
        before = fit.seen(data, start, at=at)
        place = slice(start, end)
        scores[place] = learn(data.x[before], data.failed[before]).logit(data.x[place])
        found = fit.limits(scores[before], data.failed[before], target=target)
        probability[place] = found.calibration.probability(scores[place])
        flagged[place] = probability[place] >= found.thresholds.failure
        unsure[place] = found.thresholds.unsure(probability[place], has_history=data.has_history[place])
        told(f"{end - cut} of {len(data) - cut} runs judged")
    return Answers(probability=probability[cut:], flagged=flagged[cut:], unsure=unsure[cut:])


def baselines(test: Dataset) -> dict[str, Answers]:
    """Always pass; and the last outcome of the same line of work: its branch, else its pipeline."""
    never = np.zeros(len(test), dtype=np.bool_)
    return {
        "always_pass": Answers(probability=np.zeros(len(test)), flagged=never, unsure=never),
        "last_outcome": Answers(
            probability=test.red_before.astype(np.float64), flagged=test.red_before, unsure=never
        ),
    }


def blocks(test: Dataset, *, draws: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows drawn with replacement by whole days: runs of a day share what happened on it.

    (Künsch, The jackknife and the bootstrap for general stationary observations, Ann. Statist. 17, 1989.)
    """
    day = np.floor(test.judged_at / DAY)
    places = [np.flatnonzero(day == each) for each in np.unique(day)]
    dice = np.random.default_rng(seed)
    for _ in range(draws):
        chosen = dice.integers(len(places), size=len(places))
        yield np.concatenate([places[each] for each in chosen])


def _steps(data: Dataset, *, cut: int, days: float | None) -> Iterator[tuple[float, int, int]]:
    """(when it learns, first row, row after the last one) of each step of the test part."""
    first, last = data.judged_at[cut], data.judged_at[-1]
    count = 1 if days is None else int((last - first) // (days * DAY)) + 1
    moments = [first + step * (days or 0) * DAY for step in range(count)]
    edges = [cut, *np.searchsorted(data.judged_at, moments[1:], side="left").tolist(), len(data)]
    for at, (start, end) in zip(moments, itertools.pairwise(edges), strict=True):
        if start < end:
            yield at, start, end
