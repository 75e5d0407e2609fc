"""Trains on real GitHub Actions histories (not part of the project; skipped where they are absent)."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from ml import artifact, contract, evaluate, fit, replay, train, window

FILE = Path(__file__).parents[4] / "shared" / "data" / "gha-runs" / "gha_mit.csv.gz"

pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the public histories are not in ../shared/data/gha-runs"
)


def rows() -> Iterator[dict[str, Any]]:
    with gzip.open(FILE, "rt") as text:
        for number, row in enumerate(csv.DictReader(text)):
            yield {
                "integration": "gha",
                "project": row["project"],
                "pipeline": row["key"],
                "run_id": str(number),
                "attempt": 1,
                "number": number,
                "event": row["c_event"],
                "branch": row["c_branch"],
                "actor": row["c_actor"],
                "sha": row["c_sha"],
                "outcome": "failure" if row["failed"] == "1" else "success",
                "queued_at": None,
                "started_at": datetime.fromisoformat(row["started_at"]),
                "finished_at": datetime.fromisoformat(row["finished_at"]),
                "failed_jobs": [],
                "jobs": 0,
            }


def test_real_histories_are_predicted_better_than_both_baselines() -> None:
    content = window.write(rows())
    job = contract.TrainingJob(
        submission_id="gha",
        window_uri="file:///nowhere/window",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report",
        gates=contract.Gates(min_accuracy=0.85, min_gain_over_baseline=0.01, max_calibration_error=0.06),
    )
    trained = train.train(content, job)
    show("model", trained.metrics)
    for name, found in trained.baselines.items():
        show(name, found)
    show_projects(content, trained.content)
    assert train.missed_gates(job.gates, trained.metrics, trained.baselines) == []
    assert trained.metrics.rows == 2257
    assert trained.metrics.false_positive_rate is not None
    assert trained.metrics.false_positive_rate <= 0.06
    assert trained.metrics.auc is not None
    assert trained.metrics.auc >= 0.84


def show(name: str, found: contract.Metrics) -> None:
    text = " ".join(
        f"{label} {value:.3f}" if value is not None else f"{label} -"
        for label, value in (
            ("acc", found.accuracy),
            ("FPR", found.false_positive_rate),
            ("recall", found.recall),
            ("precision", found.precision),
            ("AUC", found.auc),
            ("Brier", found.brier),
            ("ECE", found.calibration_error),
            ("first", found.first_failure_recall),
            ("coverage", found.coverage),
            ("selective", found.selective_accuracy),
        )
    )
    print(f"{name:18} {found.rows:5} runs {found.failures:4} failures: {text}")


def show_projects(content: bytes, model: bytes) -> None:
    """Pooled numbers flatter: the same per project."""
    data = replay.dataset(window.read(content, sha256=artifact.digest(content)))
    _, test = train.split(data, holdout=0.25)
    file = artifact.load(model, sha256=artifact.digest(model))
    boosters = [lgb.Booster(model_str=text) for text in file.models]
    probability = file.calibration.probability(fit.logit(boosters, test.x))
    places = defaultdict(list)
    for index, project in enumerate(test.projects):
        places[project].append(index)
    for project, chosen in sorted(places.items()):
        at = np.array(chosen)
        found = evaluate.metrics(
            failed=test.failed[at],
            probability=probability[at],
            flagged=probability[at] >= file.thresholds.failure,
            red_before=test.red_before[at],
        )
        show(project, found)
