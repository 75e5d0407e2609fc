"""A model's report: what its training said of it, how its predictions turned out, and its last trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header
from starlette.responses import HTMLResponse, Response

from gateway import (
    cause_page,
    cause_report,
    duration_page,
    duration_report,
    model_page,
    page_frame,
    report_frame,
)
from gateway.api import PROBLEMS, integrations_of, pointer_of
from gateway.calls import Call, Name, may
from gateway.cause_schemas import CauseReportBody
from gateway.duration_schemas import DurationReportBody
from gateway.model_schemas import (
    BinBody,
    DayBody,
    HeldOutBody,
    JudgedBody,
    LiveBody,
    ModelReportBody,
    PooledBody,
    TrainingBody,
)
from ml import contract, curves, drift
from ml.figures import Curves
from pipewright.store import causes, durations, journal, verdicts
from pipewright.store.records import ModelPointer, Training
from pipewright.store.verdicts import Verdicts

R = TypeVar("R", ModelReportBody, DurationReportBody, CauseReportBody)

rest = APIRouter(prefix="/v1/namespaces/{namespace}", responses=PROBLEMS)

DAYS = 30
"""How far back predictions are judged."""
TRAININGS = 10


@rest.get(
    "/models/{name}/report",
    tags=["models"],
    summary="Show how good the model is",
    response_model=ModelReportBody | DurationReportBody | CauseReportBody,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "JSON, or a page."}
    },
)
async def show_report(
    name: Name,
    call: Annotated[Call, Depends(may("get", "models", "report"))],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> ModelReportBody | DurationReportBody | CauseReportBody | Response:
    """As JSON, or as a page with plots for whoever accepts `text/html`; the page loads nothing."""
    pointer = pointer_of(call, name)
    since = max(pointer.promoted_at, call.parts.clock.now() - timedelta(days=DAYS))
    if pointer.task == "Duration":
        return _shown(await _of_durations(call, pointer, since=since), duration_page.render, accept)
    if pointer.task == "FailureCause":
        return _shown(await _of_causes(call, pointer, since=since), cause_page.render, accept)
    return _shown(await _of_failures(call, pointer, since=since), model_page.render, accept)


def _shown(report: R, page: Callable[[R], str], accept: str) -> R | Response:
    return HTMLResponse(page(report), headers=page_frame.HEADERS) if "text/html" in accept else report


async def _of_failures(call: Call, pointer: ModelPointer, *, since: datetime) -> ModelReportBody:
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        trainings = await journal.trainings(conn, pointer.model_uid, limit=TRAININGS)
        report = report_of(trainings, pointer.artifact_sha256)
        bounds = [each.least for each in report.curves.deciles] if report and report.curves else []
        counts = await verdicts.count(conn, pointer, since=since, bounds=bounds)
    return ModelReportBody(
        **report_frame.head(pointer),
        held_out=_held_out(report) if report else None,
        live=live(counts, since=since, expected=report.curves if report else None),
        control=judged_of([each for each in counts if each.control]) if pointer.control_share else None,
        trainings=tuple(_training(each) for each in trainings),
    )


async def _of_durations(call: Call, pointer: ModelPointer, *, since: datetime) -> DurationReportBody:
    version = pointer.artifact_sha256[:12]
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        trainings = await journal.trainings(conn, pointer.model_uid, limit=TRAININGS)
        lasted = await durations.lasted(conn, version=version, since=since)
        slow = await durations.slow(conn, version=version, since=since, limit=duration_report.SLOW)
    return duration_report.body(
        pointer,
        report=report_of(trainings, pointer.artifact_sha256),
        lasted=lasted,
        slow=slow,
        integrations=integrations_of(call),
        trainings=[(each, _report(each)) for each in trainings],
        since=since,
    )


async def _of_causes(call: Call, pointer: ModelPointer, *, since: datetime) -> CauseReportBody:
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        trainings = await journal.trainings(conn, pointer.model_uid, limit=TRAININGS)
        reruns = await causes.reruns(conn, version=pointer.artifact_sha256[:12], since=since)
    return cause_report.body(
        pointer,
        report=report_of(trainings, pointer.artifact_sha256),
        reruns=reruns,
        trainings=[(each, _report(each)) for each in trainings],
        since=since,
    )


def report_of(trainings: Iterable[Training], sha256: str) -> contract.Report | None:
    """The report of the training that made a file; None where it is not on record, or cannot be read."""
    for training in trainings:
        if training.report and training.report.get("artifactSha256") == sha256:
            return _report(training)
    return None


def live(counts: Sequence[Verdicts], *, since: datetime, expected: Curves | None) -> LiveBody:
    """What the counts say: the formulas of `ml.metrics` and `ml.drift`, over counts instead of rows."""
    judged = [each for each in counts if each.failed is not None]
    return LiveBody(
        **judged_of(counts).model_dump(),
        since=since,
        population_stability_index=_stability(counts, expected),
        calibration=_bins(judged),
        days=_days(judged),
    )


def judged_of(counts: Sequence[Verdicts]) -> JudgedBody:
    """What the counts say in numbers."""
    judged = [each for each in counts if each.failed is not None]
    rows, failures = _rows(judged), _rows(each for each in judged if each.failed)
    flagged = _rows(each for each in judged if each.band == "high")
    found = _rows(each for each in judged if each.failed and each.band == "high")
    apart = sum(each.rows * abs(each.predicted - each.observed) for each in _bins(judged))
    return JudgedBody(
        predictions=_rows(counts),
        judged=rows,
        failures=failures,
        flagged=flagged,
        accuracy=_share(rows - failures - flagged + 2 * found, rows),
        false_positive_rate=_share(flagged - found, rows - failures),
        recall=_share(found, failures),
        precision=_share(found, flagged),
        calibration_error=apart / rows if rows else None,
        coverage=_share(_rows(each for each in judged if each.band != "unsure"), rows),
    )


def _stability(counts: Sequence[Verdicts], expected: Curves | None) -> float | None:
    if expected is None or not expected.deciles:
        return None
    found: Counter[int] = Counter()
    for each in counts:
        found[max(each.decile, 1)] += each.rows
    return drift.since(expected.deciles, [found[at] for at in range(1, len(expected.deciles) + 1)])


def _bins(judged: Sequence[Verdicts]) -> tuple[BinBody, ...]:
    made = []
    for at in range(curves.BINS):
        here = [each for each in judged if each.bin == at]
        if rows := _rows(here):
            total = sum(each.total for each in here)
            failed = _rows(each for each in here if each.failed)
            made.append(BinBody(predicted=total / rows, observed=failed / rows, rows=rows))
    return tuple(made)


def _days(judged: Sequence[Verdicts]) -> tuple[DayBody, ...]:
    return tuple(
        DayBody(
            day=day,
            rows=_rows(here),
            failures=_rows(each for each in here if each.failed),
            flagged=_rows(each for each in here if each.band == "high"),
            found=_rows(each for each in here if each.failed and each.band == "high"),
        )
        for day in sorted({each.day for each in judged})
        if (here := [each for each in judged if each.day == day])
    )


def _held_out(report: contract.Report) -> HeldOutBody | None:
    if report.metrics is None:
        return None
    found = report_frame.held_out(report, report) | {"curves": report.curves}
    pooled = pooled_of(report.pooled) if report.pooled else None
    return HeldOutBody.model_validate(found | {"pooled": pooled})


def pooled_of(found: contract.Pooled) -> PooledBody:
    """What a pooled version was made of."""
    return PooledBody(tenants=found.tenants, runs=found.rows, own_runs=found.own_rows)


def _training(training: Training) -> TrainingBody:
    report = _report(training)
    found = report_frame.training(training, report, "accuracy", "false_positive_rate", "recall")
    return TrainingBody.model_validate(found | {"search": report.search if report else None})


def _report(training: Training) -> contract.Report | None:
    if training.report is None:
        return None
    try:
        return contract.decode(contract.Report, training.report)
    except contract.ContractError:
        return None  # of another version of this code


def _rows(counts: Iterable[Verdicts]) -> int:
    return sum(each.rows for each in counts)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
