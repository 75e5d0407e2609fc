"""The training job: `python -m ml.train [job.json]`, run by Ray: a data window in, a model and a report out.

window → digest → replay → time-ordered split → search, where one is asked for → fit → test against two
baselines → gates → artifact → report.
The artifact is exactly the model that was tested: its metrics are not those of a sibling. Exit code 0 means
that a report says Passed or GatesFailed; a training that could not be done reports Failed and exits with 1.
"""

import argparse
import base64
import binascii
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ml import (
    artifact,
    cause_train,
    contract,
    curves,
    duration_train,
    fit,
    learning,
    metrics,
    pooled,
    replay,
    search,
    transfer,
    window,
)
from ml.arrays import Flags
from ml.contract import Gates, Report, TrainingJob
from ml.figures import Curves, Metrics
from ml.learning import MIN_ROWS, TrainingFailed
from ml.replay import Dataset

MIN_FAILURES = 10
"""Failures (and passes) that the training part needs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training found: the file, its metrics, the baselines on the same runs, what it was made of."""

    content: bytes
    metrics: Metrics
    curves: Curves
    baselines: dict[str, Metrics]
    searched: contract.Searched | None
    hyperparameters: dict[str, float]
    rows: int
    data_from: str
    data_to: str
    pooled: contract.Pooled | None


def main(argv: list[str]) -> int:
    """The command: the job from a file or from the environment; messages go to the job's log."""
    parser = argparse.ArgumentParser(prog="python -m ml.train", description=__doc__)
    parser.add_argument("job", nargs="?", type=Path, help=f"file with the job; else ${contract.JOB_VARIABLE}")
    try:
        job = contract.from_json(contract.TrainingJob, _job_text(parser.parse_args(argv).job))
    except (contract.ContractError, OSError) as error:
        sys.stderr.write(f"no training: {error}\n")
        return 2
    report = run(job)
    sys.stdout.write(f"{report.outcome}: {report.reason}\n")
    return 1 if report.outcome == "Failed" else 0


def run(job: TrainingJob) -> Report:
    """Do the job and write its report. Raises TransferFailed if the report itself cannot be written."""
    started = time.monotonic()
    try:
        report = _train_and_store(job)
    except (TrainingFailed, window.WindowRefused, transfer.TransferFailed) as error:
        report = Report(submission_id=job.submission_id, outcome="Failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - the controller must learn of every end; the log has the rest
        sys.excepthook(type(error), error, error.__traceback__)
        reason = f"training ended unexpectedly ({type(error).__name__}); the job's log has the details"
        report = Report(submission_id=job.submission_id, outcome="Failed", reason=reason)
    report = dataclasses.replace(
        report,
        trained_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        duration_seconds=round(time.monotonic() - started, 3),
    )
    transfer.put(job.report_uri, contract.to_json(report).encode())
    return report


def train(content: bytes, job: TrainingJob, others: Sequence[bytes] = ()) -> Trained:
    """Train on a data window, and those of the job's pool: pure but for LightGBM.

    Raises TrainingFailed and WindowRefused.
    """
    tables = [window.read(content, sha256=job.window_sha256)]
    tables += [window.read(each, sha256=told.sha256) for each, told in zip(others, job.pool, strict=True)]
    together = pooled.dataset(tables)
    data = together.data
    known, test = split(data, holdout=job.holdout)
    searched, settings = None, job.hyperparameters
    if job.search is not None:
        searched = search.search(known, wanted=job.search, fixed=job.hyperparameters, seed=job.seed)
        settings = searched.hyperparameters
    fitted = fit.fit(known, hyperparameters=settings, seed=job.seed, target=target_rate(job.gates))
    measured, points = measure(fitted, test)
    span = replay.rfc3339(data.started_at.min()), replay.rfc3339(data.started_at.max())
    file = artifact.Artifact(
        models=fitted.scorer.texts(),
        linear=fitted.scorer.linear,
        calibration=fitted.limits.calibration,
        thresholds=fitted.limits.thresholds,
        window_sha256=job.data_sha256,
        rows=len(data),
        data_from=span[0],
        data_to=span[1],
        metrics=measured,
    )
    return Trained(
        content=artifact.dump(file),
        metrics=measured,
        curves=points,
        baselines=metrics.baselines(failed=test.failed, red_before=test.red_before),
        searched=searched,
        hyperparameters=contract.complete(settings),
        rows=len(data),
        data_from=span[0],
        data_to=span[1],
        pooled=_pooled(together.rows) if job.pool else None,
    )


def split(data: Dataset, *, holdout: float) -> tuple[Dataset, Dataset]:
    """(to learn from, to test on): one cut in time, and before it only outcomes known by then.

    Raises TrainingFailed when either part is too small or of one kind.
    """
    if len(data) < MIN_ROWS:
        raise TrainingFailed(
            f"the data window holds {len(data)} runs that passed or failed, training needs {MIN_ROWS}:"
            " wait for more runs, import the history or choose a longer window"
        )
    cut = len(data) - round(len(data) * holdout)
    order = np.arange(len(data))
    # A run that came before the cut but finished after it was not known at the cut.
    known = data.take((order < cut) & (data.finished_at <= data.judged_at[cut]))
    test = data.take(order >= cut)
    first = fit.oldest(len(known))
    _need("the oldest runs", known.failed[:first], least=MIN_FAILURES)
    _need("the runs that calibrate the model", known.failed[first:], least=2)
    _need("the newest runs, kept for the test,", test.failed, least=1)
    return known, test


def target_rate(gates: Gates) -> float:
    """The false positive rate to aim at: well below the gate, because thresholds drift by a point or two."""
    if gates.max_false_positive_rate is None:
        return fit.TARGET_FALSE_POSITIVE_RATE
    return min(fit.TARGET_FALSE_POSITIVE_RATE, max(0.0, 0.6 * gates.max_false_positive_rate))


def measure(fitted: fit.Fitted, test: Dataset) -> tuple[Metrics, Curves]:
    """How the model did on the test part: in numbers, and as points to draw."""
    probability = fitted.limits.calibration.probability(fitted.scorer.logit(test.x))
    limits = fitted.limits.thresholds
    flagged = probability >= limits.failure
    numbers = metrics.metrics(
        failed=test.failed,
        probability=probability,
        flagged=flagged,
        red_before=test.red_before,
        unsure=limits.unsure(probability, has_history=test.has_history),
    )
    points = curves.curves(
        failed=test.failed, probability=probability, flagged=flagged, started_at=test.started_at
    )
    return numbers, points


def missed_gates(gates: Gates, found: Metrics, baselines: dict[str, Metrics]) -> list[str]:
    """A sentence for each gate that the model does not pass: the gate, its value, its limit."""
    name, best = max(baselines.items(), key=lambda item: item[1].accuracy)
    gain = found.accuracy - best.accuracy
    rate = found.false_positive_rate or 0.0
    rules = [
        ("false positive rate", rate, "at most", gates.max_false_positive_rate),
        ("accuracy", found.accuracy, "at least", gates.min_accuracy),
        (f"gain over the baseline {name}", gain, "at least", gates.min_gain_over_baseline),
        ("calibration error", found.calibration_error, "at most", gates.max_calibration_error),
    ]
    return learning.missed(rules)


def _train_and_store(job: TrainingJob) -> Report:
    content = transfer.get(job.window_uri)
    learn = {"Duration": duration_train.learn, "FailureCause": cause_train.learn}.get(job.task, _learn)
    made, report = learn(content, job)
    # Stored also when a gate was missed: a person may look at it, only promotion is refused.
    transfer.put(job.artifact_uri, made)
    return dataclasses.replace(
        report,
        artifact_sha256=artifact.digest(made),
        artifact_bytes=len(made),
        model_format=contract.FORMATS[job.task],
    )


def _learn(content: bytes, job: TrainingJob) -> tuple[bytes, Report]:
    """A model of failures, and what there is to say of it."""
    found = train(content, job, _others(job))
    missed = missed_gates(job.gates, found.metrics, found.baselines)
    best = max(each.accuracy for each in found.baselines.values())
    passed = f"all gates passed: accuracy {found.metrics.accuracy:.4f}, the better baseline has {best:.4f}"
    return found.content, Report(
        submission_id=job.submission_id,
        outcome="GatesFailed" if missed else "Passed",
        reason="; ".join(missed) or passed,
        metrics=found.metrics,
        baselines=found.baselines,
        curves=found.curves,
        search=found.searched,
        hyperparameters=found.hyperparameters,
        rows=found.rows,
        data_from=found.data_from,
        data_to=found.data_to,
        pooled=found.pooled,
    )


def _others(job: TrainingJob) -> list[bytes]:
    """The windows of the pool. Raises TrainingFailed, which names no address: it goes to one tenant."""
    try:
        return [transfer.get(each.uri) for each in job.pool]
    except transfer.TransferFailed:
        raise TrainingFailed("a window of the pool could not be read; the training is tried again") from None


def _pooled(rows: Sequence[int]) -> contract.Pooled:
    return contract.Pooled(tenants=sum(count > 0 for count in rows), rows=sum(rows), own_rows=rows[0])


def _need(part: str, failed: Flags, *, least: int) -> None:
    failures = int(failed.sum())
    if min(failures, len(failed) - failures) < least:
        raise TrainingFailed(
            f"{part} have {failures} failures and {len(failed) - failures} passes;"
            f" at least {least} of each are needed: choose a longer data window"
        )


def _job_text(path: Path | None) -> bytes:
    if path is not None:
        return path.read_bytes()
    try:
        text = base64.b64decode(os.environ[contract.JOB_VARIABLE], validate=True)
    except KeyError:
        raise contract.ContractError(f"name a job file or set {contract.JOB_VARIABLE}") from None
    except binascii.Error:
        raise contract.ContractError(f"{contract.JOB_VARIABLE} is not base64") from None
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
