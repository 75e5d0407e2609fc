"""Training of the task Duration: a window in, quantiles of durations out, judged against recent runs.

As `ml.train` has it for failures: replay → one cut in time → fit → test against two baselines → gates. What
is learned is how long attempts took that passed or failed; a cancelled one says when somebody lost patience.
"""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from ml import duration_artifact, duration_features, duration_model, learning, replay, window
from ml.arrays import Floats
from ml.contract import Gates, Report, TrainingJob
from ml.duration_artifact import DurationArtifact
from ml.duration_model import Chosen, Rows
from ml.durations import QUANTILES, covered, pinball
from ml.figures import DurationDay, DurationMetrics, Durations, QuantileMetrics
from ml.learning import MIN_ROWS, TrainingFailed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The attempts that took a known time, in the order in which they were judged."""

    rows: Rows
    last: Floats
    """How long the run before took on the same line of work, in seconds."""
    judged_at: Floats
    started_at: Floats
    finished_at: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: Chosen) -> "Dataset":
        """Some of them."""
        return Dataset(
            rows=self.rows.part(chosen),
            last=self.last[chosen],
            judged_at=self.judged_at[chosen],
            started_at=self.started_at[chosen],
            finished_at=self.finished_at[chosen],
        )


def learn(content: bytes, job: TrainingJob) -> tuple[bytes, Report]:
    """The model's file and what there is to say of it. Raises TrainingFailed and WindowRefused."""
    data = dataset(window.read(content, sha256=job.window_sha256))
    known, test = split(data, holdout=job.holdout)
    model = duration_model.fit(known.rows, hyperparameters=job.hyperparameters, seed=job.seed)
    found = measure(model.quantiles(test.rows.x, test.rows.scale, test.rows.empirical), test)
    span = replay.rfc3339(data.started_at.min()), replay.rfc3339(data.started_at.max())
    file = DurationArtifact(
        mixture=model,
        window_sha256=job.window_sha256,
        rows=len(data),
        data_from=span[0],
        data_to=span[1],
        metrics=found.metrics,
    )
    missed = missed_gates(job.gates, found)
    said = (
        f"all gates passed: the pinball loss is {found.metrics.pinball_loss:.1f} s,"
        f" the better baseline's {_best(found).pinball_loss:.1f} s"
    )
    return duration_artifact.dump(file), Report(
        submission_id=job.submission_id,
        outcome="GatesFailed" if missed else "Passed",
        reason="; ".join(missed) or said,
        durations=found,
        rows=len(data),
        data_from=span[0],
        data_to=span[1],
    )


def dataset(table: pa.Table) -> Dataset:
    """The attempts of the window whose duration is known, with what was known of their lines."""
    x, scale, empirical, seconds, last, times = [], [], [], [], [], []
    for row, lines in replay.replay(replay.attempts(table)):
        if row.failed is None or row.finished_at is None:
            continue
        took = row.finished_at - row.run.started_at
        found = duration_features.basis(lines)
        if found is None or not 0 < took <= duration_features.LONGEST:
            continue
        x.append(duration_features.features(row.run, lines, found))
        scale.append(found.scale)
        empirical.append(found.quantiles)
        seconds.append(took)
        last.append(found.seconds[-1])
        times.append((row.run.judged_at, row.run.started_at, row.finished_at))
    moments = np.array(times, dtype=np.float64).reshape(len(times), 3)
    return Dataset(
        rows=Rows(
            x=np.array(x, dtype=np.float64).reshape(len(x), len(duration_features.NAMES)),
            scale=np.array(scale),
            empirical=np.array(empirical).reshape(len(empirical), len(QUANTILES)),
            seconds=np.array(seconds),
        ),
        last=np.array(last),
        judged_at=moments[:, 0],
        started_at=moments[:, 1],
        finished_at=moments[:, 2],
    )


def split(data: Dataset, *, holdout: float) -> tuple[Dataset, Dataset]:
    """(to learn from, to test on): one cut in time, and before it only what had finished by then.

    Raises TrainingFailed where there is too little.
    """
    if len(data) < MIN_ROWS:
        raise TrainingFailed(
            f"the data window holds {len(data)} runs that passed or failed after others, and took a known"
            f" time; training needs {MIN_ROWS}: wait for more runs, import the history or choose a longer"
            " window"
        )
    cut = len(data) - round(len(data) * holdout)
    known = np.flatnonzero((np.arange(len(data)) < cut) & (data.finished_at <= data.judged_at[cut]))
    return data.take(known), data.take(slice(cut, None))


def measure(quantiles: Floats, test: Dataset) -> Durations:
    """How forecasts did on the test part, beside the baselines."""
    seconds = test.rows.seconds
    place = (seconds[:, None] > quantiles).sum(axis=1)
    return Durations(
        metrics=_metrics(seconds, quantiles),
        baselines={
            "recentRuns": _metrics(seconds, test.rows.empirical),
            "lastRun": _metrics(seconds, np.repeat(test.last[:, None], len(QUANTILES), axis=1)),
        },
        classes=tuple(int((place == at).sum()) for at in range(len(QUANTILES) + 1)),
        days=_days(quantiles, test),
    )


def missed_gates(gates: Gates, found: Durations) -> list[str]:
    """A sentence for each gate that the model does not pass: the gate, its value, its limit."""
    name, best = min(found.baselines.items(), key=lambda item: item[1].pinball_loss)
    gain = 1 - found.metrics.pinball_loss / best.pinball_loss if best.pinball_loss else 0.0
    return learning.missed(
        [
            (f"gain in pinball loss over the baseline {name}", gain, "at least", gates.min_pinball_gain),
            ("coverage error", found.metrics.coverage_error, "at most", gates.max_coverage_error),
        ]
    )


def _best(found: Durations) -> DurationMetrics:
    return min(found.baselines.values(), key=lambda each: each.pinball_loss)


def _metrics(seconds: Floats, quantiles: Floats) -> DurationMetrics:
    each = tuple(
        QuantileMetrics(
            quantile=quantile,
            pinball_loss=pinball(seconds, quantiles[:, at], quantile),
            covered=covered(seconds, quantiles[:, at]),
        )
        for at, quantile in enumerate(QUANTILES)
    )
    return DurationMetrics(
        pinball_loss=sum(it.pinball_loss for it in each) / len(each),
        coverage_error=max(abs(it.covered - it.quantile) for it in each),
        median_error=float(np.abs(seconds - quantiles[:, 0]).mean()),
        quantiles=each,
        rows=len(seconds),
    )


def _days(quantiles: Floats, test: Dataset) -> tuple[DurationDay, ...]:
    number = (test.started_at // 86_400).astype(np.int64)
    seconds, found = test.rows.seconds, []
    for each in np.unique(number):
        here = number == each
        found.append(
            DurationDay(
                day=datetime.fromtimestamp(int(each) * 86_400, UTC).date().isoformat(),
                rows=int(here.sum()),
                within=int((seconds[here] <= quantiles[here, 1]).sum()),
                median_error=float(np.abs(seconds[here] - quantiles[here, 0]).mean()),
            )
        )
    return tuple(found)
