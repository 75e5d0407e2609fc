"""How long a run will take: quantiles of its line's recent durations, or of a model of many lines.

Empirical quantiles need no training and are the baseline; lines of few runs borrow those of their project,
and of all. The model predicts quantiles of log(duration / the line's median) by gradient boosting of the
pinball loss (Koenker and Bassett, Econometrica 46 (1978); LightGBM's objective `quantile`), so that one model
serves lines of seconds and of hours. All durations are in seconds.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence

import lightgbm as lgb
import numpy as np

from ml.arrays import Flags, Floats

QUANTILES = (0.5, 0.9, 0.95)
RECENT = 50
"""Durations of a line that are kept."""
FEW = 8
"""A line of fewer borrows from its project."""
FEATURES = ("last", "mean3", "p10", "p90", "spread", "known", "borrowed", "hour", "weekday")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Quantiles of the duration, in seconds, and what they rest on."""

    quantiles: Mapping[float, float]
    basis: str
    total: int

    @property
    def text(self) -> str:
        """The forecast as people read it."""
        half, most = self.quantiles[0.5], self.quantiles[0.9]
        seen = f"{self.total} runs {self.basis}"
        return f"about {words(half)}, in nine of ten cases under {words(most)} ({seen})"


class Recent:
    """The recent durations by line, by project and of all: bounded, fed in the order of finish."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], deque[float]] = {}

    def add(self, project: str, line: str, seconds: float) -> None:
        """Remember a finished run's duration; one of no length is not one."""
        if seconds > 0:
            for key in ((project, line), (project,), ()):
                self._kept.setdefault(key, deque(maxlen=RECENT)).append(seconds)

    def known(self, project: str, line: str) -> tuple[Sequence[float], str]:
        """The durations to go by, and whose they are; none where nothing is known."""
        own = self._kept.get((project, line), ())
        if len(own) >= FEW:
            return list(own), "of this line"
        shared = self._kept.get((project,), ())
        if len(shared) >= FEW:
            return list(shared), "of this project"
        return list(self._kept.get((), ())), "of all projects"

    def own(self, project: str, line: str) -> list[float]:
        """The line's own durations."""
        return list(self._kept.get((project, line), ()))

    def forecast(self, project: str, line: str) -> Forecast | None:
        """Empirical quantiles; None where nothing is known."""
        known, basis = self.known(project, line)
        if not known:
            return None
        values = np.quantile(known, QUANTILES)
        return Forecast(
            quantiles=dict(zip(QUANTILES, values.tolist(), strict=True)), basis=basis, total=len(known)
        )

    def features(self, project: str, line: str, *, at: float) -> tuple[float, list[float]] | None:
        """The median to scale by and what the model sees, for a run at epoch second `at`."""
        known, basis = self.known(project, line)
        if not known:
            return None
        scale = float(np.median(known))
        logs = np.log(np.array(known) / scale)
        own = (
            np.log(np.array(self.own(project, line)) / scale)
            if self.own(project, line)
            else np.array([math.nan])
        )
        low, high = np.quantile(logs, [0.1, 0.9])
        return scale, [
            float(own[-1]),
            float(own[-3:].mean()),
            float(low),
            float(high),
            float(logs.std()),
            float(np.isfinite(own).sum()),
            float(basis != "of this line"),
            at % 86400 // 3600,
            at // 86400 % 7,
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class DurationModel:
    """Boosted quantiles: one LightGBM model text for each of `QUANTILES`."""

    texts: Sequence[str]

    @classmethod
    def fit(cls, features: Floats, scaled: Floats, *, seed: int = 0, rounds: int = 150) -> "DurationModel":
        """Fit rows of `Recent.features` to log(duration / scale)."""
        texts = []
        for quantile in QUANTILES:
            settings = {
                "objective": "quantile",
                "alpha": quantile,
                "learning_rate": 0.05,
                "num_leaves": 8,
                "min_data_in_leaf": 40,
                "lambda_l2": 5.0,
                "num_threads": 1,
                "seed": seed,
                "deterministic": True,
                "force_row_wise": True,
                "verbose": -1,
            }
            data = lgb.Dataset(features, scaled, feature_name=list(FEATURES))
            texts.append(lgb.train(settings, data, num_boost_round=rounds).model_to_string())
        return cls(texts)

    def quantiles(self, features: Floats, scales: Floats) -> Floats:
        """Seconds, one column for each of `QUANTILES`, never falling from one to the next."""
        raw = np.column_stack(
            [lgb.Booster(model_str=text).predict(features, num_threads=1) for text in self.texts]
        )
        return np.maximum.accumulate(np.exp(raw) * scales[:, None], axis=1)


def pinball(actual: Floats, predicted: Floats, quantile: float) -> float:
    """Mean pinball loss in seconds: what the quantile minimises."""
    over = actual - predicted
    return float(np.maximum(quantile * over, (quantile - 1) * over).mean())


def covered(actual: Floats, predicted: Floats) -> float:
    """The share of durations not above the prediction; equal to the quantile when it is calibrated."""
    within: Flags = actual <= predicted
    return float(within.mean())


def words(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
