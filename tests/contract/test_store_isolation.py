"""Who may do what (design §2a), tried on the real server with each login. What is not granted is refused."""

from collections.abc import AsyncIterator, Mapping

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from dev import parts, throwaway
from pipewright.backends.postgres import Server
from pipewright.ports import LOGINS
from pipewright.store import roles, schema

pytestmark = [
    pytest.mark.usefixtures("postgres_server"),
    pytest.mark.parametrize("postgres_server", ["own", throwaway.OLDER], indirect=True, scope="session"),
]

HISTORY = (
    "actors", "runs", "jobs", "artifacts", "deliveries", "events", "lines", "predictions", "decisions",
    "outbox", "erasures", "duration_forecasts", "failure_causes",
)  # fmt: skip
JOURNAL = ("workflow_runs", "run_steps", "trainings")
ROLLUPS = (
    "changes", "hourly_runs", "daily_runs", "hourly_jobs", "daily_jobs", "daily_runners", "daily_projects",
    "red_spells", "red_commits", "flaky_jobs", "runner_prices",
)  # fmt: skip
VIEWS = (
    "runs", "jobs", "artifacts", "predictions", "decisions", "workflow_runs", "run_steps", "hourly_runs",
    "failure_trend", "failing_jobs", "team_productivity", "red_spells", "mttr", "red_commits",
    "time_to_green", "flaky_commits", "flaky_jobs", "runner_prices", "runner_cost", "rollup_lag",
    "duration_forecasts", "failure_causes",
)  # fmt: skip
EVERY_TABLE = (*HISTORY, *JOURNAL, *ROLLUPS, "schema_version")


async def refused(conn: psycopg.AsyncConnection, statement: str) -> None:
    try:
        await conn.execute(statement)
    except InsufficientPrivilege:
        return
    pytest.fail(f"not refused: {statement}")


@pytest.fixture
async def admin(postgres_server: parts.Database) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(
        postgres_server.admin_dsn, autocommit=True
    ) as connection:
        yield connection


# --- doors ----------------------------------------------------------------------------------------------


async def test_no_database_of_the_server_is_open_to_public(admin: psycopg.AsyncConnection, place) -> None:
    cursor = await admin.execute(
        "SELECT datname FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT, TEMPORARY')"
    )
    assert await cursor.fetchall() == []


@pytest.mark.parametrize("purpose", LOGINS)
@pytest.mark.parametrize(
    "door", ["the other tenant's", "postgres", "template1", "pipewright", "pipewright_template"]
)
async def test_a_tenants_login_opens_its_own_database_only(
    place, fresh_place, purpose: str, door: str
) -> None:
    async with place.connect(purpose) as conn:
        assert (await (await conn.execute("SELECT current_database()")).fetchone()) == (f"pw_{place.id}",)
    database = roles.database(fresh_place.id) if door.startswith("the other") else door
    with pytest.raises(psycopg.OperationalError, match=r"permission denied|not currently accepting"):
        async with place.connect(purpose, database=database):
            pass


@pytest.mark.parametrize("login", ["pipewright_runner", "pipewright_gateway"])
@pytest.mark.parametrize("door", ["tenant", "postgres", "template1", "pipewright_template"])
async def test_a_component_opens_the_platform_database_only(
    platform_logins: Mapping[str, str], place, login: str, door: str
) -> None:
    database = f"pw_{place.id}" if door == "tenant" else door
    dsn = psycopg.conninfo.make_conninfo(platform_logins[login], dbname=database)
    with pytest.raises(psycopg.OperationalError, match=r"permission denied|not currently accepting"):
        await psycopg.AsyncConnection.connect(dsn)


async def test_nobody_connects_to_the_template(admin: psycopg.AsyncConnection) -> None:
    cursor = await admin.execute(
        "SELECT datallowconn, datistemplate FROM pg_database WHERE datname = 'pipewright_template'"
    )
    assert await cursor.fetchone() == (False, True)


async def test_there_is_no_schema_public_to_leave_things_in(place) -> None:
    async with place.connect("app_a") as conn:
        assert await (await conn.execute("SELECT to_regnamespace('public')")).fetchone() == (None,)


# --- a tenant's own logins ------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["app_a", "app_b", "readonly"])
async def test_a_tenant_reads_no_table_of_ours(place, purpose: str) -> None:
    async with place.connect(purpose) as conn:
        for table in EVERY_TABLE:
            await refused(conn, f"SELECT * FROM pipewright.{table}")


@pytest.mark.parametrize("purpose", ["app_a", "app_b", "readonly"])
async def test_a_tenant_reads_its_history_through_views(place, purpose: str) -> None:
    async with place.connect(purpose) as conn:
        for view in VIEWS:
            await conn.execute(f"SELECT * FROM history.{view}")
            writes = await conn.execute(
                "SELECT has_table_privilege(%s, 'INSERT, UPDATE, DELETE, TRUNCATE')", [f"history.{view}"]
            )
            assert await writes.fetchone() == (False,), view
            await refused(conn, f"DROP VIEW history.{view}")


async def test_no_view_shows_a_persons_login(place) -> None:
    async with place.connect("readonly") as conn:
        cursor = await conn.execute(
            "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " WHERE relnamespace = 'history'::regnamespace AND attname IN ('login', 'body', 'headers')"
        )
        assert await cursor.fetchall() == []


async def test_what_either_app_login_makes_belongs_to_the_owner_and_both_use_it(place) -> None:
    async with place.connect("app_a") as a, place.connect("app_b") as b, place.connect("readonly") as reader:
        await a.execute("CREATE TABLE app.orders (id int)")
        await a.execute("INSERT INTO orders VALUES (1)")
        await b.execute("INSERT INTO orders VALUES (2)")
        await b.execute("ALTER TABLE orders ADD note text")
        cursor = await b.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'")
        assert await cursor.fetchone() == (f"pw_{place.id}_app",)
        assert await (await reader.execute("SELECT count(*) FROM app.orders")).fetchone() == (2,)
        await refused(reader, "INSERT INTO app.orders VALUES (3)")
        await refused(reader, "CREATE TABLE app.more (id int)")
        await b.execute("DROP TABLE orders")


async def test_an_app_login_that_gives_up_the_owners_role_has_no_right_left(place) -> None:
    async with place.connect("app_a") as conn:
        await conn.execute("SET ROLE NONE")
        await refused(conn, "CREATE TABLE app.mine (id int)")
        await refused(conn, "SELECT * FROM history.runs")


@pytest.mark.parametrize("purpose", LOGINS)
async def test_no_login_of_a_tenants_database_changes_more_than_rows(place, purpose: str) -> None:
    async with place.connect(purpose) as conn:
        for statement in (
            "CREATE SCHEMA mine",
            "CREATE TABLE pipewright.mine (id int)",
            "CREATE TABLE history.mine (id int)",
            "ALTER TABLE pipewright.runs ADD note text",
            "DROP TABLE pipewright.runs",
            "TRUNCATE pipewright.runs",
            "CREATE DATABASE mine",
            "CREATE ROLE mine",
            "SET ROLE pipewright_owner",
            "SET ROLE pipewright_provisioner",
            "SET ROLE pipewright_maker_a",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_read_file('PG_VERSION')",
        ):
            await refused(conn, statement)


@pytest.mark.parametrize("purpose", LOGINS)
async def test_no_login_acts_as_another_tenants_role(place, fresh_place, purpose: str) -> None:
    async with place.connect(purpose) as conn:
        await refused(conn, f"SET ROLE pw_{fresh_place.id}_app")
        await refused(conn, f"GRANT pw_{fresh_place.id}_app TO CURRENT_USER")
        await refused(conn, f"ALTER ROLE pw_{fresh_place.id}_app_a PASSWORD 'x'")


# --- the two planes' logins -----------------------------------------------------------------------------


async def test_the_gateways_login_writes_history_and_reads_the_journal(place) -> None:
    async with place.connect("ingest") as conn:
        for table in (*HISTORY, *JOURNAL):
            await conn.execute(f"SELECT * FROM pipewright.{table}")
        await conn.execute("SELECT pipewright.ensure_events_partition('2026-03-01')")
        for table in HISTORY:
            await refused(conn, f"DELETE FROM pipewright.{table}")
        for table in JOURNAL:
            for statement in ("INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}"):
                await refused(conn, statement.format(f"pipewright.{table}"))


async def test_the_runners_login_writes_the_journal_and_reads_history_without_people(place) -> None:
    async with place.connect("runner") as conn:
        for table in (*JOURNAL, "runs", "jobs", "deliveries", "lines", "predictions", "decisions", "outbox"):
            await conn.execute(f"SELECT * FROM pipewright.{table}")
        await conn.execute("SELECT id, surrogate FROM pipewright.actors")
        await refused(conn, "SELECT login FROM pipewright.actors")
        await refused(conn, "SELECT body FROM pipewright.events")
        await refused(conn, "SELECT pipewright.ensure_events_partition('2026-03-01')")
        for table in HISTORY:
            await refused(conn, f"INSERT INTO pipewright.{table} DEFAULT VALUES")
            await refused(conn, f"DELETE FROM pipewright.{table}")
        await conn.execute("DELETE FROM pipewright.trainings WHERE false")


async def test_no_login_writes_rollups_but_by_their_refresh(place) -> None:
    async with place.connect("ingest") as conn:
        for table in ROLLUPS[:-1]:
            for statement in (
                "INSERT INTO {} DEFAULT VALUES",
                "DELETE FROM {}",
                "UPDATE {} SET integration = null",
            ):
                await refused(conn, statement.format(f"pipewright.{table}"))
        await refused(conn, "SELECT pipewright.refresh_runs('{}')")
        await conn.execute("SELECT pipewright.refresh_rollups(1)")
    for purpose in ("readonly", "app_a", "runner"):
        async with place.connect(purpose) as conn:
            await refused(conn, "SELECT pipewright.refresh_rollups(1)")


async def test_the_partition_function_cannot_be_bent_by_a_search_path(place) -> None:
    async with place.connect("ingest") as conn:
        await conn.execute("CREATE TEMPORARY TABLE pg_class (relname text)")
        await conn.execute(
            "CREATE FUNCTION pg_temp.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT 1'"
        )
        await conn.execute("SET search_path = pg_temp, pg_catalog")
        await conn.execute("SELECT pipewright.ensure_events_partition('2027-01-01')")
        cursor = await conn.execute("SELECT to_regclass('pipewright.events_20270101') IS NOT NULL")
        assert await cursor.fetchone() == (True,)


# --- the provisioner and the migrator -------------------------------------------------------------------


async def test_the_provisioner_reads_a_databases_version_and_nothing_else(
    tenant_server: Server, place
) -> None:
    async with place.connect("app_a") as app:
        await app.execute("CREATE TABLE IF NOT EXISTS app.secrets (id int)")
    dsn = psycopg.conninfo.make_conninfo(tenant_server.provisioner_dsn.reveal(), dbname=f"pw_{place.id}")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        for table in (*HISTORY, *JOURNAL):
            await refused(conn, f"SELECT * FROM pipewright.{table}")
        assert await schema.version(conn) == schema.head("tenant")
        await refused(conn, "UPDATE pipewright.schema_version SET version_num = 't0001'")
        await refused(conn, "CREATE TABLE pipewright.planted (id int)")
        await refused(conn, "SELECT * FROM history.runs")
        await refused(conn, "SELECT * FROM app.secrets")
        for role in (f"pw_{place.id}_app", "pipewright_ingest", "pipewright_reader", "pipewright_owner"):
            await refused(conn, f"SET ROLE {role}")


async def test_after_hand_over_the_provisioner_is_member_of_no_tenants_role(
    admin: psycopg.AsyncConnection, place
) -> None:
    cursor = await admin.execute(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE %s"
        " AND pg_has_role('pipewright_provisioner', oid, 'USAGE')",
        [f"pw_{place.id}%"],
    )
    assert await cursor.fetchall() == []


async def test_no_login_of_ours_is_a_superuser(admin: psycopg.AsyncConnection) -> None:
    cursor = await admin.execute(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE ANY (ARRAY['pipewright%', 'pw%'])"
        " AND (rolsuper OR rolreplication OR rolbypassrls)"
    )
    assert await cursor.fetchall() == []
    cursor = await admin.execute(
        "SELECT rolname FROM pg_roles WHERE rolcreatedb AND rolname LIKE ANY (ARRAY['pipewright%', 'pw%'])"
    )
    assert await cursor.fetchall() == [(roles.PROVISIONER,)]
    cursor = await admin.execute(
        "SELECT rolname, rolcanlogin FROM pg_roles"
        " WHERE rolcreaterole AND rolname LIKE ANY (ARRAY['pipewright%', 'pw%'])"
    )
    makers = dict.fromkeys(roles.MAKERS.values(), False)
    assert dict(await cursor.fetchall()) == {roles.VAULT: True, **makers}


async def test_the_migrator_owns_nothing_and_without_its_role_reads_nothing(
    admin: psycopg.AsyncConnection, tenant_server: Server, place
) -> None:
    dsn = psycopg.conninfo.make_conninfo(tenant_server.migrator_dsn.reveal(), dbname=f"pw_{place.id}")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        await refused(conn, "SELECT * FROM pipewright.runs")
        cursor = await conn.execute(
            "SELECT count(*) FROM pg_shdepend"
            " WHERE refobjid = 'pipewright_migrator'::regrole AND deptype = 'o'"
        )
        assert await cursor.fetchone() == (0,)


async def test_the_migrator_acting_as_the_owner_does_not_reach_the_tenants_schema(
    tenant_server: Server, place
) -> None:
    info = schema.migrator(tenant_server.migrator_dsn, database=f"pw_{place.id}")
    async with await psycopg.AsyncConnection.connect(info, autocommit=True) as conn:
        await conn.execute("SELECT * FROM pipewright.runs")
        await refused(conn, "CREATE TABLE app.mine (id int)")
        await refused(conn, "CREATE SCHEMA mine")


# --- the platform database ------------------------------------------------------------------------------

PLATFORM_TABLES = (
    "registry",
    "registry_namespaces",
    "rollouts",
    "upkeep",
    "audit",
    "routes",
    "webhook_registrations",
    "triggers",
    "model_pointers",
)

WRITES: Mapping[str, Mapping[str, str]] = {
    "provisioner": {
        "registry": "SIU",
        "registry_namespaces": "SID",
        "rollouts": "SIU",
        "upkeep": "SIU",
        "audit": "i",
    },
    "runner": {
        "registry": "s",
        "registry_namespaces": "S",
        "routes": "SIUD",
        "webhook_registrations": "SIUD",
        "triggers": "SIUD",
        "model_pointers": "SIUD",
    },
    "gateway": {
        "registry": "S",
        "registry_namespaces": "S",
        "routes": "S",
        "triggers": "S",
        "model_pointers": "S",
    },
    "migrator": {},
}
"""Component → table → Select, Insert, Update, Delete; a small letter: some columns only."""


@pytest.mark.parametrize("component", WRITES)
async def test_the_platform_database_grants_exactly_what_the_design_says(
    platform: Mapping[str, psycopg.AsyncConnection], component: str
) -> None:
    granted = {table: await granted_on(table, platform[component], component) for table in PLATFORM_TABLES}
    assert {table: letters for table, letters in granted.items() if letters} == WRITES[component]


async def granted_on(table: str, conn: psycopg.AsyncConnection, component: str) -> str:
    granted = ""
    for letter, privilege in {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}.items():
        name = f"pipewright_{component}"
        whole = await conn.execute(
            "SELECT has_table_privilege(%s, c.oid, %s), c.oid FROM pg_class c"
            " WHERE relname = %s AND relnamespace = 'pipewright'::regnamespace",
            [name, privilege, table],
        )
        row = await whole.fetchone()
        assert row
        if row[0]:
            granted += letter
        elif privilege != "DELETE":
            some = await conn.execute(
                "SELECT has_any_column_privilege(%s, %s::oid, %s)", [name, row[1], privilege]
            )
            granted += letter.lower() if await some.fetchone() == (True,) else ""
    return granted


async def test_the_runner_never_sees_what_is_sealed_for_the_gateway(
    platform: Mapping[str, psycopg.AsyncConnection],
) -> None:
    await platform["runner"].execute(
        "SELECT id, uid, name, server, state, bundle_version FROM pipewright.registry"
    )
    await refused(platform["runner"], "SELECT bundle FROM pipewright.registry")


async def test_the_audit_trail_names_the_login_and_cannot_be_bent(
    platform: Mapping[str, psycopg.AsyncConnection],
    admin: psycopg.AsyncConnection,
    platform_logins: Mapping[str, str],
) -> None:
    provisioner = platform["provisioner"]
    await provisioner.execute(
        "INSERT INTO pipewright.audit (tenant_id, action, phase) VALUES ('x', 'Try', 'done')"
    )
    for statement in (
        "INSERT INTO pipewright.audit (actor, action, phase) VALUES ('somebody', 'Try', 'done')",
        "UPDATE pipewright.audit SET detail = ''",
        "DELETE FROM pipewright.audit",
        "SELECT * FROM pipewright.audit",
        "TRUNCATE pipewright.audit",
    ):
        await refused(provisioner, statement)
