"""A simulated history, and a model that was really trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dev import simulator
from ml import artifact, contract, train, window

RUNS = 5000
"""Attempts of runs in the history: what the model is trained on."""


def records(runs: int = RUNS) -> list[dict[str, Any]]:
    """A history that ends half an hour ago: runs, each followed by its jobs."""
    return list(simulator.history(until=datetime.now(UTC) - timedelta(minutes=30), runs=runs))


def window_of(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Their runs as the data window that training reads."""
    return window.write(_row(record) for record in records if record["type"] == "run")


def model_of(content: bytes) -> bytes:
    """The file of a model that is trained on a data window."""
    job = contract.TrainingJob(
        submission_id="bench",
        window_uri="file:///nowhere/window.parquet",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report.json",
    )
    return train.train(content, job).content


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    same = ("project", "pipeline", "attempt", "number", "branch", "actor", "sha", "outcome")
    return {
        **{name: run[name] for name in same},
        "integration": "github",
        "run_id": run["id"],
        "event": run["trigger"],
        "queued_at": datetime.fromisoformat(run["queuedAt"]),
        "started_at": datetime.fromisoformat(run["startedAt"]),
        "finished_at": datetime.fromisoformat(run["finishedAt"]),
        "failed_jobs": [],
        "jobs": 0,
    }
