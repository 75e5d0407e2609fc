"""Rollups on the real server: whatever is told, in whatever order, they say what the runs and jobs say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from pipewright.backends.postgres import PostgresDatabases, Server
from pipewright.records import JobRecord, RunRecord
from pipewright.store import history, imports, roles, rollups, schema

AT = datetime(2026, 3, 1, 22, tzinfo=UTC)
"""Two hours before midnight: what follows crosses a day."""
RED = {"failure", "error"}


def after(minutes: float) -> datetime:
    return AT + timedelta(minutes=minutes)


def run(number: int, outcome: str, at: float, **more: Any) -> RunRecord:
    """A finished run that took five minutes."""
    values: dict[str, Any] = {
        "project": "acme/shop", "pipeline": "ci", "id": str(number), "attempt": 1, "branch": "main",
        "sha": f"sha-{number}", "actor": "octocat", "phase": "finished", "outcome": outcome,
        "queued_at": after(at - 6), "started_at": after(at - 5), "finished_at": after(at),
    }  # fmt: skip
    return RunRecord(**values | more)


def job(number: int, outcome: str, at: float, **more: Any) -> JobRecord:
    """A job of the run of the same number, as GitHub tells it: without the pipeline."""
    values: dict[str, Any] = {
        "project": "acme/shop", "run": str(number), "attempt": 1, "id": f"j-{number}", "name": "unit",
        "phase": "finished", "outcome": outcome, "labels": ("x64", "linux"),
        "queued_at": after(at - 4), "started_at": after(at - 3), "finished_at": after(at),
    }  # fmt: skip
    return JobRecord(**values | more)


async def say(
    conn: psycopg.AsyncConnection, integration: str, *records: RunRecord | JobRecord, seen: float = 0
) -> None:
    runs = [record for record in records if isinstance(record, RunRecord)]
    jobs = [record for record in records if isinstance(record, JobRecord)]
    async with conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=[each.actor for each in runs])
        if runs:
            await history.upsert_runs(conn, runs, integration=integration, seen_at=after(seen), actors=known)
        if jobs:
            await history.upsert_jobs(conn, jobs, integration=integration, seen_at=after(seen))


async def current(conn: psycopg.AsyncConnection, *, most: int = rollups.MOST) -> int:
    """Refresh until nothing is left; how many notes there were."""
    total = 0
    while taken := await rollups.refresh(conn, most=most):
        assert taken > 0
        total += taken
    return total


async def rows(conn: psycopg.AsyncConnection, query: LiteralString, integration: str) -> list[Any]:
    return await (await conn.execute(query, [integration])).fetchall()


SPELLS: LiteralString = (
    "SELECT branch, red_at, green_at, failures FROM history.red_spells WHERE integration = %s ORDER BY 1, 2"
)
COMMITS: LiteralString = (
    "SELECT sha, red_at, green_at, failures, successes FROM history.red_commits WHERE integration = %s"
    " ORDER BY 1"
)
FLAKY: LiteralString = (
    "SELECT pipeline, name, sha, failures, successes FROM history.flaky_commits WHERE integration = %s"
    " ORDER BY 1, 2, 3"
)
HOURS: LiteralString = (
    "SELECT hour, pipeline, finished, succeeded, failed, reruns, seconds, mean_seconds, queue_seconds"
    " FROM history.hourly_runs WHERE integration = %s ORDER BY hour, pipeline"
)
DAYS: LiteralString = (
    "SELECT day, finished, failed, failure_rate FROM history.failure_trend"
    " WHERE integration = %s ORDER BY day"
)
JOBS: LiteralString = (
    "SELECT day, pipeline, name, finished, failed FROM history.failing_jobs"
    " WHERE integration = %s ORDER BY 1, 2, 3"
)


# --- what they say --------------------------------------------------------------------------------------


async def test_hours_and_days_count_finished_runs_by_outcome(ingest, integration: str) -> None:
    told = [
        run(1, "success", 30),
        run(2, "failure", 59),
        run(2, "success", 61, attempt=2),
        run(3, "skip", 125),
    ]
    await say(ingest, integration, *told, run(4, "", 0, phase="started", finished_at=None))
    await current(ingest)
    assert await rows(ingest, HOURS, integration) == [
        (AT, "ci", 2, 1, 1, 0, 600.0, 300.0, 120.0),
        (after(60), "ci", 1, 1, 0, 1, 300.0, 300.0, 60.0),
        (after(120), "ci", 1, 0, 0, 0, 300.0, 300.0, 60.0),
    ]
    assert await rows(ingest, DAYS, integration) == [
        (date(2026, 3, 1), 3, 1, pytest.approx(1 / 3)),
        (date(2026, 3, 2), 1, 0, None),
    ]


async def test_a_correction_leaves_where_it_was_and_comes_where_it_is(ingest, integration: str) -> None:
    await say(ingest, integration, run(1, "failure", 30))
    await current(ingest)
    assert [row[:5] for row in await rows(ingest, HOURS, integration)] == [(AT, "ci", 1, 0, 1)]
    await say(ingest, integration, run(1, "success", 130, pipeline="release"), seen=200)
    await current(ingest)
    assert [row[:5] for row in await rows(ingest, HOURS, integration)] == [(after(120), "release", 1, 1, 0)]
    assert [row[0] for row in await rows(ingest, DAYS, integration)] == [date(2026, 3, 2)]
    assert await rows(ingest, SPELLS, integration) == []
    assert await rows(ingest, COMMITS, integration) == []


async def test_the_same_again_is_no_change(ingest, integration: str) -> None:
    told = [run(1, "failure", 30), job(1, "failure", 29)]
    await say(ingest, integration, *told)
    assert await current(ingest) >= 2
    await say(ingest, integration, *told)
    assert await rollups.refresh(ingest) == 0


async def test_a_red_spell_lasts_from_the_first_failure_to_the_next_success(ingest, integration: str) -> None:
    told = [
        run(1, "success", 0), run(2, "failure", 10), run(3, "error", 20), run(4, "cancel", 25),
        run(5, "success", 40), run(6, "failure", 50), run(7, "failure", 15, branch="feature"),
    ]  # fmt: skip
    await say(ingest, integration, *told)
    await current(ingest)
    assert await rows(ingest, SPELLS, integration) == [
        ("feature", after(15), None, 1),
        ("main", after(10), after(40), 2),
        ("main", after(50), None, 1),
    ]
    await say(ingest, integration, run(8, "success", 15))  # late: it splits the spell
    await current(ingest)
    assert (await rows(ingest, SPELLS, integration))[1:] == [
        ("main", after(10), after(15), 1),
        ("main", after(20), after(40), 1),
        ("main", after(50), None, 1),
    ]
    repairs = await rows(
        ingest,
        "SELECT day, branch, repairs, mean_seconds, longest_seconds FROM history.mttr WHERE integration = %s",
        integration,
    )
    assert repairs == [(date(2026, 3, 1), "main", 2, 750.0, 1200.0)]


async def test_a_commit_is_green_by_a_success_after_its_failure(ingest, integration: str) -> None:
    told = [
        run(1, "success", 0, sha="a"), run(1, "failure", 10, sha="a", attempt=2),
        run(2, "success", 30, sha="a"), run(3, "failure", 5, sha="b"),
        run(4, "success", 9, sha="c"), run(5, "failure", 9, sha=""),
    ]  # fmt: skip
    await say(ingest, integration, *told)
    await current(ingest)
    assert await rows(ingest, COMMITS, integration) == [
        ("a", after(10), after(30), 1, 2),
        ("b", after(5), None, 1, 0),
    ]
    found = await rows(
        ingest,
        "SELECT day, commits, mean_seconds FROM history.time_to_green WHERE integration = %s",
        integration,
    )
    assert found == [(date(2026, 3, 1), 1, 1200.0)]


async def test_a_job_that_disagrees_with_itself_on_one_commit_is_flaky(ingest, integration: str) -> None:
    await say(ingest, integration, job(1, "failure", 9), job(3, "failure", 9), job(4, "success", 9))
    await current(ingest)
    assert await rows(ingest, FLAKY, integration) == []
    await say(ingest, integration, run(1, "failure", 10, sha="a"), run(2, "success", 30, sha="a"))
    await say(ingest, integration, run(3, "failure", 10, sha="b"), run(4, "success", 30, sha="c"))
    await say(ingest, integration, job(2, "success", 200))
    await current(ingest)
    assert await rows(ingest, FLAKY, integration) == [("ci", "unit", "a", 1, 1)]
    summed = await rows(
        ingest, "SELECT day, name, commits FROM history.flaky_jobs WHERE integration = %s", integration
    )
    assert summed == [(date(2026, 3, 2), "unit", 1)]
    await say(ingest, integration, replace(job(2, "failure", 201)), seen=300)
    await current(ingest)
    assert await rows(ingest, FLAKY, integration) == []


async def test_jobs_get_the_pipeline_of_a_run_that_is_told_after_them(ingest, integration: str) -> None:
    await say(ingest, integration, job(1, "failure", 9), job(1, "success", 9, id="j-1b", name="lint"))
    await current(ingest)
    assert [row[1:] for row in await rows(ingest, JOBS, integration)] == [
        ("", "lint", 1, 0), ("", "unit", 1, 1),
    ]  # fmt: skip
    await say(ingest, integration, run(1, "", 0, phase="queued", started_at=None, finished_at=None))
    await current(ingest)
    assert [row[1:] for row in await rows(ingest, JOBS, integration)] == [
        ("ci", "lint", 1, 0), ("ci", "unit", 1, 1),
    ]  # fmt: skip


async def test_productivity_counts_people_and_commits_of_a_day(ingest, integration: str) -> None:
    told = [
        run(1, "success", 1), run(2, "failure", 2, actor="hubot"), run(3, "success", 3, actor="hubot"),
        run(4, "success", 4, sha="sha-3", actor=""),
    ]  # fmt: skip
    await say(ingest, integration, *told)
    await current(ingest)
    query: LiteralString = (
        "SELECT day, project, people, commits, finished, failed FROM history.team_productivity"
        " WHERE integration = %s"
    )
    assert await rows(ingest, query, integration) == [(date(2026, 3, 1), "acme/shop", 2, 3, 4, 1)]


async def test_cost_is_the_minutes_of_a_runner_by_the_price_of_the_day(ingest, integration: str) -> None:
    await say(
        ingest, integration,
        job(1, "success", 10), job(2, "success", 10, labels=("linux", "x64")), job(3, "success", 180),
        job(4, "success", 10, labels=("gpu",)),
    )  # fmt: skip
    await current(ingest)
    for since, price in ((date(2020, 1, 1), "0.5"), (date(2026, 3, 2), "0.25")):
        await ingest.execute(
            "INSERT INTO pipewright.runner_prices (integration, runner, valid_from, currency, per_minute)"
            " VALUES (%s, 'linux, x64', %s, 'EUR', %s)",
            [integration, since, price],
        )
    query: LiteralString = (
        "SELECT day, runner, jobs, minutes, currency, cost FROM history.runner_cost WHERE integration = %s"
        " ORDER BY day, runner"
    )
    found = [(*row[:3], float(row[3]), row[4], row[5] and float(row[5])) for row in
             await rows(ingest, query, integration)]  # fmt: skip
    assert found == [
        (date(2026, 3, 1), "gpu", 1, 3.0, None, None),
        (date(2026, 3, 1), "linux, x64", 2, 6.0, "EUR", 3.0),
        (date(2026, 3, 2), "linux, x64", 1, 3.0, "EUR", 0.75),
    ]


# --- whatever happens -----------------------------------------------------------------------------------


async def test_after_any_story_they_say_what_is_there(place, integration: str) -> None:
    """Runs and jobs told by chance, corrected, deleted, refreshed now and then: as a plain count has it."""
    chance = random.Random(7)
    info = schema.migrator(place.logins._server.migrator_dsn, database=roles.database(place.id))
    async with (
        place.connect("ingest") as conn,
        await psycopg.AsyncConnection.connect(info, autocommit=True) as owner,
    ):
        for step in range(120):
            number, at = chance.randrange(12), chance.choice([0, 30, 60, 90, 119, 120, 150, 181])
            outcome = chance.choice(["success", "failure", "error", "cancel"])
            place_ = {"branch": chance.choice(["main", "dev"]), "pipeline": chance.choice(["ci", "cd"])}
            told: list[RunRecord | JobRecord] = [
                run(number, outcome, at, sha=chance.choice("abc"), attempt=chance.choice([1, 2]), **place_)
            ]
            told.append(
                job(number, outcome, at, id=f"j-{chance.randrange(20)}", attempt=chance.choice([1, 2]))
            )
            await say(conn, integration, *chance.sample(told, chance.choice([1, 2])), seen=step)
            if chance.random() < 0.1:
                table = chance.choice(["runs", "jobs"])
                await owner.execute(
                    f"DELETE FROM pipewright.{table} WHERE integration = %s AND random() < 0.3", [integration]
                )
            if chance.random() < 0.4:
                await rollups.refresh(conn, most=chance.choice([1, 3, 1000]))
        await current(conn, most=2)
        assert await _rolled_up(conn, integration) == await _counted(conn, integration)


async def _rolled_up(conn: psycopg.AsyncConnection, integration: str) -> dict[str, Any]:
    hours = await rows(
        conn,
        "SELECT hour, pipeline, finished, failed + broken, reruns FROM history.hourly_runs"
        " WHERE integration = %s",
        integration,
    )
    return {
        "hours": sorted(hours),
        "days": {row[0]: row[1] for row in await rows(
            conn, "SELECT day, sum(finished) FROM history.failure_trend WHERE integration = %s GROUP BY 1",
            integration)},
        "jobs": sorted(await rows(
            conn, "SELECT day, pipeline, finished, failed + broken FROM history.failing_jobs"
            " WHERE integration = %s", integration)),
        "spells": sorted(await rows(
            conn, "SELECT pipeline, branch, red_at, green_at::text, failures FROM history.red_spells"
            " WHERE integration = %s", integration), key=str),
        "commits": sorted(await rows(
            conn, "SELECT pipeline, sha, failures, successes FROM history.red_commits WHERE integration = %s",
            integration)),
        "flaky": sorted(await rows(
            conn, "SELECT pipeline, sha, failures, successes FROM history.flaky_commits"
            " WHERE integration = %s", integration)),
    }  # fmt: skip


async def _counted(conn: psycopg.AsyncConnection, integration: str) -> dict[str, Any]:
    """The same from the rows themselves, the plain way."""
    runs = await rows(
        conn,
        "SELECT provider_id, attempt, pipeline, branch, sha, outcome, finished_at FROM pipewright.runs"
        " WHERE integration = %s AND phase = 'finished'",
        integration,
    )
    jobs = await rows(
        conn,
        "SELECT run_id, attempt, outcome, finished_at FROM pipewright.jobs"
        " WHERE integration = %s AND phase = 'finished'",
        integration,
    )
    known = {(row[0], row[1]): row for row in runs}
    hours: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    days, of_jobs = Counter[date](), defaultdict[Any, list[int]](lambda: [0, 0])
    lines, commits = defaultdict[Any, list[Any]](list), defaultdict[Any, Counter[str]](Counter)
    flaky = defaultdict[Any, Counter[str]](Counter)
    for _, attempt, pipeline, branch, sha, outcome, at in runs:
        counts = hours[at.replace(minute=0), pipeline]
        counts[0] += 1
        counts[1] += outcome in RED
        counts[2] += attempt > 1
        days[at.date()] += 1
        if outcome in RED | {"success"}:
            lines[pipeline, branch].append((at, outcome == "success"))
            commits[pipeline, sha][outcome] += 1
    for run_id, attempt, outcome, at in jobs:
        owner = known.get((run_id, attempt))
        counts = of_jobs[at.date(), owner[2] if owner else ""]
        counts[0] += 1
        counts[1] += outcome in RED
        if owner and outcome in RED | {"success"}:
            flaky[owner[2], owner[4]][outcome] += 1
    return {
        "hours": sorted((*key, *counts) for key, counts in hours.items()),
        "days": dict(days),
        "jobs": sorted((*key, *counts) for key, counts in of_jobs.items()),
        "spells": sorted(
            ((*line, *spell) for line, told in lines.items() for spell in _spells(sorted(told))), key=str
        ),
        "commits": sorted(
            (*key, _red(counts), counts["success"]) for key, counts in commits.items() if _red(counts)
        ),
        "flaky": sorted(
            (*key, _red(counts), counts["success"])
            for key, counts in flaky.items()
            if _red(counts) and counts["success"]
        ),
    }


def _red(counts: Counter[str]) -> int:
    return sum(counts[outcome] for outcome in RED)


def _spells(told: Sequence[tuple[datetime, bool]]) -> list[tuple[Any, ...]]:
    found, began, failures = [], None, 0
    for at, green in told:
        if green and began:
            found.append((began, f"{at:%Y-%m-%d %H:%M:%S}+00", failures))
            began, failures = None, 0
        elif not green:
            began, failures = began or at, failures + 1
    return [*found, (began, None, failures)] if began else found


async def test_a_refresh_that_is_not_committed_changes_nothing(place, integration: str) -> None:
    async with place.connect("ingest") as conn:
        await say(conn, integration, run(1, "failure", 30))
        async with conn.transaction(force_rollback=True):
            assert await rollups.refresh(conn) > 0
            assert len(await rows(conn, HOURS, integration)) == 1
        assert await rows(conn, HOURS, integration) == []
        await current(conn)
        assert [row[:3] for row in await rows(conn, HOURS, integration)] == [(AT, "ci", 1)]


async def test_one_session_refreshes_at_a_time_and_writers_do_not_wait(place, integration: str) -> None:
    async with place.connect("ingest") as one, place.connect("ingest") as two:
        await say(one, integration, run(1, "failure", 30))
        async with one.transaction():
            assert await rollups.refresh(one) > 0
            assert await rollups.refresh(two) == rollups.BUSY
            async with asyncio.timeout(5):
                await say(two, integration, run(2, "failure", 31))
        await current(two)
        assert [row[:3] for row in await rows(two, HOURS, integration)] == [(AT, "ci", 2)]


async def test_two_writers_of_the_same_hour_do_not_wait_for_each_other(place, integration: str) -> None:
    async with place.connect("ingest") as one, place.connect("ingest") as two:
        async with one.transaction(), asyncio.timeout(5):
            await say(one, integration, run(1, "failure", 30))
            await say(two, integration, run(2, "failure", 30))
        await current(one)
        assert [row[:3] for row in await rows(one, HOURS, integration)] == [(AT, "ci", 2)]


async def test_an_import_is_rolled_up_like_webhooks(ingest, integration: str) -> None:
    told = [run(number, "failure" if number % 3 else "success", number) for number in range(50)]
    async with ingest.transaction():
        known = await history.surrogates(ingest, provider="github", logins=["octocat"])
        await imports.import_runs(ingest, told, integration=integration, seen_at=AT, actors=known)
    await current(ingest)
    assert [row[1:3] for row in await rows(ingest, DAYS, integration)] == [(50, 33)]


async def test_what_retention_deletes_leaves_the_rollups(fresh_place, tenant_server: Server) -> None:
    integration = "00000000-0000-0000-0000-000000000001"
    async with fresh_place.connect("ingest") as conn:
        await say(conn, integration, run(1, "failure", 0), job(1, "failure", 0))
        await current(conn)
        assert len(await rows(conn, DAYS, integration)) == 1
        later = datetime.now(UTC) - timedelta(days=2)
        await conn.execute("UPDATE pipewright.runs SET seen_at = %s", [later - timedelta(days=1)])
        await conn.execute("UPDATE pipewright.jobs SET seen_at = %s", [later - timedelta(days=1)])
        await PostgresDatabases(tenant_server).expire_history(
            fresh_place.id, events_before=later, runs_before=later
        )
        assert await current(conn) > 0
        for query in (HOURS, DAYS, JOBS, SPELLS, COMMITS):
            assert await rows(conn, query, integration) == []


async def test_the_lag_shows_what_waits(fresh_place) -> None:
    async with fresh_place.connect("ingest") as conn, fresh_place.connect("readonly") as reader:
        assert await (await reader.execute("SELECT * FROM history.rollup_lag")).fetchone() == (0, None)
        await say(conn, "00000000-0000-0000-0000-000000000001", run(1, "failure", 0))
        found = await (
            await reader.execute("SELECT waiting, now() - since FROM history.rollup_lag")
        ).fetchone()
        assert found
        assert found[0] == 1
        assert timedelta(0) <= found[1] < timedelta(minutes=1)
