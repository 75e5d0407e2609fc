"""Durations, re-runs and anomalies on public GitHub Actions runs; see `ml.evaluate_causes`.

Everything is prequential: a run is predicted from what had finished when it started. Durations of more than
`LONGEST` are left out: in this set they are the ends of later re-runs.
"""

import csv
import dataclasses
import gzip
import heapq
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ml import anomaly, durations, flaky, intervals
from ml.arrays import Floats

TEST = 0.25
LONGEST = 6 * 3600.0
SLOWER = 1.5
"""The injected change: runs take this much longer from a moment on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run; times in epoch seconds."""

    project: str
    line: str
    commit: str
    started_at: float
    finished_at: float
    failed: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.finished_at - self.started_at


def compare(directory: Path) -> Iterable[dict[str, Any]]:
    """Figures of gha-runs."""
    runs = read(directory)
    yield from compare_durations([run for run in runs if 0 < run.seconds <= LONGEST])
    yield from compare_retries(runs)
    yield compare_shifts([run for run in runs if 0 < run.seconds <= LONGEST])
    yield compare_failures(runs)


def read(directory: Path) -> list[Run]:
    """The runs in the order of their starts."""
    with gzip.open(directory / "gha_mit.csv.gz", "rt", encoding="utf-8") as text:
        runs = [
            Run(
                project=row["project"],
                line=row["key"],
                commit=row["c_sha"],
                started_at=datetime.fromisoformat(row["started_at"]).timestamp(),
                finished_at=datetime.fromisoformat(row["finished_at"]).timestamp(),
                failed=row["failed"] == "1",
            )
            for row in csv.DictReader(text)
        ]
    return sorted(runs, key=lambda run: (run.started_at, run.finished_at, run.line))


def compare_durations(runs: Sequence[Run]) -> Iterable[dict[str, Any]]:
    """Pinball loss of three quantiles on the last quarter, by the whole past, recent runs and the model."""
    recent, whole, waiting = durations.Recent(), _Whole(), list[tuple[float, int]]()
    rows, places = [], []
    for place, run in enumerate(runs):
        while waiting and waiting[0][0] <= run.started_at:
            ended = runs[heapq.heappop(waiting)[1]]
            recent.add(ended.project, ended.line, ended.seconds)
            whole.add(ended)
        seen = recent.features(run.project, run.line, at=run.started_at)
        forecast = recent.forecast(run.project, run.line)
        if seen and forecast:
            places.append(place)
            rows.append((seen[0], seen[1], list(forecast.quantiles.values()), whole.quantiles(run)))
        heapq.heappush(waiting, (run.finished_at, place))
    cut = runs[int(len(runs) * (1 - TEST))].started_at
    started = np.array([runs[place].started_at for place in places])
    ended_at = np.array([runs[place].finished_at for place in places])
    actual = np.array([runs[place].seconds for place in places])
    scales, features = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    train, test = ended_at <= cut, started >= cut
    model = durations.DurationModel.fit(features[train], np.log(actual / scales)[train])
    said = {
        "empirical, whole past": np.array([row[3] for row in rows])[test],
        "empirical, recent": np.array([row[2] for row in rows])[test],
        "lightgbm quantile": model.quantiles(features[test], scales[test]),
    }
    truth, days = actual[test], (started[test] // 86400).astype(int).tolist()
    for name, predicted in said.items():
        line: dict[str, Any] = {"task": "duration", "predictor": name, "rows": len(truth)}
        for column, quantile in enumerate(durations.QUANTILES):
            value, base = predicted[:, column], said["empirical, whole past"][:, column]
            line[f"pinball_p{quantile * 100:.0f}_s"] = round(durations.pinball(truth, value, quantile), 2)
            line[f"covered_p{quantile * 100:.0f}"] = round(durations.covered(truth, value), 4)
            if name != "empirical, whole past":
                line[f"gain_p{quantile * 100:.0f}_s_interval"] = _gain(truth, base, value, quantile, days)
        yield line


def _gain(truth: Floats, base: Floats, value: Floats, quantile: float, days: Sequence[int]) -> list[float]:
    low, high = intervals.bootstrap(
        lambda at: (
            durations.pinball(truth[at], base[at], quantile)
            - durations.pinball(truth[at], value[at], quantile)
        ),
        days,
        draws=500,
    )
    return [round(low, 2), round(high, 2)]


def _mean_of(values: Floats) -> Callable[[intervals.Rows], float]:
    return lambda at: float(values[at].mean())


class _Whole:
    """The baseline: quantiles of all that is known of the line, else of all lines."""

    def __init__(self) -> None:
        self._kept: dict[str, list[float]] = {"": []}

    def add(self, run: Run) -> None:
        for key in (run.line, ""):
            self._kept.setdefault(key, []).append(run.seconds)

    def quantiles(self, run: Run) -> list[float]:
        known = self._kept.get(run.line) or self._kept[""]
        return [float(each) for each in np.quantile(known, durations.QUANTILES)]


def compare_retries(runs: Sequence[Run]) -> Iterable[dict[str, Any]]:
    """Would the next run on a commit pass whose last one failed? The line's rate beside the rate of all."""
    pairs = []
    seen: dict[tuple[str, str], Run] = {}
    for run in runs:
        before = seen.get((run.line, run.commit))
        if before is not None and before.failed and before.finished_at <= run.started_at:
            pairs.append(run)
        seen[run.line, run.commit] = run
    truth, said, usual, days = [], [], [], []
    for run in pairs:
        known = [each for each in runs if each.finished_at <= run.started_at]
        counts = flaky.count(
            flaky.Attempt(
                line=each.line, commit=each.commit, finished_at=each.finished_at, failed=each.failed
            )
            for each in known
        )
        whole = sum(counts.values(), flaky.Counts())
        truth.append(not run.failed)
        said.append(flaky.retry(counts, run.line).mean)
        usual.append(flaky.Prior().rate(whole.passed, whole.reruns).mean)
        days.append(int(run.started_at // 86400))
    passed = np.array(truth)
    for name, probability in (("rate of all", np.array(usual)), ("rate of the line", np.array(said))):
        losses = -np.log(np.where(passed, probability, 1 - probability))
        low, high = intervals.bootstrap(_mean_of(losses), days, draws=500)
        yield {
            "task": "retry",
            "predictor": name,
            "rows": len(passed),
            "passed": int(passed.sum()),
            "log_loss": round(float(losses.mean()), 4),
            "log_loss_interval": [round(low, 4), round(high, 4)],
            "mean_probability": round(float(probability.mean()), 4),
        }
    total = flaky.count(
        flaky.Attempt(line=run.line, commit=run.commit, finished_at=run.finished_at, failed=run.failed)
        for run in runs
    )
    rates = flaky.flaky_rates(total)
    yield {
        "task": "flaky",
        "lines": len(rates),
        "commits_run_twice": sum(each.commits for each in total.values()),
        "commits_of_two_answers": sum(each.disagreed for each in total.values()),
        "lines_surely_above_10_percent": sum(rate.low > 0.1 for rate in rates.values()),
    }


def compare_shifts(runs: Sequence[Run]) -> dict[str, Any]:
    """Alarms on times as they are, and how soon a rise by half, put into a line's second half, is told."""
    lines: dict[str, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.finished_at):
        lines.setdefault(run.line, []).append(run.seconds)
    lines = {line: seconds for line, seconds in lines.items() if len(seconds) >= 60}
    usual = {line: _alarms(seconds) for line, seconds in lines.items()}
    found, chance = [], []
    for line, seconds in lines.items():
        half = len(seconds) // 2
        slower = [*seconds[:half], *(SLOWER * each for each in seconds[half:])]
        found += _delay(_alarms(slower)[0], half)
        chance += _delay(usual[line][0], half)
    total = sum(map(len, lines.values()))
    return {
        "task": "anomaly of durations",
        "predictor": "robust z and CUSUM",
        "lines": len(lines),
        "rows": total,
        "outliers_per_1000": round(1000 * sum(out for _, out in usual.values()) / total, 2),
        "shifts_per_1000_as_they_are": round(
            1000 * sum(len(alarms) for alarms, _ in usual.values()) / total, 2
        ),
        "injected_rise_found_within_50": len(found),
        "found_there_without_it": len(chance),
        "median_delay_runs": float(np.median(found)) if found else None,
    }


def _delay(alarms: Sequence[tuple[int, bool]], start: int) -> list[int]:
    """Runs until the first alarm of a rise within the next `RECENT`; none where there is none."""
    return [at - start for at, up in alarms if up and start <= at < start + durations.RECENT][:1]


def _alarms(seconds: Sequence[float]) -> tuple[list[tuple[int, bool]], int]:
    """Where the CUSUM alarmed (and whether upwards), and how many outliers there were."""
    state, alarms, outliers, since = anomaly.Cusum(), [], 0, 0
    for at in range(anomaly.LEAST, len(seconds)):
        # Compared with times before the shift could begin: recent ones would follow it and hide it. After an
        # alarm the new times are the usual ones, or one shift would be told again and again.
        first = max(since, at - 2 * durations.RECENT)
        z = anomaly.robust_z(seconds[first : max(first + anomaly.LEAST, at - 10)][: at - first], seconds[at])
        if z is None:
            continue
        outliers += abs(z) > anomaly.OUTLIER
        state = state.step(z)
        if state.shifted:
            alarms.append((at, state.shifted > 0))
            state, since = anomaly.Cusum(), at
    return alarms, outliers


def compare_failures(runs: Sequence[Run]) -> dict[str, Any]:
    """Alarms of the failure rate by project, and how often the runs after an alarm failed beside others."""
    states: dict[str, anomaly.FailureCusum] = {}
    counts: dict[str, list[int]] = {}
    after: list[bool] = []
    other: list[bool] = []
    alarms = 0
    for run in sorted(runs, key=lambda run: run.finished_at):
        seen = counts.setdefault(run.project, [0, 0])
        state = states.get(run.project, anomaly.FailureCusum())
        (after if state.risen else other).append(run.failed)
        fresh = state.step(failed=run.failed, usual=(seen[0] + 1) / (seen[1] + 6))
        alarms += fresh.risen and not state.risen
        # The evidence is capped, so that an incident ends when results are good again.
        states[run.project] = dataclasses.replace(fresh, score=min(fresh.score, anomaly.RATE_LIMIT + 2))
        seen[0], seen[1] = seen[0] + run.failed, seen[1] + 1
    return {
        "task": "anomaly of failures",
        "predictor": "Bernoulli CUSUM by project",
        "rows": len(runs),
        "incidents": alarms,
        "rows_in_incidents": len(after),
        "failure_rate_in_incidents": round(float(np.mean(after)), 4) if after else None,
        "failure_rate_else": round(float(np.mean(other)), 4),
    }
