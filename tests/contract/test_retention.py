"""Retention on PostgreSQL: days of events and rows of history go by their age, and never what is young."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from dev import parts, throwaway
from pipewright import errors
from pipewright.backends.memory_postgres import MemoryDatabases, MemoryRegistry, MemoryServer
from pipewright.backends.postgres import Pools, PostgresDatabases, PostgresRegistry, Server
from pipewright.facts import Expired, Sweep
from pipewright.facts import Server as Offered
from pipewright.ports import Databases, Registry, Secret
from pipewright.store import history, retention, roles, schema
from tests.contract.conftest import Place

pytestmark = [
    pytest.mark.usefixtures("postgres_server"),
    pytest.mark.parametrize("postgres_server", ["own", throwaway.OLDER], indirect=True, scope="session"),
]

NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
OLD, YOUNG = NOW - 40 * DAY, NOW - 20 * DAY
BEFORE = {"events_before": NOW - 30 * DAY, "runs_before": NOW - 30 * DAY}

_ROWS: dict[str, LiteralString] = {
    "runs": "INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, phase,"
    " finished_at, seen_at) VALUES (%(id)s, %(id)s, 1, 'p', 'p', 'finished', %(at)s, %(at)s)",
    "jobs": "INSERT INTO pipewright.jobs (integration, provider_id, run_id, attempt, project, name, phase,"
    " seen_at) VALUES (%(id)s, %(id)s, 'r', 1, 'p', 'n', 'started', %(at)s)",
    "artifacts": "INSERT INTO pipewright.artifacts (integration, event, project, repository, tag, at,"
    " delivery_id, seen_at) VALUES (%(id)s, 'published', 'p', 'p', 'v1', %(at)s, 'd', %(at)s)",
    "predictions": "INSERT INTO pipewright.predictions (integration, provider_id, attempt, kind,"
    " probability, band, model_version, scored_at) VALUES (%(id)s, 'x', 1, 'run', 0.5, 'low', 'm', %(at)s)",
    "failure_causes": "INSERT INTO pipewright.failure_causes (integration, provider_id, attempt, kind,"
    " transient, model_version, made_at) VALUES (%(id)s, 'x', 1, 'code', 0.1, 'm', %(at)s)",
    "duration_forecasts": "INSERT INTO pipewright.duration_forecasts (integration, provider_id, attempt, p50,"
    " p90, p95, model_version, made_at) VALUES (%(id)s, 'x', 1, 60, 90, 95, 'm', %(at)s)",
    "deliveries": "INSERT INTO pipewright.deliveries (integration, delivery_id, received_at, event, outcome)"
    " VALUES (%(id)s, 'd', %(at)s, 'e', 'stored')",
    "decisions": "INSERT INTO pipewright.decisions (workflow_uid, integration, delivery_id, revision,"
    " namespace, workflow, fired, reason, event, decided_at)"
    " VALUES (%(id)s, %(id)s, 'd', 'r', 'n', 'w', false, '', '{}', %(at)s)",
    "outbox": "INSERT INTO pipewright.outbox (workflow_uid, integration, delivery_id, revision, namespace,"
    " run_name, manifest, created_at, due_at, dispatched_at)"
    " VALUES (%(id)s, %(id)s, 'd', 'r', 'n', 'x', '{}', now(), now(), %(at)s)",
}
_EVENT = (
    "INSERT INTO pipewright.events (integration, delivery_id, received_at, event_name, body)"
    " VALUES (%(id)s, 'd', %(at)s, 'e', '')"
)


async def put(place: Place, table: str, at: datetime) -> None:
    """A row of this age, as the gateway writes it."""
    async with place.connect("ingest") as conn:
        if table == "events":
            await conn.execute("SELECT pipewright.ensure_events_partition(%s)", [at.date()])
        statement = _EVENT if table == "events" else _ROWS[table]
        await conn.execute(statement, {"id": uuid4(), "at": at})


async def count(server: Server, place: Place, table: str) -> int:
    info = schema.migrator(server.migrator_dsn, database=roles.database(place.id))
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as conn:
        row = await (await conn.execute(f"SELECT count(*) FROM pipewright.{table}")).fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_what_is_older_goes_and_the_rest_stays(
    kind: str, fresh_place: Place, tenant_server: Server
) -> None:
    server = MemoryServer()
    databases: Databases = MemoryDatabases(server)
    if kind == "memory":
        await databases.create(fresh_place.id, uid=fresh_place.uid, connection_limit=1)
        ages = [(table, at) for table in ("events", *_ROWS) for at in (OLD, YOUNG)]
        server.history[fresh_place.id] = ages
    else:
        databases = PostgresDatabases(tenant_server)
        for table in ("events", *_ROWS):
            for at in (OLD, YOUNG):
                await put(fresh_place, table, at)
    expired = await databases.expire_history(fresh_place.id, **BEFORE)
    assert expired == Expired(counts=dict.fromkeys(("events", *_ROWS), 1), finished=True)
    again = await databases.expire_history(fresh_place.id, **BEFORE)
    assert again == Expired(counts={}, finished=True)
    if kind == "postgres":
        assert {table: await count(tenant_server, fresh_place, table) for table in ("events", *_ROWS)} == (
            dict.fromkeys(("events", *_ROWS), 1)
        )


@pytest.mark.parametrize("kind", ["memory", "postgres"])
@pytest.mark.parametrize("which", ["events_before", "runs_before"])
async def test_nothing_of_the_last_day_is_ever_deleted(
    kind: str, which: str, place: Place, tenant_server: Server
) -> None:
    server = MemoryServer()
    databases: Databases = MemoryDatabases(server)
    await databases.create(place.id, uid=place.uid, connection_limit=1)
    if kind == "postgres":
        databases = PostgresDatabases(tenant_server)
    with pytest.raises(errors.BackendError, match="for a day at least"):
        await databases.expire_history(place.id, **{**BEFORE, which: NOW - timedelta(hours=12)})


async def test_a_day_of_events_goes_when_all_of_it_is_older(
    fresh_place: Place, tenant_server: Server
) -> None:
    first = MIDNIGHT - 30 * DAY
    for days in range(4):
        await put(fresh_place, "events", first + days * DAY + timedelta(hours=23))
    before = first + 2 * DAY + timedelta(hours=12)
    expired = await PostgresDatabases(tenant_server).expire_history(
        fresh_place.id, events_before=before, runs_before=NOW - 30 * DAY
    )
    assert expired.counts == {"events": 2}
    assert await count(tenant_server, fresh_place, "events") == 2
    await put(fresh_place, "events", first + timedelta(hours=1))


async def test_runs_that_did_not_end_or_were_imported_count_from_when_they_were_last_seen(
    fresh_place: Place, tenant_server: Server
) -> None:
    async with fresh_place.connect("ingest") as conn:
        for at in (OLD, YOUNG):
            await conn.execute(
                "INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, phase,"
                " finished_at, seen_at) VALUES (%s, 'x', 1, 'p', 'p', 'started', NULL, %s),"
                " (%s, 'x', 1, 'p', 'p', 'finished', %s, %s)",
                [uuid4(), at, uuid4(), OLD, at],
            )
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {"runs": 2}
    assert await count(tenant_server, fresh_place, "runs") == 2


async def test_what_was_not_dispatched_and_what_did_not_end_stays(
    fresh_place: Place, tenant_server: Server
) -> None:
    async with fresh_place.connect("ingest") as conn:
        await conn.execute(_ROWS["outbox"], {"id": uuid4(), "at": None})
    await _run(fresh_place, started_at=OLD, finished_at=None)
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {}
    assert await count(tenant_server, fresh_place, "workflow_runs") == 1
    assert await count(tenant_server, fresh_place, "outbox") == 1


async def test_a_dead_letter_goes_by_when_it_came_and_with_its_delivery(
    fresh_place: Place, tenant_server: Server
) -> None:
    async with fresh_place.connect("ingest") as conn:
        for name, listed, came in (("a", YOUNG, OLD), ("b", OLD, YOUNG), ("c", YOUNG, YOUNG)):
            key = {"id": uuid4(), "name": name, "listed": listed, "came": came}
            await conn.execute(
                "INSERT INTO pipewright.deliveries (integration, delivery_id, received_at, event, outcome)"
                " VALUES (%(id)s, %(name)s, %(listed)s, 'e', 'refused')",
                key,
            )
            await conn.execute(
                "INSERT INTO pipewright.dead_letters"
                " (integration, delivery_id, received_at, refused_at, sealed)"
                " VALUES (%(id)s, %(name)s, %(came)s, now(), '')",
                key,
            )
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {"dead_letters": 1, "deliveries": 1}
    assert await count(tenant_server, fresh_place, "deliveries") == 2
    assert await count(tenant_server, fresh_place, "dead_letters") == 1


async def _run(place: Place, *, started_at: datetime, finished_at: datetime | None) -> None:
    """A WorkflowRun in the journal, with two attempts of a step."""
    uid, phase = uuid4(), "Succeeded" if finished_at else "Running"
    async with place.connect("runner") as conn:
        await conn.execute(
            "INSERT INTO pipewright.workflow_runs (run_uid, namespace, name, started_at, finished_at, phase)"
            " VALUES (%s, 'n', 'n', %s, %s, %s)",
            [uid, started_at, finished_at, phase],
        )
        for attempt in (1, 2):
            await conn.execute(
                "INSERT INTO pipewright.run_steps (run_uid, step, attempt, phase, idempotency_key,"
                " started_at) VALUES (%s, 's', %s, %s, %s, %s)",
                [uid, attempt, phase, f"{uid}/s/{attempt}", started_at],
            )


async def test_the_journal_of_a_run_that_ended_goes_with_its_steps(
    fresh_place: Place, tenant_server: Server
) -> None:
    await _run(fresh_place, started_at=OLD - DAY, finished_at=OLD)
    await _run(fresh_place, started_at=OLD, finished_at=YOUNG)
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {"run_steps": 2, "workflow_runs": 1}
    assert await count(tenant_server, fresh_place, "workflow_runs") == 1
    assert await count(tenant_server, fresh_place, "run_steps") == 2


async def test_a_models_last_attempts_stay_however_old_they_are(
    fresh_place: Place, tenant_server: Server
) -> None:
    async with fresh_place.connect("runner") as conn:
        for model, attempts in ((uuid4(), retention.NEWEST + 3), (uuid4(), 2)):
            for attempt in range(1, attempts + 1):
                await conn.execute(
                    "INSERT INTO pipewright.trainings (submission_id, model_uid, attempt, phase,"
                    " window_sha256, window_uri, rows, artifact_uri, report_uri, started_at, finished_at)"
                    " VALUES (%s, %s, %s, 'Failed', '', '', 0, '', '', %s, %s)",
                    [str(uuid4()), model, attempt, OLD, OLD],
                )
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {"trainings": 3}
    info = schema.migrator(tenant_server.migrator_dsn, database=roles.database(fresh_place.id))
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as conn:
        cursor = await conn.execute("SELECT min(attempt) FROM pipewright.trainings GROUP BY model_uid")
        assert sorted(await cursor.fetchall()) == [(1,), (4,)]


async def test_people_of_whom_no_run_is_left_go_unless_they_are_being_written_about(
    fresh_place: Place, tenant_server: Server
) -> None:
    databases = PostgresDatabases(tenant_server)
    async with fresh_place.connect("ingest") as conn:
        async with conn.transaction():
            people = await history.surrogates(conn, provider="github", logins=["ada", "bob", "eve"])
            await conn.execute(
                "INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, phase,"
                " seen_at, actor) SELECT %s, 'x', 1, 'p', 'p', 'started', %s, id FROM pipewright.actors"
                " WHERE login = 'ada'",
                [uuid4(), YOUNG],
            )
        async with conn.transaction():
            again = await history.surrogates(conn, provider="github", logins=["bob"])
            expired = await databases.expire_history(fresh_place.id, **BEFORE)
            assert expired.counts == {"actors": 1}
        assert again["bob"] == people["bob"]
        expired = await databases.expire_history(fresh_place.id, **BEFORE)
        assert expired.counts == {"actors": 1}
        assert await count(tenant_server, fresh_place, "actors") == 1
        async with conn.transaction():
            back = await history.surrogates(conn, provider="github", logins=["bob", "ada"])
    assert back["ada"] == people["ada"]
    assert back["bob"] != people["bob"]


async def test_whoever_is_being_deleted_is_a_conflict_and_then_somebody_new(
    fresh_place: Place, tenant_server: Server
) -> None:
    async with fresh_place.connect("ingest") as conn:
        async with conn.transaction():
            before = await history.surrogates(conn, provider="github", logins=["bob"])
        info = schema.migrator(tenant_server.migrator_dsn, database=roles.database(fresh_place.id))
        async with await psycopg.AsyncConnection.connect(info, autocommit=True) as owner:
            async with owner.transaction():
                await owner.execute("DELETE FROM pipewright.actors")
                waiting = asyncio.create_task(_surrogates(conn))
                await _until_waiting(owner, conn.info.backend_pid)
            with pytest.raises(errors.Conflict, match="people"):
                await waiting
        assert await _surrogates(conn) != before


async def _surrogates(conn: psycopg.AsyncConnection) -> dict[str, str]:
    async with conn.transaction():
        return await history.surrogates(conn, provider="github", logins=["bob"])


async def _until_waiting(conn: psycopg.AsyncConnection, pid: int) -> None:
    async with asyncio.timeout(20):
        while True:
            row = await (await conn.execute("SELECT pg_blocking_pids(%s) <> '{}'", [pid])).fetchone()
            if row == (True,):
                return


async def test_it_deletes_in_batches_and_stops_when_its_time_is_over(
    fresh_place: Place, tenant_server: Server
) -> None:
    for _ in range(5):
        await put(fresh_place, "runs", OLD)
    info = schema.migrator(tenant_server.migrator_dsn, database=roles.database(fresh_place.id))
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as conn:
        before = NOW - 30 * DAY
        found = await retention.expire(conn, events_before=before, runs_before=before, seconds=0, batch=2)
        assert found == Expired(counts={"runs": 2}, finished=False)
        found = await retention.expire(conn, events_before=before, runs_before=before, batch=2)
        assert found == Expired(counts={"runs": 3}, finished=True)


async def test_a_day_that_is_being_read_is_left_for_the_next_time(
    fresh_place: Place, tenant_server: Server
) -> None:
    await put(fresh_place, "events", OLD)
    async with fresh_place.connect("ingest") as conn, conn.transaction():
        await conn.execute("SELECT count(*) FROM pipewright.events")
        with pytest.raises(errors.Unreachable, match="a lock was not to be had"):
            await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    expired = await PostgresDatabases(tenant_server).expire_history(fresh_place.id, **BEFORE)
    assert expired.counts == {"events": 1}


# --- the audit trail --------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
async def registry(
    request: pytest.FixtureRequest, platform_logins: Mapping[str, str], pools: Pools
) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    return PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))


async def _registered(registry: Registry) -> Any:
    offered = Offered(name=f"s-{uuid4().hex[:8]}", region="eu", database_class="standard")
    return await registry.register(uid=str(uuid4()), name="acme", servers=(offered,))


async def _age(registry: Registry, server: parts.Database, tenant_id: str, *days: int) -> None:
    """Lines of the tenant's audit trail that are so old, beside those of its registration."""
    if isinstance(registry, MemoryRegistry):
        registry.audit[tenant_id] = [NOW - count * DAY for count in days]
        return
    async with await psycopg.AsyncConnection.connect(
        server.admin_dsn, dbname="pipewright", autocommit=True
    ) as admin:
        for old in days:
            await admin.execute(
                "INSERT INTO pipewright.audit (tenant_id, at, action, phase) VALUES (%s, %s, 'Old', 'done')",
                [tenant_id, NOW - old * DAY],
            )


async def test_only_a_tenants_own_old_lines_go(registry: Registry, postgres_server: parts.Database) -> None:
    mine, other = await _registered(registry), await _registered(registry)
    await _age(registry, postgres_server, mine.id, 500, 410, 390)
    await _age(registry, postgres_server, other.id, 500)
    assert await registry.expire_audit(mine.id, before=NOW - 400 * DAY) == (2, True)
    assert await registry.expire_audit(mine.id, before=NOW - 400 * DAY) == (0, True)
    assert await registry.expire_audit(other.id, before=NOW - 400 * DAY) == (1, True)


async def test_lines_of_the_last_30_days_stay_whoever_asks(
    registry: Registry, postgres_server: parts.Database
) -> None:
    mine = await _registered(registry)
    await _age(registry, postgres_server, mine.id, 29)
    with pytest.raises(errors.BackendError):
        await registry.expire_audit(mine.id, before=NOW - 28 * DAY)
    assert await registry.expire_audit(mine.id, before=NOW - 30 * DAY) == (0, True)


async def test_the_last_sweep_is_remembered_with_the_registration(registry: Registry) -> None:
    mine = await _registered(registry)
    assert mine.sweep is None
    assert mine.created_at
    assert abs(mine.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    for finished in (False, True):
        sweep = Sweep(at=NOW.replace(microsecond=0), finished=finished)
        await registry.record_sweep(mine.id, sweep, counts={"runs": 3})
        assert await registry.find(uid=mine.uid) == replace(mine, sweep=sweep)


async def test_a_sweep_that_deleted_something_is_in_the_audit_trail(
    platform_logins: Mapping[str, str], pools: Pools, postgres_server: parts.Database
) -> None:
    registry = PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))
    mine = await _registered(registry)
    sweep = Sweep(at=NOW, finished=True)
    await registry.record_sweep(mine.id, sweep, counts={})
    await registry.record_sweep(mine.id, sweep, counts={"runs": 3, "events": 1})
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn, dbname="pipewright") as admin:
        rows = await admin.execute(
            "SELECT detail FROM pipewright.audit WHERE tenant_id = %s AND action = 'ExpireHistory'", [mine.id]
        )
        assert await rows.fetchall() == [("events 1, runs 3",)]
