"""Fits the model: small boosted trees and a logistic regression, calibrated; thresholds from newer runs.

Small trees (8 leaves, a low learning rate, strong L2) because CI histories are short and noisy: they were
better than large ones on real GitHub Actions histories, and vary less from seed to seed. What is chosen
(the number of trees, calibration, thresholds) is chosen on scores of runs that the scoring model had not
seen, made in time order, and never on the test part.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from ml import contract, linear
from ml.arrays import Flags, Floats
from ml.artifact import Calibration, Thresholds
from ml.replay import Dataset
from ml.scorer import Scorer

Places = npt.NDArray[np.int64]

TARGET_FALSE_POSITIVE_RATE = 0.04
"""Aim below the 5 % that users are promised: thresholds drift between validation and use."""
ABSTAIN_SHARE = 0.04
"""Share of validation runs, those nearest to a coin flip, that are "unsure": 5 % at most are promised."""
PATIENCE = 40
"""Trees without a better validation loss after which no more are tried."""
VALIDATION = 0.2
"""Share of the known rows, the newest, that chooses the number of trees."""
JUDGED = 1500
"""The newest scores that thresholds come from, calibration from half of them: what is older has drifted."""
JUDGED_SHARE = 0.1
"""Of a long history it may be this share instead."""
SCORED = 0.4
"""Share of the known rows that is scored for that at most: what comes before teaches the first model."""
BLOCKS = 8
"""In how many steps the models that score it are brought up to date; each knows only what came before."""
BIG = 50_000
"""Rows from which a second thread pays."""


class Scores(Protocol):
    """What has learned: gives each row a logit of failure."""

    def logit(self, x: Floats, /) -> Floats:
        """The logit of failure of each row."""
        ...


Learn = Callable[[Floats, Flags], Scores]
"""Learns from rows and what became of them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How a logit becomes a probability and a band."""

    calibration: Calibration
    thresholds: Thresholds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fitted model."""

    scorer: Scorer
    limits: Limits
    trees: int


def fit(
    known: Dataset,
    *,
    hyperparameters: Mapping[str, float],
    seed: int,
    target: float = TARGET_FALSE_POSITIVE_RATE,
) -> Fitted:
    """Fit on rows in time order. `target` is the false positive rate that the failure threshold aims at."""
    recipe = choose(known, hyperparameters=hyperparameters, seed=seed)
    scores = prequential(known, learn=recipe)
    return Fitted(
        scorer=recipe(known.x, known.failed),
        limits=limits(scores, known.failed, target=target),
        trees=recipe.trees,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the model is made of rows: the same for those that score for validation and for the last one."""

    settings: Mapping[str, object]
    trees: int
    seeds: Sequence[int]

    def __call__(self, x: Floats, failed: Flags) -> Scorer:
        """Learn."""
        rows = _data(x, failed)
        boosters = [
            lgb.train(_seeded(self.settings, seed), rows, num_boost_round=self.trees) for seed in self.seeds
        ]
        return Scorer(boosters, linear.fit(x, failed))


def choose(known: Dataset, *, hyperparameters: Mapping[str, float], seed: int) -> Recipe:
    """The recipe, with the number of trees that is best on the newest of the known rows."""
    values = contract.complete(hyperparameters)
    seeds = [seed + index for index in range(int(values["ensemble"]))]
    cut = len(known) - int(len(known) * VALIDATION)
    settings = _settings(values, rows=cut)
    trees = _count_trees(
        known.x, known.failed, cut=cut, settings=settings, limit=most_trees(values), seeds=seeds
    )
    return Recipe(settings=settings, trees=trees, seeds=seeds)


def prequential(known: Dataset, *, learn: Learn) -> Floats:
    """Logits of the newest rows, in steps, each from a model of what was known before; NaN for the others.

    (Dawid, Present position and potential developments: the prequential approach, JRSS A 147, 1984.)
    """
    first = oldest(len(known))
    scores = np.full(len(known), np.nan)
    for start, end in itertools.pairwise(np.linspace(first, len(known), BLOCKS + 1).astype(int)):
        if start < end:
            before = seen(known, start, at=known.judged_at[start])
            scores[start:end] = learn(known.x[before], known.failed[before]).logit(known.x[start:end])
    return scores


def oldest(rows: int) -> int:
    """How many of the known rows teach the first model that scores the others."""
    return rows - min(judged(rows), int(SCORED * rows))


def seen(data: Dataset, place: int, *, at: float) -> Places:
    """The rows before this one whose outcome was known at this time."""
    return np.flatnonzero(data.finished_at[:place] <= at)


def judged(rows: int) -> int:
    """How many of the newest scores thresholds come from, of so many known rows."""
    return max(JUDGED, int(JUDGED_SHARE * rows))


def limits(scores: Floats, failed: Flags, *, target: float = TARGET_FALSE_POSITIVE_RATE) -> Limits:
    """Calibration and thresholds from the newest of these scores; rows without one (NaN) do not count."""
    place = np.flatnonzero(~np.isnan(scores))[-judged(len(scores)) :]
    newest = place[-(judged(len(scores)) // 2) :]
    calibration = platt(scores[newest], failed[newest])
    probability = calibration.probability(scores[place])
    return Limits(
        calibration=calibration,
        thresholds=thresholds(probability, failed[place], target=target, base_rate=float(failed.mean())),
    )


def most_trees(values: Mapping[str, float]) -> int:
    """How many trees each model of the ensemble may have: those asked for, within `contract.MOST_LEAVES`."""
    leaves = int(values["ensemble"]) * int(values["num_leaves"])
    return min(int(values["num_trees"]), contract.MOST_LEAVES // leaves)


def platt(scores: Floats, failed: Flags) -> Calibration:
    """Platt scaling: slope and intercept of a logistic regression on the score, by Newton's method.

    Targets are smoothed as in Platt, Probabilistic outputs for support vector machines (1999); regularised as
    in Lin, Lin and Weng, A note on Platt's probabilistic outputs (2007).
    """
    positives, negatives = float(failed.sum()), float((~failed).sum())
    target = np.where(failed, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack([scores, np.ones_like(scores)])
    weights = np.array([1.0, 0.0])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (chance - target)
        curvature = (design.T * (chance * (1 - chance))) @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    if weights[0] <= 0:
        # The validation part contradicts the model: keep its order, at the base rate.
        return Calibration(slope=1e-3, intercept=float(np.log((positives + 1) / (negatives + 1))))
    return Calibration(slope=float(weights[0]), intercept=float(weights[1]))


def thresholds(probability: Floats, failed: Flags, *, target: float, base_rate: float) -> Thresholds:
    """Where a probability is called a failure, and where it is called "unsure", from validation."""
    passed = np.sort(probability[~failed])
    # Just above the pass that would be one too many: at most `target` of the passed runs are flagged.
    allowed = int(target * len(passed))
    failure = float(np.nextafter(passed[-1 - allowed], 2.0)) if len(passed) else 0.0
    doubt = float(np.quantile(np.minimum(probability, 1 - probability), 1 - ABSTAIN_SHARE))
    return Thresholds(
        failure=failure,
        medium=min(base_rate, failure),
        unsure_low=doubt,
        unsure_high=1 - doubt,
    )


def _settings(values: Mapping[str, float], *, rows: int) -> dict[str, object]:
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": values["learning_rate"],
        "num_leaves": int(values["num_leaves"]),
        "max_depth": contract.MAX_DEPTH,
        # A few hundred rows cannot fill leaves of forty.
        "min_child_samples": max(5, min(int(values["min_child_samples"]), rows // 150)),
        "lambda_l2": values["lambda_l2"],
        "feature_fraction": values["feature_fraction"],
        # Two threads wait for each other on a busy machine: measured 15 times slower than one on 9,000 rows.
        "num_threads": 1 if rows < BIG else 2,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _data(x: Floats, failed: Flags, *, reference: lgb.Dataset | None = None) -> lgb.Dataset:
    return lgb.Dataset(x, label=failed.astype(np.float64), reference=reference, params={"verbosity": -1})


def _seeded(settings: Mapping[str, object], seed: int) -> dict[str, Any]:
    """Settings of one of the ensemble; which rows tell the bins is the same for all, who share them."""
    return {**settings, "seed": seed, "data_random_seed": 1}


def _count_trees(
    x: Floats, failed: Flags, *, cut: int, settings: Mapping[str, object], limit: int, seeds: Sequence[int]
) -> int:
    """How many trees are best on the rows after the cut: the median over the seeds."""
    train, counts = _data(x[:cut], failed[:cut]), []
    newest = _data(x[cut:], failed[cut:], reference=train)
    for seed in seeds:
        booster = lgb.train(
            _seeded(settings, seed),
            train,
            num_boost_round=limit,
            valid_sets=[newest],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        counts.append(booster.best_iteration or limit)
    return max(10, int(np.median(counts)))
