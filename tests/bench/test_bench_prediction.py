"""One run's prediction in this process: features, contributions and reasons, beside LightGBM alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from ml import artifact, features, predict, replay, window

ROWS, TIMES = 400, 5
TABLE = f"Prediction in process: one row at a time, {ROWS} rows in each repetition"


@pytest.mark.timeout(200)
def test_a_run_is_scored_in_process(
    history_window: bytes, model_file: bytes, report: Any, figure: Any, meter: Any
) -> None:
    table = window.read(history_window, sha256=artifact.digest(history_window))
    seen = [
        (row.run, {scope: tuple(line) for scope, line in lines.items()})
        for row, lines in itertools.islice(replay.replay(replay.attempts(table)), 4000, 4000 + ROWS)
    ]
    assert len(seen) == ROWS
    predictor = predict.Predictor.load(model_file, sha256=artifact.digest(model_file))
    predictor.warm()
    boosters = [lgb.Booster(model_str=text) for text in predictor.file.models]
    rows = [np.array([features.features(run, lines)]) for run, lines in seen]

    def alone(row: Any) -> None:
        for booster in boosters:
            booster.predict(row, raw_score=True, num_threads=1)

    def contributions(row: Any) -> None:
        for booster in boosters:
            booster.predict(row, pred_contrib=True, num_threads=1)

    timed: dict[str, list[list[float]]] = {"whole": [], "features": [], "lightgbm": [], "contributions": []}
    cpu = []
    for _ in range(TIMES):
        with meter.of() as cost:
            timed["whole"].append(milliseconds(lambda pair: predictor.predict(*pair), seen))
        cpu.append(1000 * cost.cpu / ROWS)
        timed["features"].append(milliseconds(lambda pair: features.features(*pair), seen))
        timed["lightgbm"].append(milliseconds(alone, rows))
        timed["contributions"].append(milliseconds(contributions, rows))
    at = {
        (name, share): [float(np.quantile(each, share)) for each in repetitions]
        for name, repetitions in timed.items()
        for share in (0.5, 0.99)
    }
    of_boosters = f"Booster.predict of the {len(boosters)} boosters"
    report.add(
        TABLE,
        *(
            figure(
                what=f"features, contributions, reasons: p{share * 100:.0f}",
                unit="ms",
                values=at["whole", share],
                limit=at["lightgbm", share],
                limit_is=of_boosters,
            )
            for share in (0.5, 0.99)
        ),
        figure(
            what="the part of it that computes features: p50",
            unit="ms",
            values=at["features", 0.5],
            limit=at["lightgbm", 0.5],
            limit_is="the same",
        ),
        figure(
            what="the part of it that is LightGBM with contributions: p50",
            unit="ms",
            values=at["contributions", 0.5],
            limit=at["lightgbm", 0.5],
            limit_is="the same",
        ),
        figure(what="CPU of a prediction", unit="ms", values=cpu),
    )


def milliseconds(call: Callable[[Any], object], items: Iterable[Any]) -> list[float]:
    """How long the call takes for each item."""
    found = []
    for item in items:
        began = time.perf_counter()
        call(item)
        found.append(1000 * (time.perf_counter() - began))
    return found
