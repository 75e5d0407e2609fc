"""Short-lived logins from a real Vault on a real PostgreSQL: what they may do, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from dev import parts, throwaway
from dev.problem import Problem
from dev.stack import Stack
from dev.vault import Vault
from pipewright import errors, names
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.backends.vault import VaultGrants, VaultSession
from pipewright.facts import DynamicLogins, DynamicTerms
from pipewright.store import roles

pytestmark = [
    pytest.mark.usefixtures("postgres_server"),
    pytest.mark.parametrize("postgres_server", ["own", throwaway.OLDER], indirect=True, scope="session"),
]

LOGINS = 3


@pytest.fixture(scope="session")
def connection(
    empty_stack: Stack, postgres_server: parts.Database, tenant_server: Server, vault_server: Vault
) -> str:
    """Vault's name for its connection to this server."""
    own = postgres_server == empty_stack.parts.database()
    folder = empty_stack.folder if own else empty_stack.folder.parent / throwaway.OLDER
    password = (folder / "logins" / "pipewright_vault.password").read_text()
    name = "own" if own else "older"
    vault_server.connect(
        name, host=postgres_server.host, port=postgres_server.port, user=roles.VAULT, password=password
    )
    return name


@dataclass(kw_only=True)
class Tenant:
    """A tenant with a database, as the provisioner made it, and Vault as root."""

    id: str
    uid: str
    databases: PostgresDatabases
    logins: PostgresLogins
    grants: VaultGrants
    vault: Vault
    admin_dsn: str = field(repr=False)
    terms: DynamicTerms

    async def open(self) -> None:
        """Vault makes logins, the database lets them in."""
        await self.grants.grant(self.id, namespaces=["a"], dynamic=self.terms)
        await self.grants.grant_database_role(self.id, self.terms)
        await self.logins.open_dynamic(self.id, uid=self.uid)

    def lend(self) -> dict[str, Any]:
        """A login as Vault gives it: `lease_id`, and `data` with `username` and `password`."""
        answer: dict[str, Any] = self.vault.call("GET", f"database/creds/{names.vault_role(self.id)}")
        return answer

    def end(self, lent: dict[str, Any]) -> None:
        """Give it back before its time."""
        self.vault.call("PUT", "sys/leases/revoke", {"lease_id": lent["lease_id"], "sync": True})

    async def connect(self, lent: dict[str, Any], *, database: str = "") -> psycopg.AsyncConnection:
        """A session of it."""
        where = self.logins.connection(self.id)
        return await psycopg.AsyncConnection.connect(
            host=where.host,
            port=where.port,
            dbname=database or where.database,
            user=lent["data"]["username"],
            password=lent["data"]["password"],
            autocommit=True,
            connect_timeout=5,
        )

    async def found(self) -> DynamicLogins | None:
        """What is seen of them."""
        database = await self.databases.find(self.id)
        assert database
        return database.dynamic


@asynccontextmanager
async def _tenant(server: Server, grants: VaultGrants, **more: Any) -> AsyncIterator[Tenant]:
    made = Tenant(
        id=roles.new_id(),
        uid=str(uuid4()),
        databases=PostgresDatabases(server),
        logins=PostgresLogins(server),
        grants=grants,
        **more,
    )
    await made.databases.create(made.id, uid=made.uid, connection_limit=20)
    yield made
    await made.databases.drop(made.id, uid=made.uid)
    await made.grants.revoke(made.id)


@pytest.fixture
async def two(
    tenant_server: Server,
    vault_server: Vault,
    vault_identities: Path,
    connection: str,
    postgres_server: parts.Database,
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    session = VaultSession(
        address=vault_server.address,
        role="pipewright-provisioner",
        jwt_file=vault_identities / "provisioner" / "vault.jwt",
    )
    grants = VaultGrants(session, mount="tenants", database="database")
    terms = DynamicTerms(server=connection, ttl=timedelta(minutes=10), logins=LOGINS, connection_limit=2)
    about = {"vault": vault_server, "admin_dsn": postgres_server.admin_dsn, "terms": terms}
    async with (
        _tenant(tenant_server, grants, **about) as one,
        _tenant(tenant_server, grants, **about) as other,
    ):
        yield one, other


@pytest.fixture
def tenant(two: tuple[Tenant, Tenant]) -> Tenant:
    return two[0]


@pytest.fixture
def neighbour(two: tuple[Tenant, Tenant]) -> Tenant:
    return two[1]


async def test_what_a_short_lived_login_makes_is_the_tenants(tenant: Tenant) -> None:
    await tenant.open()
    assert await tenant.found() == DynamicLogins(open=True, ended=0)
    lent = tenant.lend()
    assert lent["lease_duration"] == 600
    async with await tenant.connect(lent) as session:
        await session.execute("CREATE TABLE made (id int)")
        row = await (
            await session.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'made'")
        ).fetchone()
        assert row == (roles.app_owner(tenant.id),)
        await session.execute("SELECT count(*) FROM history.runs")
    tenant.end(lent)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await tenant.connect(lent)
    async with await tenant.connect(tenant.lend()) as session:
        await session.execute("INSERT INTO made VALUES (1)")


async def test_a_login_that_ends_is_dropped_with_its_sessions(tenant: Tenant) -> None:
    await tenant.open()
    lent = tenant.lend()
    session = await tenant.connect(lent)
    tenant.end(lent)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")
    await session.close()
    assert await tenant.found() == DynamicLogins(open=True, ended=0)
    async with await psycopg.AsyncConnection.connect(tenant.admin_dsn) as admin:
        cursor = await admin.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = %s", [lent["data"]["username"]]
        )
        assert await cursor.fetchone() == (0,)


async def test_a_login_has_nothing_of_a_neighbour_or_of_the_platform(
    tenant: Tenant, neighbour: Tenant
) -> None:
    await tenant.open()
    await neighbour.open()
    lent = tenant.lend()
    other = roles.database(neighbour.id)
    for database in (other, roles.PLATFORM, "postgres", roles.TEMPLATE):
        with pytest.raises(psycopg.OperationalError, match=r"permission denied|not currently accepting"):
            await tenant.connect(lent, database=database)
    async with await tenant.connect(lent) as session:
        for refused in (
            f"SET ROLE {roles.app_owner(neighbour.id)}",
            f"SET ROLE {roles.dynamic_group(neighbour.id)}",
            f"SET ROLE {roles.VAULT}",
            f"SET ROLE {roles.OWNER}",
            "CREATE ROLE planted",
            f"GRANT {roles.dynamic_group(tenant.id)} TO {roles.app_owner(neighbour.id)}",
            f"ALTER DATABASE {roles.database(tenant.id)} OWNER TO {roles.app_owner(tenant.id)}",
            "SELECT * FROM pipewright.runs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await session.execute(refused)


async def test_no_more_live_at_once_than_the_tenant_may_have(tenant: Tenant) -> None:
    await tenant.open()
    lent = [tenant.lend() for _ in range(LOGINS)]
    with pytest.raises(Problem, match="3 short-lived logins live already"):
        tenant.lend()
    tenant.end(lent[0])
    sessions = [await tenant.connect(login) for login in (tenant.lend(), lent[1], lent[1])]
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        await tenant.connect(lent[1])
    for session in sessions:
        await session.close()


async def test_what_depends_on_a_login_keeps_it_locked_until_it_is_dropped(tenant: Tenant) -> None:
    await tenant.open()
    lent = tenant.lend()
    name = lent["data"]["username"]
    async with await tenant.connect(lent) as session:
        await session.execute("CREATE TABLE made (id int)")
        await session.execute(f'GRANT SELECT ON made TO "{name}"')
        await session.execute("SET ROLE NONE")
        await session.execute("SELECT lo_create(0)")
    tenant.end(lent)
    with pytest.raises(psycopg.OperationalError, match=r"not permitted to log in|authentication failed"):
        await tenant.connect(lent)
    assert await tenant.found() == DynamicLogins(open=True, ended=1)
    with pytest.raises(errors.OwnedByOther):
        await tenant.logins.drop_ended(tenant.id, uid=str(uuid4()))
    for _ in range(2):
        await tenant.logins.drop_ended(tenant.id, uid=tenant.uid)
    assert await tenant.found() == DynamicLogins(open=True, ended=0)
    async with await tenant.connect(tenant.lend()) as session:
        await session.execute("SELECT * FROM made")
        cursor = await session.execute("SELECT lomowner::regrole::text FROM pg_largeobject_metadata")
        assert await cursor.fetchall() == [(roles.app_owner(tenant.id),)]


@pytest.mark.parametrize("way", ["close_dynamic", "suspend", "disable"])
async def test_a_database_that_is_closed_lets_none_in_and_ends_their_sessions(
    tenant: Tenant, way: str
) -> None:
    await tenant.open()
    lent = tenant.lend()
    session = await tenant.connect(lent)
    with pytest.raises(errors.OwnedByOther):
        await getattr(tenant.logins, way)(tenant.id, uid=str(uuid4()))
    await session.execute("SELECT 1")
    for _ in range(2):
        await getattr(tenant.logins, way)(tenant.id, uid=tenant.uid)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")
    await session.close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        await tenant.connect(lent)
    assert await tenant.found() == DynamicLogins(open=False, ended=0)
    for _ in range(2):
        await tenant.logins.open_dynamic(tenant.id, uid=tenant.uid)
    async with await tenant.connect(lent) as again:
        await again.execute("SELECT 1")


async def test_a_dropped_database_takes_its_logins_with_it_and_vault_forgets_them(tenant: Tenant) -> None:
    await tenant.open()
    lent = tenant.lend()
    session = await tenant.connect(lent)
    await session.execute("CREATE TABLE made (id int)")
    await tenant.databases.drop(tenant.id, uid=tenant.uid)
    await session.close()
    async with await psycopg.AsyncConnection.connect(tenant.admin_dsn) as admin:
        cursor = await admin.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname IN (%s, %s)",
            [lent["data"]["username"], roles.dynamic_group(tenant.id)],
        )
        assert await cursor.fetchone() == (0,)
    tenant.end(lent)


async def test_the_group_passes_to_an_heir(tenant: Tenant) -> None:
    await tenant.open()
    heir = str(uuid4())
    await tenant.databases.hand_over(tenant.id, uid=heir, previous=[tenant.uid])
    with pytest.raises(errors.OwnedByOther):
        await tenant.logins.open_dynamic(tenant.id, uid=tenant.uid)
    await tenant.logins.open_dynamic(tenant.id, uid=heir)
    tenant.uid = heir


async def test_the_provisioner_is_in_no_login(tenant: Tenant, postgres_server: parts.Database) -> None:
    await tenant.open()
    lent = tenant.lend()
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn) as admin:
        if admin.info.server_version < 160000:
            pytest.skip("on 15 CREATEROLE reaches every role anyway")
        for role in (roles.PROVISIONER, roles.VAULT):
            for other in (lent["data"]["username"], roles.dynamic_group(tenant.id)):
                cursor = await admin.execute(
                    "SELECT pg_has_role(%s, %s, 'USAGE'), pg_has_role(%s, %s, 'SET')", [role, other] * 2
                )
                assert await cursor.fetchone() == (False, False), (role, other)
