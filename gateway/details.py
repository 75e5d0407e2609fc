"""The routes over steps, tests, commits and deployments of an Integration, by pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from gateway import cursors
from gateway.api import PROBLEMS, Cursor, Limit
from gateway.calls import Call, Name, may, route_of
from gateway.detail_schemas import CommitBody, DeploymentBody, StepBody, TestBody
from gateway.reports import (
    Branch,
    OfOutcome,
    OfPhase,
    Pipeline,
    Project,
    RunId,
    Sha,
    Since,
    Until,
    bounded_text,
    moments,
)
from gateway.schemas import Page
from pipewright.records import DetailType, Phase
from pipewright.store import detail_pages
from pipewright.store.detail_pages import Wanted

rest = APIRouter(
    prefix="/v1/namespaces/{namespace}/integrations/{name}", responses=PROBLEMS, tags=["history"]
)

Item = TypeVar("Item", bound=BaseModel)
JobId = Annotated[str, bounded_text("job", "Only of this job of the provider.")]
Called = Annotated[str, bounded_text("name", "Only of this name.")]
Suite = Annotated[str, bounded_text("suite", "Only of this suite.")]
Environment = Annotated[str, bounded_text("environment", "Only to this environment.")]
Service = Annotated[str, bounded_text("service", "Only of this service.")]
Change = Annotated[str, bounded_text("change", "Only of this pull or merge request.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a list."""

    since: datetime | None
    until: datetime | None
    limit: int
    cursor: str | None


def _part(since: Since = None, until: Until = None, limit: Limit = 50, cursor: Cursor = None) -> Part:
    return Part(since=since, until=until, limit=limit, cursor=cursor)


OfPart = Annotated[Part, Depends(_part)]


@rest.get("/steps", summary="List steps of jobs")
async def list_steps(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "steps"))],
    part: OfPart,
    project: Project = "",
    step: Called = "",
    outcome: OfOutcome = "",
    run: RunId = "",
    job: JobId = "",
) -> Page[StepBody]:
    """Steps that have finished, the newest finish first."""
    texts = {"project": project, "name": step, "outcome": outcome, "job_id": job}
    return await _page(call, name, "step", StepBody, part, texts=texts, run=run)


@rest.get("/tests", summary="List executions of tests")
async def list_tests(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "tests"))],
    part: OfPart,
    project: Project = "",
    pipeline: Pipeline = "",
    suite: Suite = "",
    test: Called = "",
    branch: Branch = "",
    sha: Sha = "",
    outcome: OfOutcome = "",
    run: RunId = "",
) -> Page[TestBody]:
    """Tests that have finished, the newest finish first."""
    texts = {
        "project": project, "pipeline": pipeline, "suite": suite, "name": test, "branch": branch, "sha": sha,
        "outcome": outcome,
    }  # fmt: skip
    return await _page(call, name, "test", TestBody, part, texts=texts, run=run)


@rest.get("/commits", summary="List commits")
async def list_commits(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "commits"))],
    part: OfPart,
    project: Project = "",
    branch: Branch = "",
    sha: Sha = "",
    change: Change = "",
) -> Page[CommitBody]:
    """Commits as pushes and merged changes told them, newest first, once for each branch."""
    texts = {"project": project, "branch": branch, "sha": sha, "change": change}
    return await _page(call, name, "commit", CommitBody, part, texts=texts)


@rest.get("/deployments", summary="List deployments")
async def list_deployments(
    name: Name,
    call: Annotated[Call, Depends(may("get", "integrations", "deployments"))],
    part: OfPart,
    phase: OfPhase = "finished",
    project: Project = "",
    environment: Environment = "",
    service: Service = "",
    sha: Sha = "",
    outcome: OfOutcome = "",
    run: RunId = "",
) -> Page[DeploymentBody]:
    """Deployments, the newest finish first."""
    texts = {
        "project": project, "environment": environment, "service": service, "sha": sha, "outcome": outcome,
    }  # fmt: skip
    return await _page(call, name, "deployment", DeploymentBody, part, texts=texts, run=run, phase=phase)


async def _page(
    call: Call,
    name: str,
    kind: DetailType,
    body: type[Item],
    part: Part,
    *,
    texts: Mapping[str, str],
    run: str = "",
    phase: Phase = "finished",
) -> Page[Item]:
    since, until = moments(call, part.since, part.until)
    wanted = Wanted(
        integration=route_of(call, name).integration_uid, since=since, until=until, texts=texts, phase=phase,
        run=run, after=cursors.decode_place(part.cursor) if part.cursor else None, limit=part.limit + 1,
    )  # fmt: skip
    async with call.parts.databases.transaction(call.tenant.id) as conn:
        rows = await detail_pages.page(conn, kind, wanted)
    items = tuple(body.model_validate(row.values) for row in rows[: part.limit])
    more = len(rows) > part.limit
    return Page(items=items, next=cursors.encode_place(rows[part.limit - 1].place) if more else None)
