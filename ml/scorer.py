"""The model itself: boosted trees and a logistic regression, averaged in logit.

Both are sums over the features, so the answer's contributions are theirs, averaged: they add up to the logit.
"""

from collections.abc import Sequence

import lightgbm as lgb
import numpy as np

from ml.arrays import Floats
from ml.linear import Linear


class Scorer:
    """Boosters and a linear model that were fitted together. May be used by several threads at once."""

    def __init__(self, boosters: Sequence[lgb.Booster], linear: Linear) -> None:
        self.boosters = boosters
        self.linear = linear

    @classmethod
    def load(cls, models: Sequence[str], linear: Linear) -> "Scorer":
        """From LightGBM's texts. Raises lightgbm.basic.LightGBMError."""
        return cls([lgb.Booster(model_str=text) for text in models], linear)

    def texts(self) -> list[str]:
        """The boosters as LightGBM's texts."""
        return [booster.model_to_string() for booster in self.boosters]

    def logit(self, x: Floats) -> Floats:
        """The logit of failure of each row, before calibration."""
        if not len(x):
            return np.zeros(0)
        trees = [np.asarray(each.predict(x, raw_score=True, num_threads=1)) for each in self.boosters]
        mean: Floats = (np.mean(trees, axis=0, dtype=np.float64) + self.linear.logit(x)) / 2
        return mean

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """(how far each feature moves the logit of each row, the logit of each row).

        Those of the trees are LightGBM's pred_contrib: Lundberg and Lee's SHAP values.
        """
        # The last column is the bias: with it the contributions add up to the raw score, one call gives both.
        trees = np.mean(
            [np.asarray(each.predict(x, pred_contrib=True, num_threads=1)) for each in self.boosters], axis=0
        )
        line = self.linear.contributions(x)
        parts: Floats = (trees[:, :-1] + line) / 2
        logits: Floats = (trees.sum(axis=1) + line.sum(axis=1) + self.linear.intercept) / 2
        return parts, logits
