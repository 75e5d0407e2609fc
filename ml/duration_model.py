"""The model of durations: boosted quantiles mixed with the line's recent ones, corrected to their shares.

    log quantile = weight × boosted + (1 - weight) × empirical + offset

Boosted trees of the pinball loss (Koenker and Bassett, Econometrica 46 (1978)) beat the empirical quantiles
of recent runs on some histories and not on others, so the weight is chosen on the newest part of what is
known, and may be nought. The offsets make the quantiles cover their shares there (Romano, Patterson and
Candès, Conformalized quantile regression, NeurIPS 2019, with a relative margin). The test part chooses
nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from ml import contract, duration_features
from ml.arrays import Floats
from ml.durations import QUANTILES, pinball

Chosen = slice | npt.NDArray[np.int64]
"""A part of rows: a range, or places."""

DEFAULTS: Mapping[str, float] = {
    "num_leaves": 8,
    "learning_rate": 0.05,
    "num_trees": 300,
    "min_child_samples": 40,
    "lambda_l2": 5,
    "feature_fraction": 0.8,
}
"""Settings of the learner where a job has none; bounds are those of `contract.HYPERPARAMETERS`."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
VALIDATION = 0.25
"""Share of the known rows, the newest, that chooses the number of trees, the weight and the offsets."""
PATIENCE = 30
SHRINKAGE = 50.0
"""Rows that an offset of nought is worth: few rows say little about a share of 95 %."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Runs as the model sees them, in time order. `x` is of `duration_features.NAMES`."""

    x: Floats
    scale: Floats
    """The median of what each forecast rests on, in seconds."""
    empirical: Floats
    """Its empirical quantiles in seconds, a column for each of `QUANTILES`."""
    seconds: Floats
    """How long the runs took."""

    def __len__(self) -> int:
        return len(self.seconds)

    def part(self, chosen: Chosen) -> "Rows":
        """Some of them."""
        return Rows(
            x=self.x[chosen],
            scale=self.scale[chosen],
            empirical=self.empirical[chosen],
            seconds=self.seconds[chosen],
        )


class Boosted:
    """A LightGBM model for each quantile of log(duration / scale)."""

    def __init__(self, boosters: Sequence[lgb.Booster]) -> None:
        self.boosters = boosters

    @classmethod
    def load(cls, texts: Sequence[str]) -> "Boosted":
        """From LightGBM's texts. Raises lightgbm.basic.LightGBMError."""
        return cls([lgb.Booster(model_str=text) for text in texts])

    def texts(self) -> list[str]:
        """As LightGBM's texts."""
        return [booster.model_to_string() for booster in self.boosters]

    def logs(self, x: Floats) -> Floats:
        """A column for each quantile."""
        return np.column_stack([np.asarray(each.predict(x, num_threads=1)) for each in self.boosters])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A fitted model."""

    boosted: Boosted
    weight: float
    offsets: tuple[float, ...]

    def quantiles(self, x: Floats, scale: Floats, empirical: Floats) -> Floats:
        """Seconds, a column for each of `QUANTILES`, never falling from one to the next."""
        if not len(x):
            return np.zeros((0, len(QUANTILES)))
        mixed = mix(self.boosted.logs(x), scale, empirical, weight=self.weight)
        rising = np.maximum.accumulate(np.exp(mixed + np.array(self.offsets)), axis=1)
        found: Floats = np.minimum(rising, duration_features.LONGEST)
        return found


def mix(boosted: Floats, scale: Floats, empirical: Floats, *, weight: float) -> Floats:
    """Logarithms of seconds."""
    mixed: Floats = weight * (boosted + np.log(scale)[:, None]) + (1 - weight) * np.log(empirical)
    return mixed


def fit(known: Rows, *, hyperparameters: Mapping[str, float], seed: int) -> Mixture:
    """Fit on rows in time order."""
    values = {**DEFAULTS, **hyperparameters}
    cut = len(known) - int(len(known) * VALIDATION)
    first, newest = known.part(slice(cut)), known.part(slice(cut, None))
    settings = _settings(values, rows=cut, seed=seed)
    limit = most_trees(values)
    tried, trees = _stopped(first, newest, settings=settings, limit=limit)
    logs = tried.logs(newest.x)
    weight = min(WEIGHTS, key=lambda each: (_loss(newest, logs, weight=each), each))
    mixed = mix(logs, newest.scale, newest.empirical, weight=weight)
    target = np.log(known.seconds / known.scale)
    boosted = Boosted(
        [
            _train(known.x, target, quantile=quantile, settings=settings, trees=count)
            for quantile, count in zip(QUANTILES, trees, strict=True)
        ]
    )
    return Mixture(boosted=boosted, weight=weight, offsets=_offsets(newest, mixed))


def most_trees(values: Mapping[str, float]) -> int:
    """How many trees each quantile may have: those asked for, within `contract.MOST_LEAVES`."""
    return min(int(values["num_trees"]), contract.MOST_LEAVES // (len(QUANTILES) * int(values["num_leaves"])))


def _loss(rows: Rows, logs: Floats, *, weight: float) -> float:
    said = np.exp(mix(logs, rows.scale, rows.empirical, weight=weight))
    return sum(pinball(rows.seconds, said[:, at], quantile) for at, quantile in enumerate(QUANTILES))


def _offsets(rows: Rows, mixed: Floats) -> tuple[float, ...]:
    apart = np.log(rows.seconds)[:, None] - mixed
    trust = len(rows) / (len(rows) + SHRINKAGE)
    return tuple(trust * float(np.quantile(apart[:, at], quantile)) for at, quantile in enumerate(QUANTILES))


def _settings(values: Mapping[str, float], *, rows: int, seed: int) -> dict[str, object]:
    return {
        "objective": "quantile",
        "metric": "quantile",
        "learning_rate": values["learning_rate"],
        "num_leaves": int(values["num_leaves"]),
        "max_depth": contract.MAX_DEPTH,
        "min_child_samples": max(5, min(int(values["min_child_samples"]), rows // 50)),
        "lambda_l2": values["lambda_l2"],
        "feature_fraction": values["feature_fraction"],
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _data(x: Floats, target: Floats, *, reference: lgb.Dataset | None = None) -> lgb.Dataset:
    names = list(duration_features.NAMES)
    return lgb.Dataset(x, target, reference=reference, feature_name=names, params={"verbosity": -1})


def _train(
    x: Floats, target: Floats, *, quantile: float, settings: Mapping[str, object], trees: int
) -> lgb.Booster:
    return lgb.train({**settings, "alpha": quantile}, _data(x, target), num_boost_round=trees)


def _stopped(
    first: Rows, newest: Rows, *, settings: Mapping[str, object], limit: int
) -> tuple[Boosted, list[int]]:
    """Boosters of the older rows with the number of trees that is best on the newest ones."""
    boosters, counts = [], []
    for quantile in QUANTILES:
        data = _data(first.x, np.log(first.seconds / first.scale))
        valid = _data(newest.x, np.log(newest.seconds / newest.scale), reference=data)
        booster = lgb.train(
            {**settings, "alpha": quantile},
            data,
            num_boost_round=limit,
            valid_sets=[valid],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        boosters.append(booster)
        counts.append(max(5, booster.best_iteration or limit))
    return Boosted(boosters), counts
