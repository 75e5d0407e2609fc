"""A simulated data window, trained once for the tests of this folder."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from dev import simulator
from ml import artifact, contract, predict, train, window

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def window_rows(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The data window's rows of records in history form."""
    kept = list(records)
    jobs: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for record in kept:
        if record["type"] == "job":
            jobs[record["run"], record["attempt"]].append(record)
    return [
        {
            "integration": "github",
            "project": run["project"],
            "pipeline": run["pipeline"],
            "run_id": run["id"],
            "attempt": run["attempt"],
            "number": run["number"],
            "event": run["trigger"],
            "branch": run["branch"],
            "actor": run["actor"],
            "sha": run["sha"],
            "outcome": run["outcome"],
            "queued_at": datetime.fromisoformat(run["queuedAt"]),
            "started_at": datetime.fromisoformat(run["startedAt"]),
            "finished_at": datetime.fromisoformat(run["finishedAt"]),
            "failed_jobs": [j["name"] for j in jobs[run["id"], run["attempt"]] if j["outcome"] == "failure"],
            "jobs": len(jobs[run["id"], run["attempt"]]),
        }
        for run in kept
        if run["type"] == "run"
    ]


@pytest.fixture(scope="session")
def simulated_window() -> bytes:
    return window.write(window_rows(simulator.history(until=UNTIL, seed=7)))


@pytest.fixture(scope="session")
def job(simulated_window: bytes) -> contract.TrainingJob:
    return contract.TrainingJob(
        submission_id="training-1",
        window_uri="file:///nowhere/window.parquet",
        window_sha256=artifact.digest(simulated_window),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report.json",
        gates=contract.Gates(max_false_positive_rate=0.06, min_accuracy=0.85, min_gain_over_baseline=0.005),
    )


@pytest.fixture(scope="session")
def trained(simulated_window: bytes, job: contract.TrainingJob) -> train.Trained:
    return train.train(simulated_window, job)


@pytest.fixture(scope="session")
def predictor(trained: train.Trained) -> predict.Predictor:
    return predict.Predictor.load(trained.content, sha256=artifact.digest(trained.content))
