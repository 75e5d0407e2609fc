"""One run's prediction in this process, and many at once: what of an answer is the model's."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ml import artifact, features, predict, replay, window
from ml.history import Outcome, Run
from ml.scorer import Scorer
from tests.bench.lines import figure, say

AIM_MS = 1.0
BATCH = 100
SKIPPED, ROWS = 2500, 2000
"""Of the history: the runs before these, which have short lines, and those that are scored."""

Asked = tuple[Run, Mapping[str, Sequence[Outcome]]]


def asked(history_window: bytes) -> list[Asked]:
    """Runs of the history with their lines of work as they were known when each began."""
    table = window.read(history_window, sha256=artifact.digest(history_window))
    replayed = itertools.islice(replay.replay(replay.attempts(table)), SKIPPED, SKIPPED + ROWS)
    found: list[Asked] = [(row.run, dict(lines)) for row, lines in replayed]
    assert len(found) == ROWS, "the history has so many"
    return found


def loaded(model: bytes) -> predict.Predictor:
    """The model, warm."""
    predictor = predict.Predictor.load(model, sha256=artifact.digest(model))
    predictor.warm()
    return predictor


def one(model: bytes, rows: Sequence[Asked], *, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds for a run: features, model, reasons; by the clock, and of this thread's CPU."""
    predictor, found = loaded(model), dict[str, list[float]]()
    for number in range(rounds):
        clock, cpu = [], []
        for run, lines in rows:
            began, busy = time.perf_counter(), time.thread_time()
            predictor.predict(run, lines)
            cpu.append(1000 * (time.thread_time() - busy))
            clock.append(1000 * (time.perf_counter() - began))
        now = {
            f"{of}p{100 * share:.0f}": float(np.quantile(times, share))
            for of, times in (("", clock), ("cpu_", cpu))
            for share in (0.5, 0.99)
        }
        for name, value in now.items():
            found.setdefault(name, []).append(value)
        told = ", ".join(f"{name} {value:.3f} ms" for name, value in now.items())
        say(f"one run {number + 1}/{rounds}, of {len(rows)}: {told}")
    return [
        figure(f"serving_compute_{name}", statistics.median(values), "ms for a run, with reasons", AIM_MS)
        for name, values in found.items()
    ]


def together(predictor: predict.Predictor, rows: Sequence[Asked]) -> float:
    """Runs a second by one thread, asked together."""
    began = time.perf_counter()
    for at in range(0, len(rows), BATCH):
        predictor.predict_many(rows[at : at + BATCH])
    return len(rows) / (time.perf_counter() - began)


def batch(model: bytes, rows: Sequence[Asked], *, rounds: int) -> list[dict[str, Any]]:
    """Runs a second, asked together, with reasons; beside LightGBM's bare score of the same rows."""
    predictor, ours, limit = loaded(model), list[float](), list[float]()
    scorer = Scorer.load(predictor.file.models, predictor.file.linear)
    x = np.array([features.features(run, lines) for run, lines in rows])
    for number in range(rounds):
        ours.append(together(predictor, rows))
        began = time.perf_counter()
        for at in range(0, len(rows), BATCH):
            for booster in scorer.boosters:
                booster.predict(x[at : at + BATCH], raw_score=True, num_threads=1)
        limit.append(len(rows) / (time.perf_counter() - began))
        say(f"batches {number + 1}/{rounds}: ours {ours[-1]:.0f} runs/s, LightGBM alone {limit[-1]:.0f}/s")
    unit = f"runs/s in batches of {BATCH}, with reasons, one thread"
    return [figure("serving_batch_compute", statistics.median(ours), unit, statistics.median(limit))]
