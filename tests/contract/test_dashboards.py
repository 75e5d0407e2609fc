"""The Grafana dashboards: each query runs as the tenant's own login, and shows what the history says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dev import dashboards
from pipewright.records import JobRecord, RunRecord
from pipewright.store import history, rollups
from tests.contract.conftest import Place, _place

NOW = datetime.now(UTC)
INTEGRATION = "00000000-0000-0000-0000-000000000001"
QUERIES = list(dashboards.queries())
BY_TITLE = {query.title: query for query in QUERIES}


def test_each_dashboard_names_no_database_of_its_own_and_has_each_panel_once() -> None:
    assert dashboards.documents()
    for name, document in dashboards.documents().items():
        ids = [panel["id"] for panel in document["panels"]]
        assert len(ids) == len(set(ids)), name
        for panel in document["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}", (name, panel["title"])
            assert panel["description"], (name, panel["title"])
        spots = {
            (x, y)
            for panel in document["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        }
        places = sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in document["panels"])
        assert len(spots) == places, f"{name}: panels lie upon each other"
        assert max(x for x, _ in spots) < 24


async def _ask(place: Place, query: dashboards.Query, project: str = "acme/shop") -> list[Any]:
    sql = query.filled(since=NOW - timedelta(days=30), until=NOW, projects=[project, "o'hara/tools"])
    async with place.connect("readonly") as reader:
        await reader.execute("SET timezone = 'Pacific/Auckland'")  # whatever the reader's own is
        return await (await reader.execute(sql)).fetchall()  # type: ignore[arg-type]  # from our own file


@pytest.mark.parametrize("query", QUERIES, ids=[query.title for query in QUERIES])
async def test_a_query_runs_on_an_empty_history(place: Place, query: dashboards.Query) -> None:
    assert len(await _ask(place, query, project="nobody/nothing")) <= 1


@pytest.fixture(scope="module")
async def filled(tenant_server) -> Any:
    """A tenant with one failure that became green, and a job that disagreed with itself."""
    async with _place(tenant_server) as made, made.connect("ingest") as conn:
        await _fill(conn)
        yield made


async def _fill(conn: psycopg.AsyncConnection) -> None:
    runs, jobs = [], []
    for number, (outcome, hours) in enumerate([("success", 9), ("failure", 8), ("success", 6), ("error", 1)]):
        end = NOW - timedelta(hours=hours)
        runs.append(
            RunRecord(
                project="acme/shop", pipeline="ci", id=str(number), attempt=1, branch="main", sha="a",
                actor="octocat", phase="finished", outcome=outcome, started_at=end - timedelta(minutes=30),
                finished_at=end,
            )  # type: ignore[arg-type]
        )  # fmt: skip
        jobs.append(
            JobRecord(
                project="acme/shop", run=str(number), attempt=1, id=str(number), name="unit",
                phase="finished", outcome=outcome, labels=("linux",),
                started_at=end - timedelta(minutes=20), finished_at=end,
            )  # type: ignore[arg-type]
        )  # fmt: skip
    async with conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=["octocat"])
        await history.upsert_runs(conn, runs, integration=INTEGRATION, seen_at=NOW, actors=known)
        await history.upsert_jobs(conn, jobs, integration=INTEGRATION, seen_at=NOW)
        await conn.execute(
            "INSERT INTO pipewright.runner_prices VALUES (%s, 'linux', '2020-01-01', 'EUR', 0.1)",
            [INTEGRATION],
        )
    while await rollups.refresh(conn):
        pass


SHOWN = {
    "Runs": [(4,)],
    "Failure rate": [(0.5,)],
    "MTTR": [(7200.0,)],
    "Time to green": [(7200.0,)],
    "Changes on their way": [(0,)],
    "$project": [("acme/shop",)],
}


@pytest.mark.parametrize(("title", "rows"), SHOWN.items(), ids=SHOWN)
async def test_a_panel_shows_what_happened(filled: Place, title: str, rows: list[Any]) -> None:
    assert await _ask(filled, BY_TITLE[title]) == rows


@pytest.mark.parametrize("query", QUERIES, ids=[query.title for query in QUERIES])
async def test_a_panel_is_not_empty_where_there_is_history(filled: Place, query: dashboards.Query) -> None:
    assert await _ask(filled, query) != []


async def test_the_tables_name_the_job_the_branch_and_the_runner(filled: Place) -> None:
    [flaky] = await _ask(filled, BY_TITLE["Flaky jobs"])
    assert flaky[:4] == ("acme/shop", "ci", "unit", 1)
    [failing] = await _ask(filled, BY_TITLE["Jobs that fail most"])
    assert (failing[2], failing[3], failing[4]) == ("unit", 2, 4)
    [red] = await _ask(filled, BY_TITLE["Red now"])
    assert (red[2], red[4]) == ("main", 1)
    [cost] = await _ask(filled, BY_TITLE["Cost by runner"])
    assert (cost[0], cost[1], cost[2], float(cost[4])) == ("linux", "EUR", 4, 8.0)


def test_a_macro_that_is_not_known_here_is_refused() -> None:
    unknown = dashboards.Query(dashboard="x", title="y", sql="SELECT $__interval")
    with pytest.raises(ValueError, match="not known"):
        unknown.filled(since=NOW, until=NOW, projects=[])
