"""History on the real server: what deliveries tell becomes the same rows, whatever their order."""

import asyncio
import itertools
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from pipewright.records import JobRecord, RunRecord
from pipewright.store import arrivals, history, imports, lines, said
from pipewright.store.records import Delivery, Run, Scored

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return AT + timedelta(minutes=count)


QUEUED = RunRecord(
    project="acme/shop",
    pipeline="ci",
    id="100",
    attempt=1,
    number=7,
    trigger="push",
    branch="main",
    sha="abc",
    actor="octocat",
    phase="queued",
    queued_at=AT,
)
STARTED = replace(QUEUED, phase="started", started_at=minutes(1))
FAILED = replace(
    STARTED, phase="finished", outcome="failure", finished_at=minutes(5), url="https://ci.example/100"
)
CORRECTED = replace(FAILED, outcome="cancel", finished_at=minutes(6))

JOB = JobRecord(
    project="acme/shop",
    run="100",
    attempt=1,
    id="9001",
    name="unit",
    phase="started",
    runner="r-1",
    labels=("linux", "x64"),
    started_at=minutes(2),
)
JOB_FAILED = replace(JOB, phase="finished", outcome="failure", finished_at=minutes(4))
JOB_PASSED = replace(JOB_FAILED, id="9002", name="lint", outcome="success")


async def say(
    conn: psycopg.AsyncConnection, integration: str, *records: RunRecord | JobRecord, seen: float = 0
) -> None:
    """One delivery with these records."""
    runs = [record for record in records if isinstance(record, RunRecord)]
    jobs = [record for record in records if isinstance(record, JobRecord)]
    async with conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=[run.actor for run in runs])
        if runs:
            await history.upsert_runs(
                conn, runs, integration=integration, seen_at=minutes(seen), actors=known
            )
        if jobs:
            await history.upsert_jobs(conn, jobs, integration=integration, seen_at=minutes(seen))


async def stored(conn: psycopg.AsyncConnection, integration: str, *, attempt: int = 1) -> Run | None:
    found = await history.find_runs(conn, integration=integration, attempts=[("100", attempt)])
    return found.get(("100", attempt))


# --- deliveries and raw events --------------------------------------------------------------------------


def delivery(integration: str, *, name: str = "d-1", at: datetime = AT) -> Delivery:
    return Delivery(integration=integration, delivery_id=name, event="workflow_run", received_at=at)


async def test_a_delivery_is_new_once(ingest: psycopg.AsyncConnection, integration: str) -> None:
    assert await history.record_delivery(ingest, delivery(integration)) is True
    assert await history.record_delivery(ingest, delivery(integration)) is False
    assert await history.record_delivery(ingest, delivery(str(uuid4()))) is True


async def test_a_delivery_that_was_ignored_is_new_when_it_comes_again(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    ignored = replace(delivery(integration), outcome="ignored", reason="another project")
    assert await history.record_delivery(ingest, ignored) is True
    stored = delivery(integration, at=minutes(1))
    assert await history.record_delivery(ingest, stored) is True
    assert await history.deliveries(ingest, integration=integration, limit=9) == [stored]
    assert await history.record_delivery(ingest, ignored) is False


async def test_a_delivery_is_listed_with_what_became_of_it(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    stored = delivery(integration)
    ignored = replace(
        delivery(integration, name="d-2", at=minutes(1)), outcome="ignored", reason="a ping" + "!" * 494
    )
    for each in (stored, ignored):
        assert await history.record_delivery(ingest, each)
    assert await history.deliveries(ingest, integration=integration, limit=9) == [ignored, stored]
    after = history.After(at=ignored.received_at, key=ignored.delivery_id)
    assert await history.deliveries(ingest, integration=integration, limit=9, after=after) == [stored]


async def test_of_two_deliveries_at_once_one_is_new(place, integration: str) -> None:
    async with place.connect("ingest") as one, place.connect("ingest") as two:
        async with one.transaction():
            assert await history.record_delivery(one, delivery(integration))
            waiting = asyncio.create_task(history.record_delivery(two, delivery(integration)))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
        assert await waiting is False


async def test_a_rolled_back_delivery_is_new_again(ingest: psycopg.AsyncConnection, integration: str) -> None:
    async with ingest.transaction():
        assert await history.record_delivery(ingest, delivery(integration))
        raise psycopg.Rollback
    assert await history.record_delivery(ingest, delivery(integration))


async def arrive(conn: psycopg.AsyncConnection, told: Delivery, body: bytes) -> None:
    await arrivals.ensure_partition(conn, arrivals.day_of(told))
    await arrivals.take(conn, [arrivals.Arrival(delivery=told, body=body, headers={"x": "1"})])


@pytest.mark.parametrize(
    ("at", "partition"),
    [
        (datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), "pipewright.events_20260301"),
        (datetime(2026, 3, 2, tzinfo=UTC), "pipewright.events_20260302"),
        (datetime.fromisoformat("2026-03-02T01:00:00+02:00"), "pipewright.events_20260301"),
    ],
)
async def test_a_raw_event_lies_in_the_partition_of_its_day_in_utc(
    ingest: psycopg.AsyncConnection, integration: str, at: datetime, partition: str
) -> None:
    async with ingest.transaction():
        await arrive(ingest, delivery(integration, at=at), b"\x01secret")
    cursor = await ingest.execute(
        "SELECT tableoid::regclass::text, body, headers FROM pipewright.events WHERE integration = %s",
        [integration],
    )
    assert await cursor.fetchall() == [(partition, b"\x01secret", {"x": "1"})]


async def test_two_replicas_may_need_the_same_new_partition_at_once(place, integration: str) -> None:
    day = datetime(2031, 7, 1, tzinfo=UTC)

    async def store(number: int) -> None:
        async with place.connect("ingest") as conn, conn.transaction():
            await arrive(conn, delivery(integration, name=f"d-{number}", at=day), b"")

    await asyncio.gather(*(store(number) for number in range(6)))
    async with place.connect("ingest") as conn:
        cursor = await conn.execute(
            "SELECT count(*) FROM pipewright.events WHERE integration = %s", [integration]
        )
        assert await cursor.fetchone() == (6,)


# --- people ---------------------------------------------------------------------------------------------


async def test_a_person_has_one_surrogate_at_each_provider(ingest: psycopg.AsyncConnection) -> None:
    first = await history.surrogates(ingest, provider="github", logins=["tim", "bob", ""])
    again = await history.surrogates(ingest, provider="github", logins=["bob", "tim", "tim"])
    other = await history.surrogates(ingest, provider="gitlab", logins=["tim"])
    assert first == again
    assert set(first) == {"tim", "bob"}
    assert other["tim"] != first["tim"]
    assert all(len(surrogate) == 16 and "tim" not in surrogate for surrogate in first.values())


async def test_nobody_has_no_surrogate(ingest: psycopg.AsyncConnection) -> None:
    assert await history.surrogates(ingest, provider="github", logins=["", ""]) == {}


# --- runs -----------------------------------------------------------------------------------------------


async def test_a_run_is_stored_under_its_actors_surrogate(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    await say(ingest, integration, FAILED)
    people = await history.surrogates(ingest, provider="github", logins=["octocat"])
    assert await stored(ingest, integration) == Run(
        integration=integration,
        provider_id="100",
        attempt=1,
        project="acme/shop",
        pipeline="ci",
        number=7,
        trigger="push",
        branch="main",
        sha="abc",
        actor=people["octocat"],
        phase="finished",
        outcome="failure",
        queued_at=AT,
        started_at=minutes(1),
        finished_at=minutes(5),
        url="https://ci.example/100",
        failed_jobs=(),
        jobs=0,
        seen_at=AT,
    )


@pytest.mark.parametrize("order", list(itertools.permutations([QUEUED, STARTED, FAILED, CORRECTED])))
async def test_the_order_of_deliveries_does_not_matter(
    ingest: psycopg.AsyncConnection, integration: str, order: tuple[RunRecord, ...]
) -> None:
    for record in order:
        await say(ingest, integration, record)
    found = await stored(ingest, integration)
    assert found
    assert (found.phase, found.outcome, found.finished_at) == ("finished", "cancel", minutes(6))
    assert (found.queued_at, found.started_at, found.branch) == (AT, minutes(1), "main")


async def test_the_same_run_several_times_in_one_batch_is_one_row(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    await say(ingest, integration, FAILED, QUEUED, CORRECTED, STARTED, QUEUED)
    found = await stored(ingest, integration)
    assert found
    assert (found.phase, found.outcome) == ("finished", "cancel")


async def test_a_finished_run_never_goes_back(ingest: psycopg.AsyncConnection, integration: str) -> None:
    await say(ingest, integration, FAILED, seen=0)
    await say(ingest, integration, STARTED, seen=10)
    found = await stored(ingest, integration)
    assert found
    assert (found.phase, found.outcome, found.seen_at) == ("finished", "failure", AT)


async def test_within_a_moment_the_later_receipt_wins(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    await say(ingest, integration, replace(FAILED, outcome="success"), seen=2)
    await say(ingest, integration, FAILED, seen=1)
    found = await stored(ingest, integration)
    assert found
    assert found.outcome == "success"


async def test_what_the_winner_does_not_say_the_loser_says(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    await say(ingest, integration, replace(FAILED, branch="", actor="", number=0, queued_at=None))
    await say(ingest, integration, QUEUED)
    found = await stored(ingest, integration)
    assert found
    assert (found.branch, found.number, found.queued_at, found.outcome) == ("main", 7, AT, "failure")
    assert found.actor != ""


async def test_attempts_are_rows_of_their_own(ingest: psycopg.AsyncConnection, integration: str) -> None:
    await say(ingest, integration, FAILED, replace(FAILED, attempt=2, outcome="success"))
    first, second = await stored(ingest, integration), await stored(ingest, integration, attempt=2)
    assert first
    assert second
    assert (first.outcome, second.outcome) == ("failure", "success")


async def test_an_unknown_run_is_absent(ingest: psycopg.AsyncConnection, integration: str) -> None:
    assert await stored(ingest, integration) is None


# --- jobs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations([FAILED, JOB, JOB_FAILED, JOB_PASSED])))
async def test_a_runs_failed_jobs_follow_from_its_jobs_in_any_order(
    ingest: psycopg.AsyncConnection, integration: str, order: tuple[RunRecord | JobRecord, ...]
) -> None:
    for record in order:
        await say(ingest, integration, record)
    found = await stored(ingest, integration)
    assert found
    assert (found.failed_jobs, found.jobs) == (("unit",), 2)


async def test_jobs_of_one_run_delivered_at_once_are_all_counted(place, integration: str) -> None:
    jobs = [replace(JOB_FAILED, id=str(number), name=f"job-{number:02}") for number in range(12)]
    records = [FAILED, *jobs]
    random.Random(7).shuffle(records)

    async def deliver(record: RunRecord | JobRecord) -> None:
        async with place.connect("ingest") as conn:
            await say(conn, integration, record)

    for _ in range(3):
        await asyncio.gather(*(deliver(record) for record in records))
    async with place.connect("ingest") as conn:
        found = await stored(conn, integration)
    assert found
    assert found.jobs == 12
    assert found.failed_jobs == tuple(f"job-{number:02}" for number in range(12))


async def test_crossing_batches_do_not_deadlock(place, integration: str) -> None:
    records = [replace(FAILED, id=str(number)) for number in range(60)]

    async def deliver(seed: int) -> None:
        mixed = records[:]
        random.Random(seed).shuffle(mixed)
        async with place.connect("ingest") as conn:
            await say(conn, integration, *mixed)

    await asyncio.gather(*(deliver(seed) for seed in range(8)))


# --- imports --------------------------------------------------------------------------------------------


async def test_an_import_is_the_same_as_deliveries(ingest: psycopg.AsyncConnection) -> None:
    delivered, imported = str(uuid4()), str(uuid4())
    runs = [QUEUED, FAILED, STARTED, CORRECTED, replace(FAILED, attempt=2)]
    jobs = [JOB, JOB_FAILED, JOB_PASSED]
    await say(ingest, delivered, *runs, *jobs)
    people = await history.surrogates(ingest, provider="github", logins=["octocat"])
    async with ingest.transaction():
        counts = (
            await imports.import_runs(ingest, runs, integration=imported, seen_at=AT, actors=people),
            await imports.import_jobs(ingest, jobs, integration=imported, seen_at=AT),
        )
    assert counts == (5, 3)
    for attempt in (1, 2):
        one = await stored(ingest, delivered, attempt=attempt)
        two = await stored(ingest, imported, attempt=attempt)
        assert one
        assert two
        assert replace(one, integration="") == replace(two, integration="")


async def test_an_import_of_nothing_is_nothing(ingest: psycopg.AsyncConnection, integration: str) -> None:
    async with ingest.transaction():
        assert await imports.import_jobs(ingest, [], integration=integration, seen_at=AT) == 0
        assert await imports.import_runs(ingest, [], integration=integration, seen_at=AT, actors={}) == 0


async def test_an_older_import_does_not_undo_what_webhooks_told(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    await say(ingest, integration, CORRECTED)
    async with ingest.transaction():
        await imports.import_runs(
            ingest, [QUEUED, FAILED], integration=integration, seen_at=minutes(99), actors={}
        )
    found = await stored(ingest, integration)
    assert found
    assert found.outcome == "cancel"


# --- lines ----------------------------------------------------------------------------------------------


async def test_a_line_is_empty_until_it_is_written(ingest: psycopg.AsyncConnection, integration: str) -> None:
    line = ("branch", integration)
    assert await lines.read_lines(ingest, [line]) == {line: []}
    async with ingest.transaction():
        assert await lines.read_lines(ingest, [line], lock=True) == {line: []}
        await lines.write_lines(ingest, {line: '[["100", 1, "abc", 1.0, 2.0, 1]]'})
    assert await lines.read_lines(ingest, [line]) == {line: [["100", 1, "abc", 1.0, 2.0, 1]]}


async def test_a_line_with_a_very_long_name_is_a_line(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    line, sibling = ("branch", integration + "ü" * 4000), ("branch", integration + "ü" * 4001)
    await lines.write_lines(ingest, {line: "[[1]]", sibling: "[[2]]"})
    assert await lines.read_lines(ingest, [line, sibling]) == {line: [[1]], sibling: [[2]]}


async def test_names_and_outcomes_with_quotes_and_backslashes_come_back_as_they_were(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    odd = {
        ("branch", f'["{integration}","a\\"b\\\\c\'d{{,}}"]'): [['"\\', 1, "%s", None]],
        ("actor", integration): [],
    }
    await lines.write_lines(ingest, {line: json.dumps(outcomes) for line, outcomes in odd.items()})
    assert await lines.read_lines(ingest, odd) == odd


async def test_two_replicas_lose_no_outcome_of_a_line(place, integration: str) -> None:
    async def add(number: int) -> None:
        wanted = [("branch", integration), ("pipeline", integration)]
        random.Random(number).shuffle(wanted)
        async with place.connect("ingest") as conn, conn.transaction():
            found = await lines.read_lines(conn, wanted, lock=True)
            await lines.write_lines(
                conn, {line: json.dumps([*outcomes, [number]]) for line, outcomes in found.items()}
            )

    await asyncio.gather(*(add(number) for number in range(10)))
    async with place.connect("ingest") as conn:
        found = await lines.read_lines(conn, [("branch", integration)])
    assert sorted(found["branch", integration]) == [[number] for number in range(10)]


# --- predictions ----------------------------------------------------------------------------------------


async def test_the_first_prediction_of_a_kind_stands(
    ingest: psycopg.AsyncConnection, integration: str
) -> None:
    scored = Scored(
        integration=integration,
        provider_id="100",
        attempt=1,
        kind="run",
        probability=0.25,
        band="low",
        reasons=("the branch is green",),
        model_version="v1",
        scored_at=AT,
    )
    retry = replace(scored, kind="retry", probability=0.9, band="high")
    assert await said.PREDICTIONS.record(ingest, [scored])
    assert await said.PREDICTIONS.record(ingest, [replace(scored, probability=0.75), retry]) == 1
    found = await said.PREDICTIONS.find(ingest, [scored.key])
    assert {each.kind: each for each in found} == {"run": scored, "retry": retry}


async def test_figures(ingest: psycopg.AsyncConnection, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        replace(FAILED, id=str(number), sha=f"{number:040x}", branch=f"b-{number % 50}")
        for number in range(5000)
    ]
    figures = []
    for name, batch in (("one at a time", 1), ("in batches of 500", 500)):
        integration, began = str(uuid4()), time.perf_counter()
        sample = runs[: 200 if batch == 1 else 5000]
        for at in range(0, len(sample), batch):
            await say(ingest, integration, *sample[at : at + batch])
        figures.append(f"{name}: {len(sample) / (time.perf_counter() - began):.0f} runs/s")
    integration, began = str(uuid4()), time.perf_counter()
    async with ingest.transaction():
        await imports.import_runs(ingest, runs, integration=integration, seen_at=AT, actors={})
    figures.append(f"imported: {len(runs) / (time.perf_counter() - began):.0f} runs/s")
    with capsys.disabled():
        print("\n  upserts of runs,", "; ".join(figures))
    cursor = await ingest.execute(
        "SELECT count(*) FROM pipewright.runs WHERE integration = %s", [integration]
    )
    assert await cursor.fetchone() == (5000,)
