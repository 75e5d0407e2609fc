"""Tenants' databases and logins: one suite for memory and for the real server."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from dev import parts, throwaway
from dev.stack import Stack
from pipewright import actions, errors, facts
from pipewright.apply.provisioner import perform
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_postgres import (
    SUPERUSERS_ONLY,
    TRUSTED,
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryServer,
)
from pipewright.backends.postgres import Pools, PostgresDatabases, PostgresLogins, PostgresRegistry, Server
from pipewright.backends.sealing import HpkeSealer
from pipewright.ports import LOGINS, Databases, Login, Logins, ProvisionerPorts, Secret
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.rollouts import RolloutBook
from pipewright.store import connect, migrations, roles, schema
from tests import older

pytestmark = [
    pytest.mark.usefixtures("postgres_server"),
    pytest.mark.parametrize("postgres_server", ["own", throwaway.OLDER], indirect=True, scope="session"),
]

PASSWORDS = {purpose: Secret(f"canary-{purpose}") for purpose in LOGINS}


@dataclass
class World:
    """Both ports on one server, and a tenant that has nothing yet."""

    databases: Databases
    logins: Logins
    id: str
    uid: str
    server: Server | None = None

    async def create(self) -> None:
        await self.databases.create(self.id, uid=self.uid, connection_limit=20)


@pytest.fixture(params=["memory", "postgres", "postgres, sessions kept"])
async def world(request: pytest.FixtureRequest, pools: Pools):
    made = World(
        MemoryDatabases(server := MemoryServer()), MemoryLogins(server), roles.new_id(), str(uuid4())
    )
    if request.param.startswith("postgres"):
        real = request.getfixturevalue("tenant_server")
        real = replace(real, pools=pools) if request.param.endswith("kept") else real
        made = World(PostgresDatabases(real), PostgresLogins(real), made.id, made.uid, real)
    yield made
    await made.databases.drop(made.id, uid=made.uid)


async def test_a_database_that_was_never_created_is_absent(world: World) -> None:
    assert await world.databases.find(world.id) is None


async def test_a_created_database_is_marked_closed_current_and_without_enabled_logins(world: World) -> None:
    await world.create()
    found = await world.databases.find(world.id)
    assert found
    assert (found.name, found.owner_uid, found.connection_limit) == (f"pw_{world.id}", world.uid, 20)
    assert (found.closed_to_public, found.current) == (True, True)
    assert set(found.logins) == set(LOGINS)
    assert not any(login.enabled for login in found.logins.values())


async def test_creating_again_changes_nothing_but_the_limit(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    before = await world.databases.find(world.id)
    await world.create()
    assert await world.databases.find(world.id) == before


async def test_a_database_of_another_tenant_is_never_touched(world: World) -> None:
    await world.create()
    before = await world.databases.find(world.id)
    stranger = str(uuid4())
    with pytest.raises(errors.OwnedByOther, match=f"pw_{world.id} belongs to another Tenant"):
        await world.databases.create(world.id, uid=stranger, connection_limit=1)
    with pytest.raises(errors.OwnedByOther):
        await world.databases.drop(world.id, uid=stranger)
    with pytest.raises(errors.OwnedByOther):
        await world.logins.disable(world.id, uid=stranger)
    assert await world.databases.find(world.id) == before


async def test_the_connection_limit_follows(world: World) -> None:
    await world.create()
    await world.databases.limit_connections(world.id, connection_limit=7)
    found = await world.databases.find(world.id)
    assert found
    assert found.connection_limit == 7


async def test_an_extension_that_the_server_does_not_have_is_said(world: World) -> None:
    await world.create()
    with pytest.raises(errors.Stalled, match="does not have the extension no_such_thing") as refused:
        await world.databases.create_extension(world.id, name="no_such_thing")
    assert refused.value.reason == "ExtensionUnavailable"


async def _extensions(world: World) -> frozenset[str]:
    found = await world.databases.find(world.id)
    assert found
    return found.extensions


async def test_a_trusted_extension_is_made_once_and_stays_with_its_database(world: World) -> None:
    await world.create()
    assert await _extensions(world) == frozenset()
    if await _lacks(world, TRUSTED):
        pytest.skip(f"this server has no trusted extension: the tests use {TRUSTED} of Debian's contrib")
    for _ in range(2):
        await world.databases.create_extension(world.id, name=TRUSTED)
    await world.create()
    assert await _extensions(world) == {TRUSTED}


async def test_an_extension_for_superusers_is_refused(world: World) -> None:
    await world.create()
    name = "vector" if await _lacks(world, SUPERUSERS_ONLY) else SUPERUSERS_ONLY
    with pytest.raises(errors.Stalled, match=f"only a superuser of .* the extension {name}") as refused:
        await world.databases.create_extension(world.id, name=name)
    assert refused.value.reason == "ExtensionNeedsSuperuser"
    assert await _extensions(world) == frozenset()


async def _lacks(world: World, extension: str) -> bool:
    """Whether this server does not come with the extension."""
    if isinstance(world.databases, MemoryDatabases):
        return extension not in (TRUSTED, SUPERUSERS_ONLY)
    assert world.server
    async with world.server.provisioner() as conn:
        cursor = await conn.execute("SELECT FROM pg_available_extensions WHERE name = %s", [extension])
        return await cursor.fetchone() is None


async def test_migrating_a_current_database_changes_nothing(world: World) -> None:
    await world.create()
    before = await world.databases.find(world.id)
    await world.databases.migrate(world.id)
    assert await world.databases.find(world.id) == before


async def test_set_logins_are_enabled_at_their_version(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=4)
    found = await world.databases.find(world.id)
    assert found
    assert {(login.enabled, login.version) for login in found.logins.values()} == {(True, 4)}


async def test_rotation_may_set_one_login_alone(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    await world.logins.set(world.id, passwords={"app_b": Secret("canary-next")}, version=2)
    found = await world.databases.find(world.id)
    assert found
    assert (found.logins["app_a"].version, found.logins["app_b"].version) == (1, 2)


async def test_a_rotated_login_is_noted_retired_and_refused(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    old, at = PASSWORDS["app_a"], datetime(2026, 6, 1, 12, 0, 0, 999, tzinfo=UTC)
    assert not await world.logins.is_refused(world.id, purpose="app_a", password=old)
    assert await world.logins.is_refused(world.id, purpose="app_a", password=Secret("canary-wrong"))
    await world.logins.begin_overlap(world.id, purpose="app_a", at=at)
    for _ in range(2):
        await world.logins.retire(world.id, purpose="app_a", uid=world.uid)
    assert await world.logins.is_refused(world.id, purpose="app_a", password=old)
    await world.logins.note_refused(world.id, purpose="app_a", at=at)
    found, whole = await world.databases.find(world.id), at.replace(microsecond=0)
    assert found
    assert found.logins["app_a"] == Login(enabled=False, version=1, overlap_since=whole, refused_at=whole)
    assert found.logins["app_b"] == Login(enabled=True, version=1)
    await world.logins.set(world.id, passwords={"app_a": Secret("canary-third")}, version=3)
    found = await world.databases.find(world.id)
    assert found
    assert found.logins["app_a"] == Login(enabled=True, version=3)
    assert await world.logins.is_refused(world.id, purpose="app_a", password=old)


async def test_a_login_of_another_tenant_is_never_retired(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    with pytest.raises(errors.OwnedByOther):
        await world.logins.retire(world.id, purpose="app_a", uid=str(uuid4()))
    assert not await world.logins.is_refused(world.id, purpose="app_a", password=PASSWORDS["app_a"])


async def test_nothing_is_noted_on_a_login_that_is_not_there(world: World) -> None:
    with pytest.raises(errors.Conflict, match="not there any more"):
        await world.logins.begin_overlap(world.id, purpose="app_a", at=datetime.now(UTC))


async def test_logins_without_a_database_wait_for_it(world: World) -> None:
    with pytest.raises(errors.Conflict, match="it is created first"):
        await world.logins.set(world.id, passwords=PASSWORDS, version=1)


async def test_disabled_logins_keep_their_version_and_can_be_enabled_again(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    await world.logins.disable(world.id, uid=world.uid)
    found = await world.databases.find(world.id)
    assert found
    assert {(login.enabled, login.version) for login in found.logins.values()} == {(False, 1)}
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    found = await world.databases.find(world.id)
    assert found
    assert all(login.enabled for login in found.logins.values())


async def test_suspended_logins_come_back_with_their_passwords_and_nobody_elses_does(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    await world.logins.retire(world.id, purpose="app_b", uid=world.uid)
    for _ in range(2):
        await world.logins.suspend(world.id, uid=world.uid)
    found = await world.databases.find(world.id)
    assert found
    assert found.logins["app_a"] == Login(enabled=False, version=1, suspension="Suspended")
    assert found.logins["app_b"] == Login(enabled=False, version=1)
    assert {purpose for purpose, login in found.logins.items() if login.enabled} == {"ingest", "runner"}
    assert await world.logins.is_refused(world.id, purpose="readonly", password=PASSWORDS["readonly"])
    for _ in range(2):
        await world.logins.resume(world.id, uid=world.uid)
    found = await world.databases.find(world.id)
    assert found
    assert found.logins["app_a"] == Login(enabled=True, version=1)
    assert found.logins["app_b"] == Login(enabled=False, version=1)
    assert not await world.logins.is_refused(world.id, purpose="readonly", password=PASSWORDS["readonly"])


async def test_passwords_that_are_set_for_a_suspended_tenant_let_it_in_when_it_is_resumed(
    world: World,
) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=3, suspended=True)
    found = await world.databases.find(world.id)
    assert found
    assert found.logins["app_a"] == Login(enabled=False, version=3, suspension="Ending")
    assert found.logins["runner"] == Login(enabled=True, version=3)
    await world.logins.suspend(world.id, uid=world.uid)
    assert await world.logins.is_refused(world.id, purpose="app_a", password=PASSWORDS["app_a"])
    await world.logins.resume(world.id, uid=world.uid)
    assert not await world.logins.is_refused(world.id, purpose="app_a", password=PASSWORDS["app_a"])


async def test_what_is_noted_on_a_suspended_login_stays_until_it_is_refused_or_disabled(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    at = datetime(2026, 6, 1, 12, tzinfo=UTC)
    await world.logins.suspend(world.id, uid=world.uid)
    await world.logins.begin_overlap(world.id, purpose="app_a", at=at)
    found = await world.databases.find(world.id)
    assert found
    expected = Login(enabled=False, version=1, suspension="Suspended", overlap_since=at)
    assert found.logins["app_a"] == expected
    await world.logins.retire(world.id, purpose="app_a", uid=world.uid)
    await world.logins.note_refused(world.id, purpose="app_a", at=at)
    await world.logins.resume(world.id, uid=world.uid)
    assert await world.logins.is_refused(world.id, purpose="app_a", password=PASSWORDS["app_a"])
    await world.logins.suspend(world.id, uid=world.uid)
    await world.logins.disable(world.id, uid=world.uid)
    await world.logins.resume(world.id, uid=world.uid)
    found = await world.databases.find(world.id)
    assert found
    assert not any(login.is_set for login in found.logins.values())


async def test_logins_of_another_tenant_are_neither_suspended_nor_resumed(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    for change in (world.logins.suspend, world.logins.resume):
        with pytest.raises(errors.OwnedByOther):
            await change(world.id, uid=str(uuid4()))
    assert not await world.logins.is_refused(world.id, purpose="app_a", password=PASSWORDS["app_a"])
    await world.databases.drop(world.id, uid=world.uid)
    await world.logins.suspend(world.id, uid=world.uid)


async def test_suspending_ends_the_tenants_sessions_and_not_ours(world: World) -> None:
    if world.server is None:
        pytest.skip("there are no sessions in memory")
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=1)
    where = world.logins.connection(world.id)
    sessions = {
        purpose: await psycopg.AsyncConnection.connect(
            connect.tenant_dsn(
                where, user=world.logins.username(world.id, purpose), password=PASSWORDS[purpose]
            ).reveal()
        )
        for purpose in ("app_a", "readonly", "ingest")
    }
    await world.logins.suspend(world.id, uid=world.uid)
    for purpose in ("app_a", "readonly"):
        with pytest.raises(psycopg.OperationalError):
            await sessions[purpose].execute("SELECT 1")
    await sessions["ingest"].execute("SELECT 1")
    for session in sessions.values():
        await session.close()


async def test_dropping_twice_is_once_and_disabling_nothing_is_nothing(world: World) -> None:
    await world.create()
    for _ in range(2):
        await world.databases.drop(world.id, uid=world.uid)
    await world.logins.disable(world.id, uid=world.uid)
    assert await world.databases.find(world.id) is None


async def test_a_dropped_database_can_be_created_again(world: World) -> None:
    await world.create()
    await world.databases.drop(world.id, uid=world.uid)
    await world.create()
    found = await world.databases.find(world.id)
    assert found
    assert found.owner_uid == world.uid


@pytest.mark.parametrize("purpose", LOGINS)
async def test_a_login_is_named_by_prefix_id_and_purpose(world: World, purpose: str) -> None:
    assert world.logins.username(world.id, purpose) == f"pw_{world.id}_{purpose}"
    assert world.logins.connection(world.id).database == f"pw_{world.id}"


# --- what only a real server can show -------------------------------------------------------------------


@pytest.fixture
async def real(tenant_server: Server):
    made = World(
        PostgresDatabases(tenant_server), PostgresLogins(tenant_server), roles.new_id(), str(uuid4())
    )
    yield made
    await made.databases.drop(made.id, uid=made.uid)


async def _roles(admin: psycopg.AsyncConnection, tenant_id: str) -> set[str]:
    cursor = await admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"pw_{tenant_id}%"])
    return {name async for (name,) in cursor}


@pytest.fixture
async def admin(postgres_server: parts.Database):
    async with await psycopg.AsyncConnection.connect(
        postgres_server.admin_dsn, autocommit=True
    ) as connection:
        yield connection


async def test_one_of_the_two_servers_is_postgresql_15(
    admin: psycopg.AsyncConnection, postgres_server: parts.Database, empty_stack: Stack
) -> None:
    older = postgres_server != empty_stack.parts.database()
    assert (admin.info.server_version // 10000 == 15) is older


CRASHES = {
    "after CREATE DATABASE": ["CREATE DATABASE {db} TEMPLATE pipewright_template ALLOW_CONNECTIONS false"],
    "after CREATE DATABASE, open to all": ["CREATE DATABASE {db} TEMPLATE pipewright_template"],
    "after a role": [
        "CREATE DATABASE {db} TEMPLATE pipewright_template ALLOW_CONNECTIONS false",
        "SET ROLE {maker}",
        "CREATE ROLE {db}_app NOLOGIN",
        "RESET ROLE",
    ],
    "before the database": [
        "SET ROLE {maker}",
        "CREATE ROLE {db}_app NOLOGIN",
        "CREATE ROLE {db}_app_a NOLOGIN",
        "RESET ROLE",
    ],
}


@pytest.mark.parametrize("statements", CRASHES.values(), ids=CRASHES.keys())
async def test_a_half_done_creation_shows_and_is_finished(
    real: World, tenant_server: Server, statements: list[str]
) -> None:
    async with tenant_server.provisioner() as provisioner:
        for statement in statements:
            await provisioner.execute(statement.format(db=f"pw_{real.id}", maker=roles.maker(real.id)))
    half = await real.databases.find(real.id)
    assert half is None or half.owner_uid is None
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    found = await real.databases.find(real.id)
    assert found
    assert (found.owner_uid, found.closed_to_public, found.current) == (real.uid, True, True)
    dsn = f"{_dsn(real, 'app_a')} password=canary-app_a"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as app:
        await app.execute("CREATE TABLE finished (id int)")


async def test_an_unmarked_half_done_database_can_be_dropped(
    real: World, tenant_server: Server, admin: psycopg.AsyncConnection
) -> None:
    async with tenant_server.provisioner() as provisioner:
        await provisioner.execute(f"CREATE DATABASE pw_{real.id} TEMPLATE pipewright_template")
    await real.databases.drop(real.id, uid=real.uid)
    assert await real.databases.find(real.id) is None


async def test_a_drop_that_was_cut_short_is_finished(real: World, admin: psycopg.AsyncConnection) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    # What DROP DATABASE commits before it removes the files, and what stays when it is cancelled there.
    await admin.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", [f"pw_{real.id}"])
    await real.databases.drop(real.id, uid=real.uid)
    assert await real.databases.find(real.id) is None
    assert await _roles(admin, real.id) == set()


async def test_two_creations_at_once_make_one_database(real: World) -> None:
    outcomes = await asyncio.gather(real.create(), real.create(), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, errors.BackendError) for outcome in outcomes)
    await real.create()
    found = await real.databases.find(real.id)
    assert found
    assert found.owner_uid == real.uid


async def test_dropping_leaves_no_role_behind(real: World, admin: psycopg.AsyncConnection) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    assert len(await _roles(admin, real.id)) == 6
    await real.databases.drop(real.id, uid=real.uid)
    assert await _roles(admin, real.id) == set()


async def test_a_drop_ends_sessions_that_are_in_the_way(real: World) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    dsn = f"{_dsn(real, 'app_a')} password=canary-app_a"
    session = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await real.databases.drop(real.id, uid=real.uid)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")


async def test_disabling_ends_open_sessions_and_refuses_new_ones(real: World) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    dsn = f"{_dsn(real, 'ingest')} password=canary-ingest"
    session = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await real.logins.disable(real.id, uid=real.uid)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        await psycopg.AsyncConnection.connect(dsn)


async def test_retiring_one_login_ends_its_sessions_and_leaves_the_others(
    real: World, admin: psycopg.AsyncConnection
) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    dsn = {name: f"{_dsn(real, name)} password=canary-{name}" for name in ("app_a", "app_b")}
    old = await psycopg.AsyncConnection.connect(dsn["app_a"], autocommit=True)
    new = await psycopg.AsyncConnection.connect(dsn["app_b"], autocommit=True)
    await old.execute("CREATE TABLE app.made_before (id int)")
    await real.logins.retire(real.id, purpose="app_a", uid=real.uid)
    with pytest.raises(psycopg.OperationalError):
        await old.execute("SELECT 1")
    await new.execute("ALTER TABLE app.made_before ADD COLUMN by_the_next_login int")
    await new.close()
    cursor = await admin.execute(
        "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s", [f"pw_{real.id}_app_a"]
    )
    assert await cursor.fetchone() == (False, None)


async def test_no_answer_proves_nothing(tenant_server: Server) -> None:
    dead = replace(tenant_server, port=1)
    with pytest.raises(errors.Unreachable):
        await PostgresLogins(dead).is_refused("aaaaaaaaaaaa", purpose="app_a", password=Secret("canary"))


async def test_the_server_keeps_a_verifier_and_the_password_opens(
    real: World, admin: psycopg.AsyncConnection
) -> None:
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    cursor = await admin.execute(
        "SELECT rolpassword FROM pg_authid WHERE rolname LIKE %s AND rolcanlogin", [f"pw_{real.id}%"]
    )
    stored = [password async for (password,) in cursor]
    assert len(stored) == 5
    assert all(password.startswith("SCRAM-SHA-256$") for password in stored)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(f"{_dsn(real, 'app_a')} password=wrong")


async def test_no_trouble_repeats_a_password(tenant_server: Server) -> None:
    dead = Server(
        name="main",
        host="127.0.0.1",
        port=1,
        provisioner_dsn=Secret("postgresql://pipewright_provisioner:canary@127.0.0.1:1/postgres"),
        migrator_dsn=Secret("postgresql://pipewright_migrator:canary@127.0.0.1:1/postgres"),
    )
    wrong = Server(
        name="main",
        host=tenant_server.host,
        port=tenant_server.port,
        provisioner_dsn=Secret(
            f"postgresql://pipewright_provisioner:canary@{tenant_server.host}:{tenant_server.port}/postgres"
        ),
        migrator_dsn=Secret(
            f"postgresql://pipewright_migrator:canary@{tenant_server.host}:{tenant_server.port}/postgres"
        ),
    )
    for server, kind in ((dead, errors.Unreachable), (wrong, errors.Forbidden)):
        for attempt in (
            PostgresDatabases(server).find("aaaaaaaaaaaa"),
            PostgresDatabases(server).migrate("aaaaaaaaaaaa"),
        ):
            with pytest.raises(kind) as caught:
                await attempt
            assert "canary" not in f"{caught.value!r} {caught.value.message}"
        assert "canary" not in repr(server)


async def test_the_look_after_the_creation_opens_no_session_in_there(tenant_server: Server) -> None:
    shut_out = replace(tenant_server, migrator_dsn=Secret("postgresql://nobody@127.0.0.1:1/postgres"))
    databases, tenant_id, uid = PostgresDatabases(shut_out), roles.new_id(), str(uuid4())
    await databases.create(tenant_id, uid=uid, connection_limit=20)
    found = await databases.find(tenant_id)
    assert found
    assert (found.current, found.extensions) == (True, frozenset())
    with pytest.raises(errors.Unreachable):  # once: the next look is one of the world again
        await databases.find(tenant_id)
    await databases.create(tenant_id, uid=uid, connection_limit=20)
    await databases.drop(tenant_id, uid=uid)
    assert await databases.find(tenant_id) is None


async def _set_back(server: Server, tenant_id: str) -> None:
    """Make the schema what an older release left."""
    info = schema.migrator(server.migrator_dsn, database=f"pw_{tenant_id}")
    with psycopg.connect(info, autocommit=True) as owner:
        older.set_back(owner, "t0003")


async def test_a_database_of_an_older_release_shows_and_is_migrated(
    real: World, tenant_server: Server
) -> None:
    await real.create()
    made = await real.databases.find(real.id)
    assert made
    assert made.current
    await _set_back(tenant_server, real.id)
    old = await real.databases.find(real.id)
    assert old
    assert (old.schema_version, old.current) == ("t0003", False)
    await asyncio.gather(*(real.databases.migrate(real.id) for _ in range(3)))
    new = await real.databases.find(real.id)
    assert new
    assert new.current
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    dsn = f"{_dsn(real, 'readonly')} password=canary-readonly"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as reader:
        await reader.execute("SELECT * FROM history.runs")


async def test_an_upgrade_does_not_wait_for_another_tenants(real: World, tenant_server: Server) -> None:
    other, uid = roles.new_id(), str(uuid4())
    await real.create()
    await real.databases.create(other, uid=uid, connection_limit=20)
    for tenant_id in (real.id, other):
        await _set_back(tenant_server, tenant_id)
    info = schema.migrator(tenant_server.migrator_dsn, database=f"pw_{real.id}")
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as holder:
        await holder.execute(f"SELECT pg_advisory_lock({migrations.LOCK})")
        held_up = asyncio.create_task(real.databases.migrate(real.id))
        await asyncio.wait_for(real.databases.migrate(other), 20)
        assert not held_up.done()
    await held_up
    for tenant_id in (real.id, other):
        found = await real.databases.find(tenant_id)
        assert found
        assert found.current
    await real.databases.drop(other, uid=uid)


async def test_a_failed_migration_leaves_the_schema_as_it_was(real: World, tenant_server: Server) -> None:
    await real.create()
    await _set_back(tenant_server, real.id)
    info = schema.migrator(tenant_server.migrator_dsn, database=f"pw_{real.id}")
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as owner:
        await owner.execute("CREATE VIEW history.run_steps AS SELECT 1 AS in_the_way")
        with pytest.raises(errors.BackendError, match="42P07"):
            await real.databases.migrate(real.id)
        cursor = await owner.execute("SELECT to_regclass('history.runs')")
        assert await cursor.fetchone() == (None,)
    found = await real.databases.find(real.id)
    assert found
    assert found.schema_version == "t0003"


async def test_a_tenant_uses_an_extension_and_can_plant_nothing_in_its_schema(
    real: World, tenant_server: Server, admin: psycopg.AsyncConnection
) -> None:
    real.server = tenant_server
    if await _lacks(real, TRUSTED):
        pytest.skip(f"this server has no trusted extension: the tests use {TRUSTED} of Debian's contrib")
    await real.create()
    await real.logins.set(real.id, passwords=PASSWORDS, version=1)
    await real.databases.create_extension(real.id, name=TRUSTED)
    dsn = f"{_dsn(real, 'app_a')} password=canary-app_a"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as app:
        await app.execute("CREATE TABLE people (name citext)")
        await app.execute("INSERT INTO people VALUES ('Ada')")
        cursor = await app.execute("SELECT count(*) FROM people WHERE name = 'ADA'")
        assert await cursor.fetchone() == (1,)
        for attempt in (
            "CREATE TABLE extensions.planted (id int)",
            "DROP EXTENSION citext",
            "ALTER EXTENSION citext UPDATE",
            "CREATE EXTENSION pgcrypto",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await app.execute(attempt)
    cursor = await admin.execute(
        "SELECT has_database_privilege('pipewright_owner', %s, 'CREATE')", [f"pw_{real.id}"]
    )
    assert await cursor.fetchone() == (False,)


async def test_an_extension_that_an_administrator_made_is_seen(
    real: World, tenant_server: Server, postgres_server: parts.Database
) -> None:
    real.server = tenant_server
    await real.create()
    assert await _extensions(real) == frozenset()
    name = "vector" if await _lacks(real, SUPERUSERS_ONLY) else SUPERUSERS_ONLY
    async with await psycopg.AsyncConnection.connect(
        postgres_server.admin_dsn, dbname=f"pw_{real.id}", autocommit=True
    ) as admin:
        await admin.execute("CREATE SCHEMA IF NOT EXISTS extensions")
        await admin.execute(f"CREATE EXTENSION {name} SCHEMA extensions")
    assert await _extensions(real) == {name}


async def test_a_broken_upgrade_stops_the_next_tenant_and_goes_on_when_it_is_mended(
    real: World, tenant_server: Server, platform_logins: Mapping[str, str], pools: Pools
) -> None:
    dsn = Secret(platform_logins["pipewright_provisioner"])
    registry = PostgresRegistry(pools, dsn=dsn, revision=f"t-{uuid4().hex[:8]}")
    place = facts.Server(name=f"s-{uuid4().hex[:8]}", region="eu", database_class="standard")
    first, second = [await registry.register(uid=str(uuid4()), name=n, servers=(place,)) for n in "ab"]
    ports = ProvisionerPorts(
        cluster=MemoryCluster(),
        registry=registry,
        databases=real.databases,
        logins=real.logins,
        dumps=MemoryDumps(MemoryServer()),
        secrets=MemorySecretStore(),
        grants=MemoryGrants(),
        data_keys=MemoryDataKeys(),
        sealer=HpkeSealer(base64.b64encode(bytes(range(32))).decode()),
        servers={},
    )
    for row in (first, second):
        await real.databases.create(row.id, uid=row.uid, connection_limit=1)
        await _set_back(tenant_server, row.id)
    info = schema.migrator(tenant_server.migrator_dsn, database=f"pw_{first.id}")
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as owner:
        await owner.execute("CREATE VIEW history.run_steps AS SELECT 1 AS in_the_way")
        with pytest.raises(errors.BackendError, match="42P07"):
            await perform(actions.MigrateDatabase(tenant_id=first.id), ports=ports)
        with pytest.raises(errors.Waiting, match="another tenant is upgraded first"):
            await perform(actions.MigrateDatabase(tenant_id=second.id), ports=ports)
        told = await registry.find(uid=second.uid)
        assert told
        assert told.rollout
        assert (told.rollout.state, told.rollout.name) == ("Failed", "a")
        assert "42P07" in told.rollout.reason
        metrics = Metrics()
        RolloutBook(metrics).saw(told.server, told.rollout)
        alerted = f'pipewright_schema_rollout{{server="{place.name}",state="Failed"}} 1.0'
        assert alerted in metrics.render().decode()
        await owner.execute("DROP VIEW history.run_steps")
    for row in (first, second):
        await perform(actions.MigrateDatabase(tenant_id=row.id), ports=ports)
        found = await real.databases.find(row.id)
        assert found
        assert found.current
        await real.databases.drop(row.id, uid=row.uid)


async def test_figures(real: World, capsys: pytest.CaptureFixture[str]) -> None:
    figures: list[str] = []

    async def timed(name: str, work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        figures.append(f"{name} {(time.perf_counter() - began) * 1000:.0f} ms")

    await timed("create", real.create())
    await timed("create again", real.create())
    await timed("migrate (current)", real.databases.migrate(real.id))
    await timed("set logins", real.logins.set(real.id, passwords=PASSWORDS, version=1))
    await timed("find", real.databases.find(real.id))
    await timed("disable", real.logins.disable(real.id, uid=real.uid))
    await timed("drop", real.databases.drop(real.id, uid=real.uid))
    with capsys.disabled():
        print(f"\n  a tenant's database: {', '.join(figures)}")
    assert len(figures) == 7


def _dsn(world: World, purpose: str) -> str:
    where = world.logins.connection(world.id)
    return (
        f"host={where.host} port={where.port} dbname={where.database} user={roles.login(world.id, purpose)}"
    )


async def test_a_database_passes_to_an_heir_with_nothing_else_changed(world: World) -> None:
    await world.create()
    await world.logins.set(world.id, passwords=PASSWORDS, version=3)
    await world.logins.disable(world.id, uid=world.uid)
    before = await world.databases.find(world.id)
    heir, old = str(uuid4()), world.uid
    with pytest.raises(errors.OwnedByOther, match=f"pw_{world.id} belongs to another Tenant"):
        await world.databases.hand_over(world.id, uid=heir, previous=(str(uuid4()),))
    assert await world.databases.find(world.id) == before
    for _ in range(2):
        await world.databases.hand_over(world.id, uid=heir, previous=(str(uuid4()), old))
    world.uid = heir
    assert before
    assert await world.databases.find(world.id) == replace(before, owner_uid=heir)
    with pytest.raises(errors.OwnedByOther):
        await world.databases.drop(world.id, uid=old)
    await world.logins.set(world.id, passwords=PASSWORDS, version=4)
    found = await world.databases.find(world.id)
    assert found
    assert {(login.enabled, login.version) for login in found.logins.values()} == {(True, 4)}


async def test_the_size_of_what_is_there_is_known(world: World) -> None:
    assert await world.databases.size(world.id) is None
    await world.create()
    assert (await world.databases.size(world.id) or 0) > 1_000_000
