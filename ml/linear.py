"""Logistic regression, fitted by Newton's method: a baseline that any model must beat, and half of ours.

Trees fit the past more closely, a line drifts less; averaged they were better on real histories than either
(docs/model.md). It is written here because it is thirty lines: scikit-learn would be another large package in
every Ray worker and in the gateway.

Source: iteratively reweighted least squares with a ridge penalty, le Cessie and van Houwelingen, Ridge
estimators in logistic regression, Applied Statistics 41 (1992).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ml.arrays import Flags, Floats

RIDGE = 200.0
"""Penalty on the squared weights of standardised features; chosen on the older part of real histories."""
FARTHEST = 5.0
"""Standard deviations from the mean beyond which a feature says no more."""
ROUNDS = 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """logit of failure = intercept + Σ weight · (feature - mean) / scale.

    A feature is taken as its signed logarithm; a missing one counts as the mean: it says nothing.
    """

    means: Sequence[float]
    scales: Sequence[float]
    weights: Sequence[float]
    intercept: float

    def logit(self, x: Floats) -> Floats:
        """The logit of each row."""
        found: Floats = self.contributions(x).sum(axis=1) + self.intercept
        return found

    def contributions(self, x: Floats) -> Floats:
        """How far each feature moves the logit of each row from that of a mean run."""
        found: Floats = _standardised(x, np.asarray(self.means), np.asarray(self.scales)) * self.weights
        return found


def fit(x: Floats, failed: Flags, *, ridge: float = RIDGE) -> Linear:
    """The weights that make the outcomes most likely, less the penalty."""
    logs = _logarithm(x)
    there = ~np.isnan(logs)
    count = np.maximum(there.sum(axis=0), 1)
    means = np.where(there, logs, 0).sum(axis=0) / count
    scales = np.sqrt(np.where(there, (logs - means) ** 2, 0).sum(axis=0) / count)
    scales[scales < 1e-9] = 1.0
    design = np.column_stack([_standardised(x, means, scales), np.ones(len(x))])
    # The intercept is free: it is the base rate.
    penalty = np.append(np.full(x.shape[1], ridge), 1e-6)
    weights = np.zeros(len(penalty))
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (chance - failed) + penalty * weights
        curvature = (design.T * (chance * (1 - chance))) @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    return Linear(
        means=means.tolist(),
        scales=scales.tolist(),
        weights=weights[:-1].tolist(),
        intercept=float(weights[-1]),
    )


def _standardised(x: Floats, means: Floats, scales: Floats) -> Floats:
    distance = np.clip((_logarithm(x) - means) / scales, -FARTHEST, FARTHEST)
    return np.where(np.isnan(distance), 0.0, distance)


def _logarithm(x: Floats) -> Floats:
    # Hours, counts and sizes span orders of magnitude; shares hardly change by this.
    found: Floats = np.sign(x) * np.log1p(np.abs(x))
    return found
