"""Trains on real GitHub Actions histories (not part of the project; skipped where they are absent)."""

from datetime import UTC, datetime

import pytest

from ml import artifact, contract, train, window
from tests.bench.predict import histories

pytestmark = pytest.mark.skipif(
    not histories.FILE.exists(), reason="the public histories are not in ../shared/data/gha-runs"
)


def test_real_histories_are_predicted_better_than_both_baselines() -> None:
    content = window.write(
        {
            "integration": "gha",
            "project": row["project"],
            "pipeline": row["workflow"],
            "run_id": str(number),
            "attempt": 1,
            "number": number,
            "event": row["event"],
            "branch": row["branch"],
            "actor": row["actor"],
            "sha": row["commit"],
            "outcome": "failure" if row["outcome"] == "1" else "success",
            "started_at": datetime.fromisoformat(row["started_at"]).astimezone(UTC),
            "finished_at": datetime.fromisoformat(row["finished_at"]).astimezone(UTC),
        }
        for number, row in enumerate(histories.rows())
    )
    job = contract.TrainingJob(
        submission_id="gha",
        window_uri="file:///nowhere/window",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report",
        gates=contract.Gates(min_accuracy=0.85, min_gain_over_baseline=0.01, max_calibration_error=0.06),
    )
    trained = train.train(content, job)
    print(trained.metrics, trained.baselines)
    assert train.missed_gates(job.gates, trained.metrics, trained.baselines) == []
    assert trained.metrics.rows == 2257
    assert trained.metrics.false_positive_rate is not None
    assert trained.metrics.false_positive_rate <= 0.06
    assert trained.metrics.auc is not None
    assert trained.metrics.auc >= 0.84
