"""The routes over an Integration's history: runs and jobs by pages, and reports over days.

What is asked is bounded before a database is: a range of time, a number of rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from gateway import advice, cursors
from gateway.api import PROBLEMS, Cursor, Limit
from gateway.calls import Call, Name, may, route_of
from gateway.problems import Problem
from gateway.report_schemas import (
    AnomalyBody,
    CostBody,
    FailingJobBody,
    FlakyJobBody,
    FlakyTestBody,
    JobBody,
    PriceBody,
    PricesBody,
    ProductivityBody,
    RecommendationBody,
    RepairBody,
    RetryBody,
    RunBody,
    TimeToGreenBody,
    TrendBody,
)
from gateway.schemas import Page
from ml import watch
from ml.recommend import Prices
from pipewright.records import TEXT_LIMITS, Outcome, Phase
from pipewright.store import pages, reports
from pipewright.store.records import Run
from pipewright.store.reports import Span

rest = APIRouter(prefix="/v1/namespaces/{namespace}/integrations/{name}", responses=PROBLEMS)

DAYS = 30
"""The range where the caller names none."""
MOST_DAYS_OF_ROWS = 92
MOST_DAYS = 400
MOST_DAYS_BY_HOUR = 31
MOST_DAYS_OF_ANOMALIES = 31
MOST_LINES = 5_000
"""Jobs by name of which re-runs are counted."""
LEAD = 14
"""Days before those that are asked for, which say what is usual."""
MOST_JOBS = 20_000
"""Jobs that are looked at for anomalies: some two seconds of one core."""

Item = TypeVar("Item", bound=BaseModel)
Row = TypeVar("Row")


def bounded_text(field: str, description: str) -> Any:
    """The query parameter for a text of a record."""
    # PostgreSQL's texts hold anything but NUL
    return Query(max_length=TEXT_LIMITS[field], pattern=r"^[^\x00]*$", description=description)


Project = Annotated[str, bounded_text("project", "Only of this project.")]
Pipeline = Annotated[str, bounded_text("pipeline", "Only of this pipeline.")]
Branch = Annotated[str, bounded_text("branch", "Only of this branch.")]
Sha = Annotated[str, bounded_text("sha", "Only of this commit, by its full name.")]
RunId = Annotated[str, bounded_text("run", "Only of this run of the provider; no range of time then.")]
JobName = Annotated[str, bounded_text("name", "Only jobs of this name.")]
OfPhase = Annotated[Phase, Query(description="What has not finished is apart: there is little of it.")]
OfOutcome = Annotated[Outcome, Query(description="Only with this outcome.")]
Since = Annotated[
    datetime | None,
    Query(description="From this moment on, by the finish, or the last news of what has not finished."),
]
Until = Annotated[datetime | None, Query(description="Before this moment; now if it is left out.")]
SinceDay = Annotated[date | None, Query(description="The first day (UTC); 30 days are shown without it.")]
UntilDay = Annotated[date | None, Query(description="The last day (UTC), included; today without it.")]
MachineMinute = Annotated[
    float, Query(ge=0, le=1000, alias="machineMinute", description="What a minute of a runner costs.")
]
PersonMinute = Annotated[
    float,
    Query(ge=0, le=1000, alias="personMinute", description="What a minute of a person costs, in the same."),
]
Top = Annotated[int, Query(ge=1, le=200, description="How many items, at most: those that count most.")]


# --- runs and jobs ----------------------------------------------------------------------------------------


@rest.get("/runs", tags=["history"], summary="List runs")
async def list_runs(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "runs"))],
    since: Since = None,
    until: Until = None,
    phase: OfPhase = "finished",
    project: Project = "",
    pipeline: Pipeline = "",
    branch: Branch = "",
    sha: Sha = "",
    outcome: OfOutcome = "",
    run: RunId = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RunBody]:
    """Attempts of runs, the newest finish first. People are surrogates."""
    begin, end = moments(call, since, until)
    wanted = pages.Wanted(
        integration=route_of(call, name).integration_uid, since=begin, until=end, phase=phase,
        project=project, pipeline=pipeline, branch=branch, sha=sha, outcome=outcome, run=run, limit=limit + 1,
        after=cursors.decode_place(cursor) if cursor else None,
    )  # fmt: skip
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        return _page(await pages.runs(conn, wanted), RunBody, limit)


@rest.get("/jobs", tags=["history"], summary="List jobs")
async def list_jobs(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "jobs"))],
    since: Since = None,
    until: Until = None,
    phase: OfPhase = "finished",
    project: Project = "",
    job: JobName = "",
    branch: Branch = "",
    sha: Sha = "",
    outcome: OfOutcome = "",
    run: RunId = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[JobBody]:
    """Jobs, the newest finish first."""
    begin, end = moments(call, since, until)
    wanted = pages.Wanted(
        integration=route_of(call, name).integration_uid, since=begin, until=end, phase=phase,
        project=project, name=job, branch=branch, sha=sha, outcome=outcome, run=run, limit=limit + 1,
        after=cursors.decode_place(cursor) if cursor else None,
    )  # fmt: skip
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        return _page(await pages.jobs(conn, wanted), JobBody, limit)


def _page(rows: Sequence[Run] | Sequence[pages.Job], body: type[Item], limit: int) -> Page[Item]:
    items = tuple(body.model_validate(row) for row in rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next=cursors.encode_place(pages.place(rows[limit - 1])) if more else None)


# --- reports ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An authorised question about some days of an Integration."""

    call: Call
    span: Span

    async def rows(
        self, ask: Callable[..., Awaitable[list[Row]]], body: type[Item], **more: Any
    ) -> Page[Item]:
        """What `ask` of the store answers, as one page."""
        async with self.call.parts.databases.transaction(self.call.tenant.id) as conn:
            found = await ask(conn, self.span, **more)
        return Page(items=tuple(body.model_validate(row) for row in found), next=None)


async def _report(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "reports"))],
    since: SinceDay = None,
    until: UntilDay = None,
    project: Project = "",
    limit: Top = 50,
) -> Report:
    first, last = _days(call, since, until, most=MOST_DAYS)
    uid = route_of(call, name).integration_uid
    return Report(
        call=call, span=Span(integration=uid, since=first, until=last, project=project, limit=limit)
    )


async def _of_pipeline(report: Annotated[Report, Depends(_report)], pipeline: Pipeline = "") -> Report:
    return replace(report, span=replace(report.span, pipeline=pipeline))


OfProject = Annotated[Report, Depends(_report)]
OfPipeline = Annotated[Report, Depends(_of_pipeline)]


@rest.get("/reports/failure-trend", tags=["reports"], summary="See how often runs fail")
async def failure_trend(report: OfPipeline, by: reports.Bucket = "day") -> Page[TrendBody]:
    """By day, or by hour over at most 31 days, oldest first; `limit` does not count."""
    if by == "hour":
        _bounded(report.span.since, report.span.until, most=MOST_DAYS_BY_HOUR)
    return await report.rows(reports.failure_trend, TrendBody, by=by)


@rest.get("/reports/failing-jobs", tags=["reports"], summary="See which jobs fail most")
async def failing_jobs(report: OfPipeline) -> Page[FailingJobBody]:
    """Those that failed most often, first."""
    return await report.rows(reports.failing_jobs, FailingJobBody)


@rest.get("/reports/productivity", tags=["reports"], summary="See what projects get through")
async def productivity(report: OfProject) -> Page[ProductivityBody]:
    """Of whole projects, never of a person. Those with the most runs first."""
    return await report.rows(reports.productivity, ProductivityBody)


@rest.get("/reports/mttr", tags=["reports"], summary="See how long branches stay red")
async def mttr(report: OfPipeline, branch: Branch = "") -> Page[RepairBody]:
    """Of what became green in these days; what is still red is in the view `history.red_spells`."""
    return await replace(report, span=replace(report.span, branch=branch)).rows(reports.repairs, RepairBody)


@rest.get("/reports/time-to-green", tags=["reports"], summary="See how long a failed commit takes to pass")
async def time_to_green(report: OfPipeline) -> Page[TimeToGreenBody]:
    """Of commits that became green in these days."""
    return await report.rows(reports.time_to_green, TimeToGreenBody)


@rest.get("/reports/flaky-jobs", tags=["reports"], summary="See which jobs disagree with themselves")
async def flaky_jobs(report: OfPipeline) -> Page[FlakyJobBody]:
    """Jobs that failed and succeeded on one commit, by the day of the last of these runs."""
    return await report.rows(reports.flaky_jobs, FlakyJobBody)


@rest.get("/reports/flaky-tests", tags=["reports"], summary="See which tests disagree with themselves")
async def flaky_tests(report: OfPipeline) -> Page[FlakyTestBody]:
    """Tests that failed in these days, and succeeded on the same commit at most a week from then."""
    return await report.rows(reports.flaky_tests, FlakyTestBody)


@rest.get("/reports/anomalies", tags=["reports"], summary="See what ran otherwise than usual")
async def anomalies(report: OfPipeline) -> Page[AnomalyBody]:
    """Jobs and runners by duration, queue time and failure rate, the newest first; at most 31 days.

    What is usual is what the two weeks before say; of very many jobs the newest 20,000 are looked at.
    """
    span = report.span
    _bounded(span.since, span.until, most=MOST_DAYS_OF_ANOMALIES)
    parts, wanted = report.call.parts, replace(span, limit=MOST_JOBS)
    async with parts.databases.transaction(report.call.tenant.id) as conn:
        jobs = await reports.finished_jobs(conn, wanted, lead=LEAD)
    since = datetime.combine(span.since, time(), UTC).timestamp()
    found = await asyncio.to_thread(_unusual, jobs, since)
    return Page(items=tuple(AnomalyBody.model_validate(each) for each in found[: span.limit]), next=None)


def _unusual(jobs: Sequence[reports.FinishedJob], since: float) -> list[watch.Anomaly]:
    return watch.find((watch.Job(**asdict(job)) for job in jobs), since=since)


@rest.get("/reports/retries", tags=["reports"], summary="See whether running a job again helps")
async def retries(report: OfPipeline) -> Page[RetryBody]:
    """How often a job that failed passed when it ran again on the commit, and how often it gave two answers.

    Rates with their 95 % intervals, few observations drawn to what is usual; what ran again most often first.
    """
    return Page(items=advice.retries(await _reruns(report))[: report.span.limit], next=None)


@rest.get("/reports/recommendations", tags=["reports"], summary="See what to mend first")
async def recommendations(
    report: OfPipeline, machine_minute: MachineMinute = 0.008, person_minute: PersonMinute = 1.0
) -> Page[RecommendationBody]:
    """Jobs to quarantine that surely give two answers on one commit, by what that saves.

    Minutes of machines and of people who wait, at the prices that are named, times the share that is certain.
    """
    prices = Prices(machine_minute=machine_minute, person_minute=person_minute)
    found = advice.recommendations(await _reruns(report), prices)
    return Page(items=found[: report.span.limit], next=None)


async def _reruns(report: Report) -> list[reports.Reruns]:
    _bounded(report.span.since, report.span.until, most=MOST_DAYS_OF_ROWS)
    async with report.call.parts.databases.transaction(report.call.tenant.id) as conn:
        return await reports.reruns(conn, replace(report.span, limit=MOST_LINES))


@rest.get("/reports/cost", tags=["reports"], summary="See what runners cost")
async def cost(report: OfPipeline, by: reports.CostBy = "project") -> Page[CostBody]:
    """Minutes of jobs by the price of their runner on that day. What has no price stands apart."""
    return await report.rows(reports.cost, CostBody, by=by)


# --- prices -----------------------------------------------------------------------------------------------


@rest.get("/prices", tags=["reports"], summary="List prices of runners")
async def list_prices(
    name: Name, call: Annotated[Call, Depends(may("get", "integrations", "prices"))]
) -> Page[PriceBody]:
    """All of the Integration, those of before included; 1,000 at most."""
    uid = route_of(call, name).integration_uid
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        found = await reports.prices(conn, uid, limit=1000)
    return Page(items=tuple(PriceBody.model_validate(row) for row in found), next=None)


@rest.put(
    "/prices", tags=["reports"], status_code=204, response_class=Response, summary="Set prices of runners"
)
async def set_prices(
    name: Name,
    body: PricesBody,
    call: Annotated[Call, Depends(may("update", "integrations", "prices"))],
) -> None:
    """Each counts from its day on until the next of the same runner; those that are not named stay."""
    uid = route_of(call, name).integration_uid
    new = [reports.Price(**each.model_dump()) for each in body.prices]
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        await reports.set_prices(conn, uid, new)


# --- ranges of time ---------------------------------------------------------------------------------------


def moments(call: Call, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The range that is asked for; a moment without an offset is UTC.

    Raises:
        Problem: 422, it is none, or longer than allowed.
    """
    _known(since, until)
    end = _utc(until) if until else call.parts.clock.now()
    begin = _utc(since) if since else end - timedelta(days=DAYS)
    if begin >= end:
        raise Problem(422, "Invalid", "since: must be before until")
    if end - begin > timedelta(days=MOST_DAYS_OF_ROWS):
        raise Problem(422, "Invalid", f"since: at most {MOST_DAYS_OF_ROWS} days before until")
    return begin, end


def _days(call: Call, since: date | None, until: date | None, *, most: int) -> tuple[date, date]:
    """The first and the last day that are asked for.

    Raises:
        Problem: as `moments` says.
    """
    _known(since, until)
    last = until or call.parts.clock.now().astimezone(UTC).date()
    first = since or last - timedelta(days=DAYS - 1)
    _bounded(first, last, most=most)
    return first, last


def _known(*moments: date | None) -> None:
    for moment in moments:
        if moment is not None and not 1970 <= moment.year < 2200:
            raise Problem(422, "Invalid", "since, until: must be between the years 1970 and 2200")


def _bounded(first: date, last: date, *, most: int) -> None:
    if first > last:
        raise Problem(422, "Invalid", "since: must not be after until")
    if (last - first).days >= most:
        raise Problem(422, "Invalid", f"since: {most} days at most are shown at once")


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
