"""Training of the task FailureCause: a window in, a model of which failures pass when they are run again.

The labels are the tenant's own: a failed attempt that was followed by another on the same commit was
`transient` where that passed, else `lasting`. A label is known when the later attempt has finished. Then as
`ml.train` has it: one cut in time → fit → test against two baselines → gates.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml import cause_artifact, cause_features, learning, metrics, replay, window
from ml.arrays import Flags, Floats
from ml.cause_artifact import CauseArtifact
from ml.causes import LASTING, SURE, TRANSIENT, CauseModel, Failure
from ml.contract import Gates, Report, TrainingJob
from ml.figures import CauseMetrics, Causes
from ml.flaky import WEIGHT, Prior
from ml.learning import TrainingFailed

MIN_LABELS = 60
"""Failures that were run again, below which nothing can be learned and tested."""
MIN_EACH = 8
"""Of each kind, in the part that is learned from."""
VALIDATION = 0.25
"""Share of the known failures, the newest, that chooses the penalty."""
PENALTIES = (0.1, 0.5, 2.0, 5.0)
"""Inverses of the penalty on the weights that are tried: facts are few, and mostly say the same."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A failed attempt, and what became of the next one on its commit. Times are epoch seconds."""

    failure: Failure
    line: str
    """Its pipeline: equal for all of its runs."""
    transient: bool
    failed_at: float
    known_at: float
    started_at: float


def learn(content: bytes, job: TrainingJob) -> tuple[bytes, Report]:
    """The model's file and what there is to say of it. Raises TrainingFailed and WindowRefused."""
    rows = labelled(window.read(content, sha256=job.window_sha256))
    known, test = split(rows, holdout=job.holdout)
    model = fit(known)
    found = Causes(
        metrics=measure(test, _probabilities(model, test)),
        baselines={name: measure(test, said) for name, said in baselines(known, test).items()},
    )
    starts = [row.started_at for row in rows]
    span = replay.rfc3339(min(starts)), replay.rfc3339(max(starts))
    file = CauseArtifact(
        model=model,
        window_sha256=job.window_sha256,
        rows=len(rows),
        data_from=span[0],
        data_to=span[1],
        metrics=found.metrics,
    )
    missed = missed_gates(job.gates, found)
    best = max(each.accuracy for each in found.baselines.values())
    passed = f"all gates passed: accuracy {found.metrics.accuracy:.4f}, the better baseline has {best:.4f}"
    return cause_artifact.dump(file), Report(
        submission_id=job.submission_id,
        outcome="GatesFailed" if missed else "Passed",
        reason="; ".join(missed) or passed,
        causes=found,
        rows=len(rows),
        data_from=span[0],
        data_to=span[1],
    )


def labelled(table: pa.Table) -> list[Labelled]:
    """The failed attempts of the window that were followed by another on their commit, by time of failure."""
    names = zip(
        *(table[name].to_pylist() for name in ("integration", "run_id", "attempt", "failed_jobs")),
        strict=True,
    )
    jobs = {
        (integration or "", run, attempt or 1): failed or () for integration, run, attempt, failed in names
    }
    waiting: dict[tuple[str, ...], list[tuple[replay.Attempt, Failure]]] = {}
    found: list[Labelled] = []
    for row, lines in replay.replay(replay.attempts(table)):
        run = row.run
        if row.failed is None or row.finished_at is None:
            continue
        # one run's attempts are on one commit, whether or not its provider tells which
        on = (run.sha, run.branch) if run.sha else ("", run.run_id)
        key = (run.integration, run.project, run.pipeline, *on)
        before = waiting.pop(key, [])
        for failed, what in before:
            ended = failed.finished_at
            assert ended is not None, "it has failed"
            if ended > run.started_at:  # it ran beside it, and is none that followed
                waiting.setdefault(key, []).append((failed, what))
                continue
            found.append(
                Labelled(
                    failure=what,
                    line="/".join(key[:3]),
                    transient=not row.failed,
                    failed_at=ended,
                    known_at=row.finished_at,
                    started_at=failed.run.started_at,
                )
            )
        if row.failed:
            failed_jobs = jobs.get((run.integration, run.run_id, run.attempt), ())
            what = cause_features.failure(run, lines, failed_jobs)
            waiting.setdefault(key, []).append((row, what))
    return sorted(found, key=lambda each: (each.failed_at, each.started_at))


def split(rows: Sequence[Labelled], *, holdout: float) -> tuple[list[Labelled], list[Labelled]]:
    """(to learn from, to test on): one cut in time, and before it only labels that were known by then.

    Raises TrainingFailed where there is too little of either.
    """
    if len(rows) < MIN_LABELS:
        raise TrainingFailed(
            f"the data window holds {len(rows)} failures that were followed by another attempt on their"
            f" commit, training needs {MIN_LABELS}: wait for more, import the history or choose a longer"
            " window"
        )
    cut = len(rows) - round(len(rows) * holdout)
    known = [each for each in rows[:cut] if each.known_at <= rows[cut].failed_at]
    passed = sum(each.transient for each in known)
    if min(passed, len(known) - passed) < MIN_EACH:
        raise TrainingFailed(
            f"of the failures to learn from {passed} passed when they were run again and"
            f" {len(known) - passed} did not; at least {MIN_EACH} of each are needed: choose a longer data"
            " window"
        )
    return known, list(rows[cut:])


def fit(known: Sequence[Labelled]) -> CauseModel:
    """Fit, with the penalty that is best on the newest of the known failures."""
    cut = len(known) - max(1, int(len(known) * VALIDATION))
    first, newest = known[:cut], known[cut:]
    kinds = {each.transient for each in first}
    best = PENALTIES[0]
    if len(kinds) == 2:
        best = min(PENALTIES, key=lambda c: _log_loss(newest, _probabilities(_fit(first, c=c), newest)))
    return _fit(known, c=best)


def baselines(known: Sequence[Labelled], test: Sequence[Labelled]) -> dict[str, Floats]:
    """P(passes) by what is more frequent, and by how often re-runs of the same pipeline passed."""
    share = sum(each.transient for each in known) / len(known)
    counts: dict[str, tuple[int, int]] = {}
    for each in known:
        passed, total = counts.get(each.line, (0, 0))
        counts[each.line] = passed + each.transient, total + 1
    prior = Prior(mean=min(max(share, 0.01), 0.99), weight=WEIGHT)
    by_line = [prior.rate(*counts.get(each.line, (0, 0))).mean for each in test]
    return {"majority": np.full(len(test), share), "lineRate": np.array(by_line)}


def measure(test: Sequence[Labelled], probability: Floats) -> CauseMetrics:
    """How good these probabilities of passing are."""
    passed: Flags = np.array([each.transient for each in test], dtype=np.bool_)
    right = (probability >= 0.5) == passed
    sure = np.maximum(probability, 1 - probability) >= SURE
    return CauseMetrics(
        accuracy=float(right.mean()),
        auc=metrics.auc(passed, probability),
        brier=metrics.brier(passed, probability),
        calibration_error=metrics.calibration_error(passed, probability),
        coverage=float(sure.mean()),
        selective_accuracy=metrics.share(right, of=sure),
        rows=len(passed),
        transient=int(passed.sum()),
    )


def missed_gates(gates: Gates, found: Causes) -> list[str]:
    """A sentence for each gate that the model does not pass: the gate, its value, its limit."""
    name, best = max(found.baselines.items(), key=lambda item: item[1].accuracy)
    gain = found.metrics.accuracy - best.accuracy
    return learning.missed(
        [
            ("accuracy", found.metrics.accuracy, "at least", gates.min_accuracy),
            (f"gain over the baseline {name}", gain, "at least", gates.min_gain_over_baseline),
            ("calibration error", found.metrics.calibration_error, "at most", gates.max_calibration_error),
        ]
    )


def _fit(rows: Sequence[Labelled], *, c: float) -> CauseModel:
    labels = [TRANSIENT if each.transient else LASTING for each in rows]
    return CauseModel.fit([each.failure for each in rows], labels, c=c)


def _probabilities(model: CauseModel, rows: Sequence[Labelled]) -> Floats:
    found: npt.NDArray[np.float64] = model.probabilities([each.failure for each in rows])
    return found[:, list(model.labels).index(TRANSIENT)]


def _log_loss(rows: Sequence[Labelled], probability: Floats) -> float:
    passed = np.array([each.transient for each in rows])
    said = np.clip(np.where(passed, probability, 1 - probability), 1e-6, 1)
    return float(-np.log(said).mean())
