"""The data window: a tenant's runs as training reads them."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from ml import window as training
from pipewright.records import JobRecord, RunRecord
from pipewright.store import history, imports, window

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

FINISHED = RunRecord(
    project="acme/shop",
    pipeline="ci",
    id="100",
    attempt=1,
    number=7,
    trigger="push",
    branch="main",
    sha="abc",
    actor="octocat",
    phase="finished",
    outcome="failure",
    queued_at=AT,
    started_at=AT + timedelta(minutes=1),
    finished_at=AT + timedelta(minutes=5),
)
JOB = JobRecord(
    project="acme/shop",
    run="100",
    attempt=1,
    id="9001",
    name="unit",
    phase="finished",
    outcome="failure",
    started_at=AT,
    finished_at=AT,
)


async def store(conn: psycopg.AsyncConnection, integration: str, *runs: RunRecord) -> dict[str, str]:
    async with conn.transaction():
        people = await history.surrogates(conn, provider="github", logins=[run.actor for run in runs])
        await history.upsert_runs(conn, runs, integration=integration, seen_at=AT, actors=people)
        await history.upsert_jobs(conn, [replace(JOB, id=integration)], integration=integration, seen_at=AT)
    return people


def test_the_columns_are_those_of_the_trainings_contract() -> None:
    assert training.schema() == window.SCHEMA


async def test_a_row_has_the_surrogate_and_never_the_login(
    ingest: psycopg.AsyncConnection, runner: psycopg.AsyncConnection, integration: str
) -> None:
    people = await store(ingest, integration, FINISHED)
    table = await window.table(runner, integrations=[integration])
    assert table.schema == window.SCHEMA
    assert table.to_pylist() == [
        {
            "integration": integration,
            "project": "acme/shop",
            "pipeline": "ci",
            "run_id": "100",
            "attempt": 1,
            "number": 7,
            "event": "push",
            "branch": "main",
            "actor": people["octocat"],
            "sha": "abc",
            "outcome": "failure",
            "queued_at": AT,
            "started_at": AT + timedelta(minutes=1),
            "finished_at": AT + timedelta(minutes=5),
            "failed_jobs": ["unit"],
            "jobs": 1,
        }
    ]


async def test_rows_come_by_start_and_a_run_that_never_started_not_at_all(
    ingest: psycopg.AsyncConnection, runner: psycopg.AsyncConnection, integration: str
) -> None:
    late = replace(FINISHED, id="300", started_at=AT + timedelta(minutes=3))
    early = replace(FINISHED, id="200", started_at=AT)
    waiting = replace(FINISHED, id="400", phase="queued", outcome="", started_at=None, finished_at=None)
    running = replace(FINISHED, id="500", phase="started", outcome="", finished_at=None)
    await store(ingest, integration, late, waiting, early, running, FINISHED)
    found = (await window.table(runner, integrations=[integration])).to_pylist()
    assert [row["run_id"] for row in found] == ["200", "100", "500", "300"]
    assert [row["finished_at"] for row in found if row["run_id"] == "500"] == [None]


async def test_the_limits_take_the_first_moment_and_leave_the_last(
    ingest: psycopg.AsyncConnection, runner: psycopg.AsyncConnection, integration: str
) -> None:
    runs = [replace(FINISHED, id=str(hour), started_at=AT + timedelta(hours=hour)) for hour in range(4)]
    await store(ingest, integration, *runs)
    limits = {"since": AT + timedelta(hours=1), "until": AT + timedelta(hours=3)}
    found = await window.table(runner, **limits, integrations=[integration])
    assert found.column("run_id").to_pylist() == ["1", "2"]
    assert await window.count(runner, **limits, integrations=[integration]) == (2, 2, 2)


async def test_only_outcomes_that_teach_are_counted(
    ingest: psycopg.AsyncConnection, runner: psycopg.AsyncConnection, integration: str
) -> None:
    outcomes = ["success", "failure", "cancel", "error", "skip"]
    await store(
        ingest, integration, *(replace(FINISHED, id=outcome, outcome=outcome) for outcome in outcomes)
    )
    assert await window.count(runner, integrations=[integration]) == (2, 2, 2)
    assert (await window.table(runner, integrations=[integration])).num_rows == 5


async def test_other_integrations_are_not_in_it(
    ingest: psycopg.AsyncConnection, runner: psycopg.AsyncConnection, integration: str
) -> None:
    await store(ingest, integration, FINISHED)
    assert (await window.table(runner, integrations=[str(uuid4())])).num_rows == 0
    assert (await window.table(runner, integrations=[])).num_rows == 0
    assert (await window.table(runner)).num_rows >= 1


async def test_a_large_window_streams_and_training_accepts_it(
    ingest: psycopg.AsyncConnection,
    runner: psycopg.AsyncConnection,
    integration: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = (
        replace(FINISHED, id=str(number), started_at=AT + timedelta(seconds=number))
        for number in range(25_000)
    )
    async with ingest.transaction():
        await imports.import_runs(ingest, runs, integration=integration, seen_at=AT, actors={})
    began = time.perf_counter()
    table = await window.table(runner, integrations=[integration])
    with capsys.disabled():
        print(f"\n  data window: {table.num_rows / (time.perf_counter() - began):.0f} rows/s")
    assert table.num_rows == 25_000
    assert training.write_table(table)
