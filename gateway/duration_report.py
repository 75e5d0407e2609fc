"""The report of a model of durations: what its training said of it, how its forecasts turned out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.duration_schemas import (
    DurationDayBody,
    DurationHeldOutBody,
    DurationLiveBody,
    DurationMetricsBody,
    DurationReportBody,
    DurationTrainingBody,
    SlowRunBody,
)
from gateway.schemas import ModelRef
from ml import contract, drift
from ml.figures import Durations
from pipewright.store.durations import Lasted, Slow
from pipewright.store.records import ModelPointer, Training

SLOW = 20
"""Slow runs that are shown."""


def body(
    pointer: ModelPointer,
    *,
    report: contract.Report | None,
    lasted: Sequence[Lasted],
    slow: Sequence[Slow],
    integrations: Mapping[str, str],
    trainings: Sequence[tuple[Training, contract.Report | None]],
    since: datetime,
) -> DurationReportBody:
    """The report. `integrations`: UID → name; of what belongs to none of them nothing is shown."""
    durations = report.durations if report else None
    return DurationReportBody(
        model=ModelRef(name=pointer.model, version=pointer.version),
        task=pointer.task,
        promoted_at=pointer.promoted_at,
        held_out=_held_out(report, durations) if report and durations else None,
        live=live(lasted, since=since, expected=durations.classes if durations else ()),
        slow=tuple(
            SlowRunBody(
                integration=integrations[each.integration], run=each.provider_id, attempt=each.attempt,
                project=each.project, pipeline=each.pipeline, branch=each.branch, seconds=each.seconds,
                p50=each.p50, p95=each.p95, finished_at=each.finished_at, url=each.url,
            )
            for each in slow
            if each.integration in integrations
        ),
        trainings=tuple(_training(each, told) for each, told in trainings),
    )  # fmt: skip


def live(lasted: Sequence[Lasted], *, since: datetime, expected: Sequence[int]) -> DurationLiveBody:
    """What the days say together: the formulas of `ml.duration_train`, over sums instead of rows."""
    judged = sum(each.judged for each in lasted)
    within = {name: sum(getattr(each, f"within_{name}") for each in lasted) for name in ("p50", "p90", "p95")}
    half, most, nearly = within.values()
    return DurationLiveBody(
        since=since,
        forecasts=sum(each.forecasts for each in lasted),
        judged=judged,
        pinball_loss=_mean(sum(each.pinball for each in lasted), 3 * judged),
        median_error=_mean(sum(each.off for each in lasted), judged),
        covered={name: count / judged for name, count in within.items()} if judged else {},
        population_stability_index=drift.stability(
            expected, [half, most - half, nearly - most, judged - nearly]
        )
        if expected
        else None,
        days=tuple(
            DurationDayBody(
                day=each.day,
                rows=each.judged,
                within=each.within_p90,
                median_error=_mean(each.off, each.judged),
            )
            for each in lasted
        ),
    )


def _held_out(report: contract.Report, durations: Durations) -> DurationHeldOutBody:
    return DurationHeldOutBody(
        metrics=DurationMetricsBody.model_validate(durations.metrics),
        baselines={
            name: DurationMetricsBody.model_validate(each) for name, each in durations.baselines.items()
        },
        days=tuple(DurationDayBody.model_validate(each) for each in durations.days),
        rows=report.rows,
        data_from=_moment(report.data_from),
        data_to=_moment(report.data_to),
    )


def _training(training: Training, report: contract.Report | None) -> DurationTrainingBody:
    found = report.durations.metrics if report and report.durations else None
    return DurationTrainingBody(
        attempt=training.attempt,
        started_at=training.started_at,
        finished_at=training.finished_at,
        outcome=training.outcome,
        reason=training.reason,
        version=report.artifact_sha256[:12] if report and report.artifact_sha256 else None,
        pinball_loss=found.pinball_loss if found else None,
        coverage_error=found.coverage_error if found else None,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
