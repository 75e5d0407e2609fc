"""The report of a model of durations: what its training said of it, how its forecasts turned out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway import report_frame
from gateway.duration_schemas import (
    DurationDayBody,
    DurationHeldOutBody,
    DurationLiveBody,
    DurationReportBody,
    DurationTrainingBody,
    SlowRunBody,
)
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
        **report_frame.head(pointer),
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
        trainings=tuple(
            DurationTrainingBody.model_validate(
                report_frame.training(each, told, "pinball_loss", "coverage_error")
            )
            for each, told in trainings
        ),
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
    found = report_frame.held_out(report, durations) | {"days": durations.days}
    return DurationHeldOutBody.model_validate(found)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
