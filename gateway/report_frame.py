"""What the reports of models of all tasks have in common. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from gateway.schemas import Answer, ModelRef
from ml import contract
from ml.figures import Causes, Durations
from pipewright.store.records import ModelPointer, Training


class ReportFrame(Answer):
    """The version that the report is about."""

    model: ModelRef
    task: str
    promoted_at: datetime


class TrainingFrame(Answer):
    """A training, but for its figures."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None = Field(description="Passed, GatesFailed or Failed; null while it runs.")
    reason: str
    version: str | None = Field(description="What it made, if it made something.")


def head(pointer: ModelPointer) -> dict[str, Any]:
    """The fields of `ReportFrame`."""
    return {
        "model": ModelRef(name=pointer.model, version=pointer.version),
        "task": pointer.task,
        "promoted_at": pointer.promoted_at,
    }


def held_out(report: contract.Report, found: contract.Report | Durations | Causes) -> dict[str, Any]:
    """The fields of what was measured; `found`: the report's part that has the figures."""
    return {
        "metrics": found.metrics,
        "baselines": found.baselines,
        "rows": report.rows,
        "data_from": report.data_from,
        "data_to": report.data_to,
    }


def training(made: Training, report: contract.Report | None, *figures: str) -> dict[str, Any]:
    """The fields of `TrainingFrame`, and these figures."""
    found = report.figures if report else None
    return {
        "attempt": made.attempt,
        "started_at": made.started_at,
        "finished_at": made.finished_at,
        "outcome": made.outcome,
        "reason": made.reason,
        "version": report.artifact_sha256[:12] if report and report.artifact_sha256 else None,
    } | {name: getattr(found, name, None) for name in figures}
