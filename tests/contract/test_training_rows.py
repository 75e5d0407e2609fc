"""The ports of training that are rows: one suite each, held by the memory and by PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dev import parts
from ml import contract
from ml import window as parquet
from pipewright import errors
from pipewright.backends.memory_training import MemoryPointers, MemoryTrainings
from pipewright.backends.runner.models import PostgresPointers, PostgresTrainings, PostgresWindows
from pipewright.backends.runner.platform import PlatformDatabase
from pipewright.ports import Secret
from pipewright.ports.training import Pointers, Trainings
from pipewright.records import RunRecord
from pipewright.runner_facts import TenantRef
from pipewright.store import connect, durations, history, pools, said, trouble
from pipewright.store.records import Forecast, Scored
from pipewright.training_facts import DataWindow, LentWindows, Pointer, PoolWindow, RunCount, Training

INTEGRATION = str(uuid.uuid4())
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TENANT = TenantRef(id="abcdefghijkm", uid="tenant-uid", name="acme", state="Active", server="main")
REPORT = contract.Report(submission_id="s", outcome="GatesFailed", reason="accuracy is 0.8", rows=5)


@dataclass(frozen=True)
class OneDatabase:
    """In the place of `TenantDatabases`: every tenant's database is this one."""

    info: str

    @asynccontextmanager
    async def connection(self, tenant: TenantRef) -> AsyncIterator[psycopg.AsyncConnection]:
        conn = await connect.connect(self.info, where="the test's database")
        try:
            with trouble.translated("the test's database"):
                yield conn
        finally:
            await conn.close()


@pytest.fixture(scope="module")
async def database(postgres_server: Any, platform_logins: Mapping[str, str]) -> OneDatabase:
    """An empty tenant's database."""
    name = f"training_{uuid.uuid4().hex[:8]}"
    admin = await connect.connect(connect.conninfo(postgres_server.admin_dsn), where="administrator")
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE pipewright_template')  # type: ignore[call-overload]
    await admin.close()
    return OneDatabase(connect.conninfo(postgres_server.admin_dsn, dbname=name))


# --- trainings ------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
def trainings(request: pytest.FixtureRequest) -> Trainings:
    if request.param == "memory":
        return MemoryTrainings()
    return PostgresTrainings(request.getfixturevalue("database"))


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


def training(number: int = 1) -> Training:
    folder = f"file:///a/t/models/m/trainings/{number}-0123456789"
    return Training(
        submission_id=uuid.uuid4().hex,
        attempt=number,
        recipe="0123456789",
        phase="Intended",
        window=DataWindow(uri="file:///a/window", sha256="a" * 64, rows=600),
        artifact_uri=f"{folder}/model",
        report_uri=f"{folder}/report.json",
        started_at=NOW,
    )


async def test_an_intent_is_read_back_as_it_was_written(trainings: Trainings, uid: str) -> None:
    assert await trainings.latest(TENANT, model_uid=uid) == ()
    wanted = training()
    assert await trainings.begin(TENANT, wanted, model_uid=uid)
    assert await trainings.latest(TENANT, model_uid=uid) == (wanted,)


async def test_what_a_pool_lent_is_read_back_and_says_nothing_of_whose_it_is(
    trainings: Trainings, uid: str
) -> None:
    folder = "file:///a/pools/m"
    windows = tuple(
        PoolWindow(key=key, uri=f"{folder}/1-{key}.parquet", sha256=key * 64, rows=900) for key in "ab"
    )
    wanted = replace(training(), lent=LentWindows(folder=folder, windows=windows))
    assert await trainings.begin(TENANT, wanted, model_uid=uid)
    assert await trainings.latest(TENANT, model_uid=uid) == (wanted,)


async def test_predictions_are_counted_by_where_they_lie(trainings: Trainings, database: OneDatabase) -> None:
    version, before = uuid.uuid4().hex[:12], NOW - timedelta(days=1)
    made = [(NOW, 0.05), (NOW, 0.1), (NOW, 0.29), (NOW, 0.3), (NOW, 1.0), (before, 0.5)]
    if isinstance(trainings, MemoryTrainings):
        trainings.predictions = [(version, at, probability) for at, probability in made]
        trainings.predictions.append(("another", NOW, 0.5))
    else:
        async with database.connection(TENANT) as conn:
            for number, (at, probability) in enumerate(made):
                for kind, of in (("run", version), ("retry", version)) if number else (("run", version),):
                    await said.PREDICTIONS.record(conn, [scored(number, kind, of, at, probability)])
            await said.PREDICTIONS.record(conn, [scored(99, "run", "another", NOW, 0.5)])
    bounds = [0.1, 0.3, 0.9, 0.95]
    assert list(await trainings.spread(TENANT, version=version, since=NOW, bounds=bounds)) == [3, 1, 0, 1]
    assert list(await trainings.spread(TENANT, version=version, since=before, bounds=bounds)) == [3, 2, 0, 1]


async def test_durations_are_counted_by_where_they_lie(trainings: Trainings, database: OneDatabase) -> None:
    version, before = uuid.uuid4().hex[:12], NOW - timedelta(days=1)
    took = [(NOW, 60, 0), (NOW, 61, 1), (NOW, 91, 2), (NOW, 101, 3), (before, 500, 3), (NOW, 2 * 86400, None)]
    if isinstance(trainings, MemoryTrainings):
        trainings.durations = [(version, at, place) for at, _, place in took if place is not None]
    else:
        async with database.connection(TENANT) as conn:
            for number, (at, seconds, _) in enumerate(took):
                await ended(conn, f"{version}-{number}", seconds)
                await said.FORECASTS.record(conn, [lasts(f"{version}-{number}", version, at)])
            await said.FORECASTS.record(conn, [lasts(f"{version}-under-way", version, NOW)])
            # kept as it was made first
            await said.FORECASTS.record(conn, [replace(lasts(f"{version}-0", version, NOW), p50=1.0)])
    assert list(await trainings.covered(TENANT, version=version, since=NOW)) == [1, 1, 1, 1]
    assert list(await trainings.covered(TENANT, version=version, since=before)) == [1, 1, 1, 2]
    assert list(await trainings.covered(TENANT, version="another", since=before)) == [0, 0, 0, 0]


async def test_forecasts_of_durations_are_told_by_day_and_the_slow_ones_by_name(
    database: OneDatabase,
) -> None:
    version = uuid.uuid4().hex[:12]
    async with database.connection(TENANT) as conn:
        for number, seconds in enumerate((40, 85, 130)):
            await ended(conn, f"{version}-{number}", seconds)
            await said.FORECASTS.record(conn, [lasts(f"{version}-{number}", version, NOW)])
        (day,) = await durations.lasted(conn, version=version, since=NOW)
        assert (day.forecasts, day.judged, day.within_p50, day.within_p90, day.within_p95) == (3, 3, 1, 2, 2)
        assert day.off == pytest.approx(20 + 25 + 70)
        loss = sum(
            max(quantile * (took - said), (quantile - 1) * (took - said))
            for took in (40, 85, 130)
            for quantile, said in ((0.5, 60), (0.9, 90), (0.95, 100))
        )
        assert day.pinball == pytest.approx(loss)
        (slow,) = await durations.slow(conn, version=version, since=NOW, limit=5)
        assert (slow.provider_id, slow.seconds, slow.project) == (f"{version}-2", 130.0, "acme/shop")


async def ended(conn: psycopg.AsyncConnection, run: str, seconds: float) -> None:
    record = RunRecord(
        project="acme/shop", pipeline="ci", id=run, attempt=1, phase="finished", outcome="success",
        started_at=NOW, finished_at=NOW + timedelta(seconds=seconds),
    )  # fmt: skip
    row = history.run_row(record, integration=INTEGRATION, seen_at=NOW, actors={})
    await history.merge_rows(conn, runs=[row], jobs=[])


def lasts(run: str, version: str, at: datetime) -> Forecast:
    return Forecast(
        integration=INTEGRATION, provider_id=run, attempt=1, p50=60.0, p90=90.0, p95=100.0, reasons=("one",),
        model_version=version, made_at=at,
    )  # fmt: skip


def scored(number: int, kind: Any, version: str, at: datetime, probability: float) -> Scored:
    return Scored(
        integration=INTEGRATION, provider_id=f"{version}-{number}", attempt=1, kind=kind,
        probability=probability, band="low", reasons=(), model_version=version, scored_at=at,
    )  # fmt: skip


async def test_an_attempt_begins_once(trainings: Trainings, uid: str) -> None:
    wanted = training()
    assert await trainings.begin(TENANT, wanted, model_uid=uid)
    assert not await trainings.begin(TENANT, training(), model_uid=uid)
    assert await trainings.latest(TENANT, model_uid=uid) == (wanted,)


async def test_the_newest_attempt_comes_first_and_other_models_are_other_models(
    trainings: Trainings, uid: str
) -> None:
    for number in (1, 2, 3):
        assert await trainings.begin(TENANT, training(number), model_uid=uid)
    assert await trainings.begin(TENANT, training(), model_uid=str(uuid.uuid4()))
    found = await trainings.latest(TENANT, model_uid=uid)
    assert [it.attempt for it in found] == [3, 2, 1]


async def test_an_outcome_stands(trainings: Trainings, uid: str) -> None:
    wanted = training()
    name, end = wanted.submission_id, NOW + timedelta(minutes=1)
    await trainings.begin(TENANT, wanted, model_uid=uid)
    await trainings.mark(TENANT, submission_id=name, phase="Submitted")
    report = replace(REPORT, submission_id=name)
    await trainings.finish(
        TENANT, submission_id=name, outcome="GatesFailed", reason="GatesFailed: low", report=report, at=end
    )
    await trainings.finish(
        TENANT, submission_id=name, outcome="Passed", reason="late", report=None, at=end + timedelta(1)
    )
    await trainings.mark(TENANT, submission_id=name, phase="Stopping")
    (found,) = await trainings.latest(TENANT, model_uid=uid)
    assert found == replace(
        wanted,
        phase="Finished",
        outcome="GatesFailed",
        reason="GatesFailed: low",
        report=report,
        finished_at=end,
    )


# --- pointers -------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
async def pointers(
    request: pytest.FixtureRequest, postgres_server: parts.Database, platform_logins: Mapping[str, str]
) -> AsyncIterator[Pointers]:
    if request.param == "memory":
        yield MemoryPointers()
        return
    info = connect.conninfo(postgres_server.admin_dsn, dbname="pipewright")
    conn = await connect.connect(info, where="administrator")
    await conn.execute(
        "INSERT INTO pipewright.registry (id, uid, name, server) VALUES (%s, %s, 'acme', 'main')"
        " ON CONFLICT DO NOTHING",
        [TENANT.id, TENANT.uid],
    )
    connections = pools.Pools()
    dsn = Secret(platform_logins["pipewright_runner"])
    yield PostgresPointers(PlatformDatabase(connections, dsn=dsn))
    await connections.close()
    await conn.execute("DELETE FROM pipewright.model_pointers WHERE tenant_id = %s", [TENANT.id])
    await conn.execute("DELETE FROM pipewright.registry WHERE id = %s", [TENANT.id])
    await conn.close()


def pointer(uid: str, *, version: str = "b", is_default: bool = False) -> Pointer:
    return Pointer(
        model_uid=uid,
        tenant_id=TENANT.id,
        namespace="acme",
        model=f"model-{uid[:4]}",
        task="RunFailure",
        is_default=is_default,
        version=version * 12,
        artifact_uri=f"file:///a/{version}/model",
        artifact_sha256=version * 64,
        metrics={"accuracy": 0.9},
        promoted_at=NOW,
        control_share=0.02,
    )


async def test_a_promotion_compares_before_it_swaps(pointers: Pointers, uid: str) -> None:
    assert await pointers.find(model_uid=uid) is None
    assert not await pointers.promote(pointer(uid), expected=1)
    assert await pointers.promote(pointer(uid), expected=None)
    assert not await pointers.promote(pointer(uid, version="c"), expected=None)
    assert await pointers.find(model_uid=uid) == replace(pointer(uid), generation=1)
    assert await pointers.promote(pointer(uid, version="c"), expected=1)
    assert await pointers.find(model_uid=uid) == replace(pointer(uid, version="c"), generation=2)


async def test_a_namespace_has_one_default_for_a_task(pointers: Pointers, uid: str) -> None:
    other = str(uuid.uuid4())
    where = {"tenant_id": TENANT.id, "namespace": "acme", "task": "RunFailure"}
    assert await pointers.default_of(**where) is None
    await pointers.promote(pointer(uid, is_default=True), expected=None)
    found = await pointers.default_of(**where)
    assert found is not None
    assert found.model_uid == uid
    assert await pointers.default_of(**{**where, "namespace": "other"}) is None
    with pytest.raises(errors.Conflict):
        await pointers.promote(pointer(other, is_default=True), expected=None)
    await pointers.promote(pointer(other), expected=None)
    with pytest.raises(errors.Conflict):
        await pointers.change_serving(model_uid=other, is_default=True, control_share=0.05)
    await pointers.change_serving(model_uid=uid, is_default=False, control_share=0.02)
    await pointers.change_serving(model_uid=other, is_default=True, control_share=0.05)
    await pointers.change_serving(model_uid=str(uuid.uuid4()), is_default=True, control_share=0)
    for model, wanted in ((uid, (False, 0.02)), (other, (True, 0.05))):
        now = await pointers.find(model_uid=model)
        assert now is not None
        assert (now.is_default, now.control_share) == wanted


async def test_a_withdrawn_pointer_is_gone(pointers: Pointers, uid: str) -> None:
    await pointers.promote(pointer(uid), expected=None)
    await pointers.withdraw(model_uid=uid)
    await pointers.withdraw(model_uid=uid)
    assert await pointers.find(model_uid=uid) is None


# --- windows --------------------------------------------------------------------------------------------


def run(number: int, **other: Any) -> RunRecord:
    values: dict[str, Any] = {
        "project": "acme/shop",
        "pipeline": "ci",
        "id": str(number),
        "attempt": 1,
        "phase": "finished",
        "outcome": "failure" if number % 3 == 0 else "success",
        "started_at": NOW - timedelta(hours=number),
        "finished_at": NOW - timedelta(hours=number) + timedelta(minutes=5),
        "actor": "ada",
    }
    return RunRecord(**{**values, **other})


async def test_a_window_holds_the_tenants_attempts_as_training_reads_them(database: OneDatabase) -> None:
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    cancelled = run(3, outcome="cancel")
    async with database.connection(TENANT) as conn, conn.transaction():
        actors = await history.surrogates(conn, provider="github", logins={"ada"})
        for integration, runs in ((one, [run(1), run(2), cancelled, run(90)]), (other, [run(4)])):
            await history.upsert_runs(conn, runs, integration=integration, seen_at=NOW, actors=actors)
    windows = PostgresWindows(database)  # type: ignore[arg-type]
    span = {"since": NOW - timedelta(hours=48), "until": NOW}
    both = await windows.count(TENANT, **span, integrations=[one, other], new_since=None)
    assert both == RunCount(rows=3, heard=3, ended=3)
    ends = sorted(end for number in (1, 2) if (end := run(number).finished_at) is not None)
    second = timedelta(seconds=1)
    for since, heard, ended in (
        (ends[0] - second, 2, 2), (ends[0], 2, 1), (ends[1], 2, 0), (NOW - second, 2, 0), (NOW, 0, 0),
    ):  # fmt: skip
        counted = await windows.count(TENANT, **span, integrations=[one], new_since=since)
        assert counted == RunCount(rows=2, heard=heard, ended=ended), since
    found = await windows.export(TENANT, **span, integrations=[one])
    assert found == await windows.export(TENANT, **span, integrations=[one])
    table = parquet.read(found.content, sha256=found.sha256)
    assert table.column("run_id").to_pylist() == ["3", "2", "1"]
    assert table.column("outcome").to_pylist() == ["cancel", "success", "success"]
    assert found.rows == 3
    assert "ada" not in set(table.column("actor").to_pylist())
    assert (await windows.export(TENANT, **span, integrations=None)).rows >= 4
