"""Searches better hyperparameters, by chance: the defaults and random ones, each judged on the known runs.

    known runs ─► the newest of them ─► defaults: judged by this process ─┬─► best ─► fit
                                        random ones: by Ray Tune, or here ┘
A trial is judged as a model is used: its scores of the newest runs come in steps, each from a model of what
was known before (`fit.prequential`), and are calibrated; log loss. Runs that are held out are not among them:
this gets what is learned from, and nothing else. Random search is as good as any with so few dimensions, and
its trials wait for nobody (Bergstra and Bengio, JMLR 13, 2012). The same job draws the same trials in the
same order wherever it runs, and with more trials the first ones stay: only time can make a difference.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from ml import contract, fit, tune
from ml.arrays import Flags, Floats
from ml.replay import Dataset
from ml.scorer import Scorer

MOST_ROWS = 50_000
"""The newest known runs that trials see: 40 MB for each process that judges one."""
AROUND = 10
"""A search goes from a tenth of each default to ten times as much, within what is allowed at all."""
WORTH = 30.0
"""Seconds for all trials, by the measure of the first: below them Ray Tune, which takes some 20 to begin, is
the slower way."""

Settings = Mapping[str, float]


class OutOfTime(Exception):
    """The search's time is over; what was judged until then counts."""


def search(known: Dataset, *, wanted: contract.Search, fixed: Settings, seed: int) -> contract.Searched:
    """The best of some settings on these rows, in time order; those that are `fixed` stay in all of them."""
    began = time.time()
    ends_at = began + wanted.seconds
    data = newest(known)
    trials = draw(wanted.trials, fixed=fixed, seed=seed)
    # The defaults are judged whatever the time: with a search a model is never worse here than without.
    found = {0: loss(data, trials[0], seed=seed)}
    others, by = range(1, len(trials)), "Job"
    is_long = len(others) * (time.time() - began) >= WORTH
    judge = functools.partial(judged, trials=trials, seed=seed, ends_at=ends_at)
    if time.time() < ends_at:
        with tune.cluster() if is_long else contextlib.nullcontext(0) as room:
            if room:
                found |= tune.losses(data, judge, others, ends_at=ends_at, at_once=room)
                by = "RayTune"
            else:
                told = ((number, judge(data, number)) for number in others)
                found |= {number: each for number, each in told if each is not None}
    best = min(found, key=lambda number: (found[number], number))
    return contract.Searched(
        trials=len(found),
        asked=wanted.trials,
        loss=found[best],
        default_loss=found[0],
        hyperparameters=trials[best],
        seconds=round(time.time() - began, 3),
        by=by,
    )


def newest(known: Dataset) -> Dataset:
    """The rows that trials see."""
    kept = known.take(np.arange(len(known)) >= len(known) - MOST_ROWS)
    return dataclasses.replace(
        kept, projects=()
    )  # texts are no numbers: they would be copied to each process


def draw(count: int, *, fixed: Settings, seed: int) -> Sequence[Settings]:
    """The settings of so many trials; first the defaults, then random ones, even on a logarithmic scale."""
    defaults = {name: contract.HYPERPARAMETERS[name][0] for name in contract.SEARCHED}
    drawn = [defaults, *(_random(np.random.default_rng([seed, number])) for number in range(1, count))]
    return [{**settings, **fixed} for settings in drawn]


def loss(known: Dataset, settings: Settings, *, seed: int, ends_at: float = math.inf) -> float:
    """Log loss of what these settings make. Raises OutOfTime, between two steps."""
    in_time(ends_at)
    recipe = fit.choose(known, hyperparameters=settings, seed=seed)

    def learn(x: Floats, failed: Flags) -> Scorer:
        in_time(ends_at)
        return recipe(x, failed)

    scores = fit.prequential(known, learn=learn)
    told = ~np.isnan(scores)
    failed = known.failed[told]
    # Two numbers, as the model has them: else settings would win by being less sure of themselves.
    chance = fit.platt(scores[told], failed).probability(scores[told])
    return float(-np.log(np.where(failed, chance, 1 - chance)).mean())


def in_time(ends_at: float) -> None:
    """Raises OutOfTime from that moment on (seconds since the epoch: other machines keep to it, too)."""
    if time.time() >= ends_at:
        raise OutOfTime


def judged(
    known: Dataset, number: int, *, trials: Sequence[Settings], seed: int, ends_at: float
) -> float | None:
    """The loss of one of the trials; None: the time was over before it was known."""
    try:
        return loss(known, trials[number], seed=seed, ends_at=ends_at)
    except OutOfTime:
        return None


def _random(dice: np.random.Generator) -> dict[str, float]:
    """One number for each setting, whether it is fixed or not: to fix one does not change the others."""
    drawn = {}
    for name in contract.SEARCHED:
        default, least, most = contract.HYPERPARAMETERS[name]
        low, high = math.log(max(least, default / AROUND)), math.log(min(most, default * AROUND))
        value = math.exp(dice.uniform(low, high))
        # Three digits: they are read by people, and more of them decide nothing.
        drawn[name] = float(round(value)) if name in contract.WHOLE else float(f"{value:.3g}")
    return drawn
