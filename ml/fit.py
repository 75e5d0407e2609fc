"""Fits the model: small gradient-boosted trees, averaged in logit, calibrated; thresholds from validation.

Small trees (8 leaves, a low learning rate, strong L2) because CI histories are short and noisy: they were
better than large ones on real GitHub Actions histories, and vary less from seed to seed. What is chosen
(the number of trees, calibration, thresholds) is chosen on the validation part, never on the test part.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from ml import contract, features
from ml.artifact import Calibration, Thresholds

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TARGET_FALSE_POSITIVE_RATE = 0.04
"""Aim below the 5 % that users are promised: thresholds drift between validation and use."""
ABSTAIN_SHARE = 0.05
"""Share of validation runs, those nearest to a coin flip, for which the answer is "unsure"."""
PATIENCE = 40
"""Trees without a better validation loss after which no more are tried."""
CALIBRATION = 2
"""Calibration and thresholds come from so many times the validation part: they are the noisier choice."""
BLOCKS = 4
"""In how many steps the models that score it are brought up to date; each knows only what came before."""
BIG = 50_000
"""Rows from which a second thread pays."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fitted model: LightGBM texts, and how their averaged logit becomes a probability and a band."""

    models: Sequence[str]
    calibration: Calibration
    thresholds: Thresholds
    trees: int


def fit(
    x: Floats,
    failed: Flags,
    *,
    validation: int,
    hyperparameters: Mapping[str, float],
    seed: int,
    target: float = TARGET_FALSE_POSITIVE_RATE,
) -> Fitted:
    """Fit on rows in time order, of which the last `validation` choose what is not learned.

    `target` is the false positive rate that the failure threshold aims at.
    """
    values = {name: default for name, (default, _, _) in contract.HYPERPARAMETERS.items()} | dict(
        hyperparameters
    )
    seeds = [seed + index for index in range(int(values["ensemble"]))]
    cut = len(failed) - validation
    settings = _settings(values, rows=cut)
    trees = _count_trees(x, failed, cut=cut, settings=settings, limit=most_trees(values), seeds=seeds)
    scored = len(failed) - CALIBRATION * validation
    scores = _prequential(x, failed, cut=scored, settings=settings, trees=trees, seeds=seeds)
    calibration = platt(scores, failed[scored:])
    final = [_train(x, failed, settings=settings, trees=trees, seed=each) for each in seeds]
    return Fitted(
        models=[booster.model_to_string() for booster in final],
        calibration=calibration,
        thresholds=thresholds(
            calibration.probability(scores), failed[scored:], target=target, base_rate=float(failed.mean())
        ),
        trees=trees,
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
    failure = float(np.nextafter(passed[-1 - allowed], 2.0))
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
    return lgb.Dataset(
        x,
        label=failed.astype(np.float64),
        feature_name=list(features.NAMES),
        reference=reference,
        params={"verbosity": -1},
    )


def _train(x: Floats, failed: Flags, *, settings: Mapping[str, object], trees: int, seed: int) -> lgb.Booster:
    return lgb.train({**settings, "seed": seed}, _data(x, failed), num_boost_round=trees)


def _count_trees(
    x: Floats, failed: Flags, *, cut: int, settings: Mapping[str, object], limit: int, seeds: Sequence[int]
) -> int:
    """How many trees are best on the rows after the cut: the median over the seeds."""
    counts = []
    for seed in seeds:
        train = _data(x[:cut], failed[:cut])
        booster = lgb.train(
            {**settings, "seed": seed},
            train,
            num_boost_round=limit,
            valid_sets=[_data(x[cut:], failed[cut:], reference=train)],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        counts.append(booster.best_iteration or limit)
    return max(10, int(np.median(counts)))


def _prequential(
    x: Floats, failed: Flags, *, cut: int, settings: Mapping[str, object], trees: int, seeds: Sequence[int]
) -> Floats:
    """Averaged logits of the rows after the cut, in blocks, each from models of all rows before its block."""
    edges = np.linspace(cut, len(failed), BLOCKS + 1).astype(int)
    blocks = []
    for start, end in itertools.pairwise(edges):
        boosters = [
            _train(x[:start], failed[:start], settings=settings, trees=trees, seed=seed) for seed in seeds
        ]
        blocks.append(logit(boosters, x[start:end]))
    return np.concatenate(blocks)


def logit(boosters: Sequence[lgb.Booster], x: Floats, *, threads: int = 1) -> Floats:
    """The boosters' raw scores, averaged: the logit of failure before calibration."""
    if not len(x):
        return np.zeros(0)
    scores = [np.asarray(each.predict(x, raw_score=True, num_threads=threads)) for each in boosters]
    mean: Floats = np.mean(scores, axis=0, dtype=np.float64)
    return mean
