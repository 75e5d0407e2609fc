"""How good the prediction is on the public histories: learned again daily, several draws of the model.

A draw takes minutes, so that what it said can be kept: a run with more draws goes on where one with fewer
ended, or was cut off.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml import evaluate, linear, replay, summary, table, train, trial
from ml.replay import Dataset
from ml.trial import Answers
from tests.bench.lines import figure, say
from tests.bench.predict import histories

DAYS = 1.0
AIMS = {"fpr": 0.05, "accuracy": 0.87, "recall": 0.45, "auc": 0.862, "ece": 0.03, "coverage": 0.95,
        "selective_accuracy": 0.88}  # fmt: skip
"""What is to be reached: at most for `fpr` and `ece`, at least for the others."""


def measure(*, seeds: int, keep: Path | None) -> list[dict[str, Any]]:
    """Print the tables; a figure for each aim, the mean over the draws."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        histories.write(path)
        runs = table.read(path, change=None)
    data = replay.judged(runs.attempts, change=runs.change)
    known, held_out = train.split(data, holdout=evaluate.TEST)
    *model, line = answers(Work(data, known, len(data) - len(held_out), Shelf(keep, data)), seeds=seeds)
    baselines = {**trial.baselines(held_out), "logistic_regression": line}
    found = evaluate.Evaluation(test=held_out, model=model, baselines=baselines, learned=len(known)).numbers()
    answer = {
        "runs": len(data),
        "online_days": DAYS,
        "change_columns": list(runs.change),
        "ignored_columns": list(runs.ignored),
        **found,
    }
    sys.stdout.write(f"{summary.text(answer, held_out, model, runs.attempts)}\n")
    return [
        figure(f"predict_{name}", found["model"][name], _unit(found["interval"][name], seeds), aim)
        for name, aim in AIMS.items()
    ]


@dataclass(frozen=True, slots=True)
class Work:
    """The rows, those that are known when the test part begins, and where it does."""

    data: Dataset
    known: Dataset
    cut: int
    shelf: Shelf

    def answers(self, number: int | None) -> Answers:
        """Of a draw of the model; of the logistic regression without a number."""
        if number is None:
            return self.shelf.get(
                "line", lambda: trial.run(self.data, cut=self.cut, days=DAYS, learn=linear.fit)
            )
        return self.shelf.get(
            f"draw-{number}",
            lambda: evaluate.of_seed(self.data, self.known, number, cut=self.cut, days=DAYS),
        )


_here: list[Work] = []
"""What the forked processes work on: it is not sent to them, they have it."""


def answers(work: Work, *, seeds: int) -> list[Answers]:
    """Those of all draws, then of the logistic regression: a process for each core, one draw at a time."""
    _here[:] = [work]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        return list(pool.map(_answers, [*range(seeds), None]))


def _answers(number: int | None) -> Answers:
    return _here[0].answers(number)


def _unit(interval: list[float] | None, seeds: int) -> str:
    edges = "–".join(f"{edge:.3f}" for edge in interval or ())
    return f"mean of {seeds} draws; 95 % by days {edges}"


class Shelf:
    """Answers by name in a folder, good for these rows and this code; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, data: Dataset) -> None:
        self._folder = folder
        digest = hashlib.sha256(data.x.tobytes() + data.failed.tobytes())
        for path in sorted(Path(evaluate.__file__).parent.glob("*.py")):
            digest.update(path.read_bytes())
        self._stamp = digest.hexdigest()[:16]

    def get(self, name: str, make: Callable[[], Answers]) -> Answers:
        """What is kept of that name, or what is made now."""
        path = self._folder / f"{self._stamp}-{name}.npz" if self._folder else None
        if path is not None and path.exists():
            with np.load(path) as kept:
                return Answers(
                    probability=kept["probability"], flagged=kept["flagged"], unsure=kept["unsure"]
                )
        began = time.monotonic()
        made = make()
        say(f"{name} took {time.monotonic() - began:.0f} s")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".half.npz")
            np.savez(half, probability=made.probability, flagged=made.flagged, unsure=made.unsure)
            half.replace(path)
        return made
