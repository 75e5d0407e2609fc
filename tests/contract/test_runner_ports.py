"""The runner's ports, in memory and on real databases: the same promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipewright import errors, events, names
from pipewright.backends.memory import MemoryCluster, MemorySecretStore
from pipewright.backends.postgres import Pools
from pipewright.backends.postgres.registry import PostgresRegistry
from pipewright.backends.runner.databases import Address, TenantDatabases
from pipewright.backends.runner.journal import PostgresDecisions, PostgresJournal
from pipewright.backends.runner.memory import MemoryJournal, MemoryRoutes, MemoryTriggers
from pipewright.backends.runner.platform import (
    PlatformDatabase,
    PlatformDirectory,
    PostgresRoutes,
    PostgresTriggers,
)
from pipewright.facts import Server
from pipewright.plan import Ref
from pipewright.ports import Journal, Routes, Secret, Triggers
from pipewright.runner_facts import Registered, Route, TenantRef, Trigger

MAIN = (Server(name="main", region="local", database_class="standard"),)

pytestmark = pytest.mark.stack


class Clock:
    """A clock that goes on by a second with each look."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@pytest.fixture
async def platform_database(platform_logins: Mapping[str, str], pools: Pools) -> PlatformDatabase:
    return PlatformDatabase(pools, dsn=Secret(platform_logins["pipewright_runner"]))


@pytest.fixture
async def tenant_id(platform_logins: Mapping[str, str], pools: Pools) -> str:
    registry = PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))
    return (await registry.register(uid=str(uuid4()), name="acme", servers=MAIN)).id


# --- routes and triggers ------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "real"])
def routes(request: pytest.FixtureRequest, platform_database: PlatformDatabase) -> Routes:
    return MemoryRoutes() if request.param == "memory" else PostgresRoutes(platform_database)


@pytest.fixture(params=["memory", "real"])
def triggers(request: pytest.FixtureRequest, platform_database: PlatformDatabase) -> Triggers:
    return MemoryTriggers() if request.param == "memory" else PostgresTriggers(platform_database)


def a_route(tenant_id: str, uid: str) -> Route:
    return Route(
        hook_id=uuid4().hex,
        tenant_id=tenant_id,
        namespace="acme",
        integration="github",
        integration_uid=uid,
        connector="github",
        projects=("acme/shop", "acme/pay"),
        config={"baseUrl": "https://ghe.acme.example/api/v3"},
        enabled=True,
        allow_unsigned=True,
        sealed_to="key",
        keys=(3, 2),
    )


async def test_a_route_comes_back_as_it_was_published(routes: Routes, tenant_id: str) -> None:
    uid = str(uuid4())
    route = a_route(tenant_id, uid)
    assert await routes.find(integration_uid=uid) is None
    await routes.publish(route, sealed_secret=b"sealed")
    assert await routes.find(integration_uid=uid) == route


async def test_publishing_again_replaces_the_whole_route(routes: Routes, tenant_id: str) -> None:
    uid = str(uuid4())
    await routes.publish(a_route(tenant_id, uid), sealed_secret=b"old")
    changed = replace(a_route(tenant_id, uid), enabled=False, allow_unsigned=False, config={})
    await routes.publish(changed, sealed_secret=b"new")
    assert await routes.find(integration_uid=uid) == changed


async def test_a_route_can_be_withdrawn_twice(routes: Routes, tenant_id: str) -> None:
    uid = str(uuid4())
    await routes.publish(a_route(tenant_id, uid), sealed_secret=b"sealed")
    await routes.withdraw(integration_uid=uid)
    await routes.withdraw(integration_uid=uid)
    assert await routes.find(integration_uid=uid) is None


# --- notes of what is registered at providers ---------------------------------------------------------


def a_note(project: str = "acme/shop") -> Registered:
    return Registered(
        project=project,
        next_look=datetime(2026, 3, 1, tzinfo=UTC),
        tried=True,
        id="7",
        url="https://hooks.example/hooks/x",
        key=2,
        asked="2 https://hooks.example/hooks/x",
        reason="ProviderBusy",
        message="GitHub asks to wait",
        arrived_until=datetime(2026, 3, 1, 1, tzinfo=UTC),
        next_deliveries=datetime(2026, 3, 1, 2, tzinfo=UTC),
        missed=3,
        missed_since=datetime(2026, 3, 1, 3, tzinfo=UTC),
        filled_at=datetime(2026, 3, 1, 4, tzinfo=UTC),
    )


async def test_notes_of_webhooks_come_back_by_project_and_are_replaced_whole(
    routes: Routes, tenant_id: str
) -> None:
    uid = str(uuid4())
    await routes.publish(a_route(tenant_id, uid), sealed_secret=b"sealed")
    assert await routes.registrations(integration_uid=uid) == ()
    other = Registered(project="acme/pay", next_look=datetime(2026, 3, 2, tzinfo=UTC))
    for note in (a_note(), other, a_note()):
        await routes.note_registration(note, integration_uid=uid)
    assert await routes.registrations(integration_uid=uid) == (other, a_note())
    changed = replace(a_note(), key=3, reason="", message="", tried=False)
    await routes.note_registration(changed, integration_uid=uid)
    for _ in range(2):
        await routes.forget_registration(integration_uid=uid, project="acme/pay")
    assert await routes.registrations(integration_uid=uid) == (changed,)


async def test_notes_of_webhooks_stay_while_the_route_is_published_anew_and_go_with_it(
    routes: Routes, tenant_id: str
) -> None:
    uid = str(uuid4())
    route = a_route(tenant_id, uid)
    await routes.publish(route, sealed_secret=b"sealed")
    await routes.note_registration(a_note(), integration_uid=uid)
    await routes.publish(replace(route, hook_id=uuid4().hex, keys=(2, 1)), sealed_secret=b"sealed")
    assert await routes.registrations(integration_uid=uid) == (a_note(),)
    await routes.withdraw(integration_uid=uid)
    assert await routes.registrations(integration_uid=uid) == ()
    with pytest.raises(errors.BackendError):
        await routes.note_registration(a_note(), integration_uid=uid)


def some_triggers(
    tenant_id: str, *, count: int = 2, revision: str = "heal-0123456789"
) -> tuple[Trigger, ...]:
    return tuple(
        Trigger(
            position=position,
            tenant_id=tenant_id,
            namespace="acme",
            workflow="heal",
            revision=revision,
            event="pipelinerun.finished",
            integration="github" if position else None,
            condition="event.outcome == 'failure'" if position else "",
        )
        for position in range(count)
    )


async def test_triggers_come_back_in_order_and_are_replaced_as_a_whole(
    triggers: Triggers, tenant_id: str
) -> None:
    uid = str(uuid4())
    wanted = some_triggers(tenant_id)
    await triggers.publish(workflow_uid=uid, triggers=wanted)
    assert tuple(await triggers.find(workflow_uid=uid)) == wanted
    fewer = some_triggers(tenant_id, count=1, revision="heal-9876543210")
    await triggers.publish(workflow_uid=uid, triggers=fewer)
    assert tuple(await triggers.find(workflow_uid=uid)) == fewer


async def test_triggers_can_be_withdrawn_twice(triggers: Triggers, tenant_id: str) -> None:
    uid = str(uuid4())
    await triggers.publish(workflow_uid=uid, triggers=some_triggers(tenant_id))
    await triggers.withdraw(workflow_uid=uid)
    await triggers.withdraw(workflow_uid=uid)
    assert tuple(await triggers.find(workflow_uid=uid)) == ()


# --- the directory ------------------------------------------------------------------------------------


async def test_a_namespaces_tenant_is_found_by_its_uid_and_not_by_its_name(
    platform_logins: Mapping[str, str], platform_database: PlatformDatabase, pools: Pools
) -> None:
    cluster = MemoryCluster()
    directory = PlatformDirectory(platform_database, cluster=cluster)
    registry = PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))
    uid = str(uuid4())
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    found = await cluster.get(Ref(api_version="v1", kind="Namespace", name="acme"))
    assert found is not None
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert await directory.find(namespace="acme") is None
    await registry.bind_namespace(made.id, name="acme", uid=found["metadata"]["uid"], owner=made.uid)
    assert await directory.find(namespace="acme") == TenantRef(
        id=made.id, uid=uid, name="acme", state=made.state, server="main"
    )
    await cluster.delete(Ref(api_version="v1", kind="Namespace", name="acme"), uid=found["metadata"]["uid"])
    assert await directory.find(namespace="acme") is None
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    assert await directory.find(namespace="acme") is None


# --- the journal --------------------------------------------------------------------------------------


@dataclass
class Lines:
    """A journal with a run in it."""

    journal: Journal
    tenant: TenantRef
    clock: Clock
    uid: str

    async def begin(self) -> None:
        await self.journal.begin(
            self.tenant, run_uid=self.uid, namespace="acme", name="heal-1", workflow_uid=str(uuid4())
        )

    async def finish_step(self, step: str, phase: Any, **more: Any) -> None:
        await self.journal.finish_step(
            self.tenant, run_uid=self.uid, step=step, attempt=more.pop("attempt", 1), phase=phase, **more
        )

    async def read(self) -> Any:
        return await self.journal.read(self.tenant, run_uid=self.uid)


@pytest.fixture
async def tenant_databases(place: Any, tenant_server: Any, pools: Pools) -> TenantDatabases:
    secrets = MemorySecretStore()
    await secrets.create(
        names.platform_path(place.id), {"runner": Secret("password-of-runner")}, owner=place.uid
    )
    address = Address(host=tenant_server.host, port=tenant_server.port)
    return TenantDatabases(pools, secrets=secrets, servers={"main": address})


@pytest.fixture
def tenant(place: Any) -> TenantRef:
    return TenantRef(id=place.id, uid=place.uid, name="acme", state="Active", server="main")


@pytest.fixture(params=["memory", "real"])
def lines(request: pytest.FixtureRequest, tenant_databases: TenantDatabases, tenant: TenantRef) -> Lines:
    clock = Clock()
    real = PostgresJournal(tenant_databases, clock=clock)
    journal = MemoryJournal(clock=clock) if request.param == "memory" else real
    return Lines(journal, tenant, clock, str(uuid4()))


async def test_a_run_that_never_began_is_not_there(lines: Lines) -> None:
    assert await lines.read() is None


async def test_beginning_twice_is_beginning_once(lines: Lines) -> None:
    await lines.begin()
    first = await lines.read()
    await lines.begin()
    assert await lines.read() == first
    assert (first.phase, first.finished_at, first.attempts) == ("Running", None, ())


async def test_an_intent_is_open_until_its_outcome(lines: Lines) -> None:
    await lines.begin()
    await lines.journal.begin_step(lines.tenant, run_uid=lines.uid, step="rerun", attempt=1)
    (tried,) = (await lines.read()).attempts
    assert (tried.step, tried.number, tried.phase, tried.finished_at) == ("rerun", 1, "Running", None)
    await lines.finish_step("rerun", "Succeeded", message="done", outputs={"status": "201"})
    (tried,) = (await lines.read()).attempts
    assert (tried.phase, tried.message, tried.outputs) == ("Succeeded", "done", {"status": "201"})
    assert tried.finished_at > tried.started_at


async def test_an_intent_is_written_once(lines: Lines) -> None:
    await lines.begin()
    await lines.journal.begin_step(lines.tenant, run_uid=lines.uid, step="rerun", attempt=1)
    with pytest.raises(errors.Conflict):
        await lines.journal.begin_step(lines.tenant, run_uid=lines.uid, step="rerun", attempt=1)


async def test_an_outcome_stands(lines: Lines) -> None:
    await lines.begin()
    await lines.finish_step("rerun", "Succeeded")
    await lines.finish_step("rerun", "Unknown", message="late")
    (tried,) = (await lines.read()).attempts
    assert (tried.phase, tried.message) == ("Succeeded", "")


async def test_an_outcome_without_an_intent_is_both(lines: Lines) -> None:
    await lines.begin()
    await lines.finish_step("tell", "Skipped", message="its condition is false")
    (tried,) = (await lines.read()).attempts
    assert (tried.phase, tried.message) == ("Skipped", "its condition is false")
    assert tried.finished_at is not None


async def test_what_was_put_off_says_until_when(lines: Lines) -> None:
    await lines.begin()
    await lines.journal.begin_step(lines.tenant, run_uid=lines.uid, step="rerun", attempt=1)
    await lines.finish_step("rerun", "Failed", message="busy", after=timedelta(minutes=5))
    await lines.finish_step("tell", "Failed")
    rerun, tell = (await lines.read()).attempts
    assert rerun.not_before == rerun.finished_at + timedelta(minutes=5)
    assert tell.not_before is None


async def test_attempts_come_by_step_and_number(lines: Lines) -> None:
    await lines.begin()
    await lines.finish_step("tell", "Failed")
    await lines.finish_step("rerun", "Failed", attempt=2)
    await lines.finish_step("rerun", "Failed", attempt=1)
    found = (await lines.read()).attempts
    assert [(tried.step, tried.number) for tried in found] == [("rerun", 1), ("rerun", 2), ("tell", 1)]


async def test_a_run_is_closed_once(lines: Lines) -> None:
    await lines.begin()
    await lines.journal.finish(lines.tenant, run_uid=lines.uid, phase="Failed", reason="StepFailed: rerun")
    await lines.journal.finish(lines.tenant, run_uid=lines.uid, phase="Cancelled", reason="Cancelled: late")
    found = await lines.read()
    assert (found.phase, found.reason) == ("Failed", "StepFailed: rerun")
    assert found.finished_at is not None


# --- decisions, and connections to tenants' databases ----------------------------------------------------


EVENT = {
    "type": "pipelinerun.finished",
    "id": "delivery-1",
    "integration": "github",
    "project": "acme/shop",
    "pipeline": "ci",
    "branch": "main",
    "sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
    "trigger": "push",
    "actor": "",
    "outcome": "failure",
    "run": {"id": "77", "number": 7, "attempt": 1, "url": ""},
}


async def decide(ingest: psycopg.AsyncConnection, workflow: str, *, fired: bool) -> None:
    await ingest.execute(
        "INSERT INTO pipewright.decisions (workflow_uid, integration, delivery_id, revision, namespace,"
        " workflow, fired, reason, event, decided_at)"
        " VALUES (%s, %s, 'delivery-1', 'heal-0', 'acme', %s, %s, '', %s, now())",
        [str(uuid4()), str(uuid4()), workflow, fired, Jsonb(EVENT)],
    )


@pytest.mark.parametrize("fired", [True, False])
async def test_only_a_decision_that_fired_asks_for_a_run(
    fired: bool, ingest: psycopg.AsyncConnection, tenant_databases: TenantDatabases, tenant: TenantRef
) -> None:
    workflow = f"heal-{uuid4().hex[:8]}"
    await decide(ingest, workflow, fired=fired)
    found = await PostgresDecisions(tenant_databases).find(
        tenant,
        namespace="acme",
        workflow=workflow,
        revision="heal-0",
        integration="github",
        delivery_id="delivery-1",
    )
    if fired:
        assert found is not None
        assert found.event == events.event_from_json(EVENT)
    else:
        assert found is None


async def test_another_integrations_delivery_of_the_same_id_is_another_event(
    ingest: psycopg.AsyncConnection, tenant_databases: TenantDatabases, tenant: TenantRef
) -> None:
    workflow = f"heal-{uuid4().hex[:8]}"
    await decide(ingest, workflow, fired=True)
    found = await PostgresDecisions(tenant_databases).find(
        tenant,
        namespace="acme",
        workflow=workflow,
        revision="heal-0",
        integration="gitlab",
        delivery_id="delivery-1",
    )
    assert found is None


async def test_a_tenant_without_a_password_in_vault_is_waited_for(
    pools: Pools, tenant: TenantRef, tenant_server: Any
) -> None:
    address = Address(host=tenant_server.host, port=tenant_server.port)
    databases = TenantDatabases(pools, secrets=MemorySecretStore(), servers={"main": address})
    with pytest.raises(errors.Waiting):
        async with databases.connection(tenant):
            pass


async def test_a_password_that_was_rotated_is_read_again(
    place: Any, pools: Pools, tenant: TenantRef, tenant_server: Any
) -> None:
    secrets = MemorySecretStore()
    path = names.platform_path(place.id)
    await secrets.create(path, {"runner": Secret("canary-of-yesterday")}, owner=place.uid)
    address = Address(host=tenant_server.host, port=tenant_server.port)
    databases = TenantDatabases(pools, secrets=secrets, servers={"main": address})
    with pytest.raises(errors.Forbidden) as refused:
        async with databases.connection(tenant):
            pass
    assert "canary" not in str(refused.value)
    await secrets.write(path, {"runner": Secret("password-of-runner")})
    async with databases.connection(tenant) as conn:
        cursor = await conn.execute("SELECT count(*) >= 0 FROM pipewright.run_steps")
        assert await cursor.fetchone() == (True,)


async def test_while_postgresql_is_not_told_of_a_rotation_the_password_before_opens(
    place: Any, pools: Pools, tenant: TenantRef, tenant_server: Any
) -> None:
    secrets = MemorySecretStore()
    path = names.platform_path(place.id)
    await secrets.create(path, {"runner": Secret("password-of-runner")}, owner=place.uid)
    assert await secrets.replace(path, {"runner": Secret("canary-of-tomorrow")}, expected=1)
    address = Address(host=tenant_server.host, port=tenant_server.port)
    databases = TenantDatabases(pools, secrets=secrets, servers={"main": address})
    for _ in range(2):
        async with databases.connection(tenant) as conn:
            cursor = await conn.execute("SELECT count(*) >= 0 FROM pipewright.run_steps")
            assert await cursor.fetchone() == (True,)


async def test_a_rotation_is_followed_without_a_refusal(
    fresh_place: Any, pools: Pools, tenant_server: Any
) -> None:
    secrets = MemorySecretStore()
    path = names.platform_path(fresh_place.id)
    tenant = TenantRef(id=fresh_place.id, uid=fresh_place.uid, name="acme", state="Active", server="main")
    await secrets.create(path, {"runner": Secret("password-of-runner")}, owner=fresh_place.uid)
    address = Address(host=tenant_server.host, port=tenant_server.port)
    databases = TenantDatabases(pools, secrets=secrets, servers={"main": address})
    async with databases.connection(tenant):
        assert await secrets.replace(path, {"runner": Secret("of-tomorrow")}, expected=1)
        await fresh_place.logins.set(fresh_place.id, passwords={"runner": Secret("of-tomorrow")}, version=2)
        async with databases.connection(tenant) as second:  # a new session, which the old password opens not
            cursor = await second.execute("SELECT session_user")
            assert await cursor.fetchone() == (fresh_place.logins.username(fresh_place.id, "runner"),)
