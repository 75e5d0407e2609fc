"""A tenant's logins against PostgreSQL: other databases, other roles, the server, and our own sessions.

The control of each statement is the same statement by the superuser in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import conninfo

from pipewright.backends.postgres import PostgresDatabases, Server
from pipewright.ports import Connection, Secret
from pipewright.records import RunRecord
from pipewright.store import connect, decisions, history, journal, pools
from pipewright.store.records import WorkflowRun


@pytest.fixture
def admin(scene: Any) -> Iterator[psycopg.Connection[Any]]:
    """The superuser, in the intruder's database."""
    dsn = conninfo.make_conninfo(scene.stack.parts.database().admin_dsn, dbname=f"pw_{scene.a.id}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


STATEMENTS = {
    "acts as the neighbour's owner": "SET ROLE {victim}_app",
    "acts as the neighbour's login": "SET SESSION AUTHORIZATION {victim}_app_a",
    "acts as the neighbour's owner, quoted": 'SET ROLE "{victim}_app"',
    "acts as the platform's owner": "SET ROLE pipewright_owner",
    "acts as the provisioner": "SET ROLE pipewright_provisioner",
    "acts as a maker of roles": "SET ROLE pipewright_maker_a",
    "acts as the migrator": "SET SESSION AUTHORIZATION pipewright_migrator",
    "acts as its own runner login": "SET ROLE {own}_runner",
    "acts as its own ingest login": "SET ROLE {own}_ingest",
    "acts as the neighbour's short-lived logins": "SET ROLE {victim}_dynamic",
    "acts as the maker of short-lived logins": "SET ROLE pipewright_vault",
    "joins the neighbour's short-lived logins": "GRANT {victim}_dynamic TO {own}_app",
    "joins the neighbour's owner": "GRANT {victim}_app TO {own}_app",
    "joins the group that writes history": "GRANT pipewright_ingest TO {own}_app",
    "joins pg_read_all_data": "GRANT pg_read_all_data TO {own}_app",
    "makes a role": "CREATE ROLE planted LOGIN",
    "makes a role with a quoted name": 'CREATE ROLE "pw_x; DROP ROLE y" LOGIN',
    "sets the neighbour's password": "ALTER ROLE {victim}_app_a PASSWORD 'x'",
    "sets its runner login's password": "ALTER ROLE {own}_runner PASSWORD 'x'",
    "lifts its connection limit": "ALTER ROLE {own}_app_a CONNECTION LIMIT -1",
    "bends the search path of its runner login": "ALTER ROLE {own}_runner SET search_path = app",
    "bends the search path of the migrator": "ALTER ROLE pipewright_migrator SET search_path = app",
    "bends the search path of its database": "ALTER DATABASE {own} SET search_path = app, pg_catalog",
    "bends the search path of the server": "ALTER ROLE ALL SET search_path = app",
    "renames its database": "ALTER DATABASE {own} CONNECTION LIMIT 1000",
    "gives itself its database": "ALTER DATABASE {own} OWNER TO {own}_app",
    "makes a schema": "CREATE SCHEMA planted",
    "makes a table among ours": "CREATE TABLE pipewright.planted (id int)",
    "makes a function in the catalog": (
        "CREATE FUNCTION pg_catalog.planted() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ),
    "makes a function among ours": (
        "CREATE FUNCTION pipewright.now() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ),
    "makes a function in the view's schema": (
        "CREATE FUNCTION history.now() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ),
    "hangs a trigger on a table of ours": (
        "CREATE TRIGGER planted BEFORE INSERT ON pipewright.runs"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "makes a rule on a table of ours": "CREATE RULE planted AS ON INSERT TO pipewright.runs DO NOTHING",
    "replaces a view of ours": "DROP VIEW history.runs CASCADE",
    "reads a table behind the views": "SELECT * FROM pipewright.events",
    "hangs a trigger on all commands": (
        "CREATE EVENT TRIGGER planted ON ddl_command_end EXECUTE FUNCTION app_trap()"
    ),
    "runs a program": "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
    "reads by a program": "COPY app.loot FROM PROGRAM 'true'",
    "writes a file": "COPY (SELECT 1) TO '/dev/null'",
    "reads a file": "SELECT pg_read_file('PG_VERSION')",
    "reads a file as bytes": "SELECT pg_read_binary_file('PG_VERSION')",
    "lists a directory": "SELECT pg_ls_dir('.')",
    "imports a file as a large object": "SELECT lo_import('PG_VERSION')",
    "exports a large object": "SELECT lo_export(4242, '/dev/null')",
    "reads all password verifiers": "SELECT rolpassword FROM pg_authid",
    "reads pg_shadow": "SELECT * FROM pg_shadow",
    "reads settings of the server's files": "SELECT * FROM pg_file_settings",
    "reads pg_hba": "SELECT * FROM pg_hba_file_rules",
    "changes the server's settings": "SET log_min_duration_statement = 0",
    "loads a library": "SET session_preload_libraries = 'x'",
    "signals the server": "SELECT pg_reload_conf()",
    "rotates the log": "SELECT pg_rotate_logfile()",
    "makes a server for foreign tables": "CREATE SERVER planted FOREIGN DATA WRAPPER nothing",
    "makes a subscription": (
        "CREATE SUBSCRIPTION planted CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)"
    ),
    "makes an untrusted language function": (
        "CREATE FUNCTION app.c() RETURNS int LANGUAGE c AS 'libc', 'getpid'"
    ),
    "makes an internal function": ("CREATE FUNCTION app.i(text) RETURNS int LANGUAGE internal AS 'textlen'"),
    "makes a database": "CREATE DATABASE planted",
    "drops the neighbour's database": "DROP DATABASE {victim}",
}
OUTSIDE_OF_TRANSACTIONS = {"makes a database", "drops the neighbour's database"}


@pytest.fixture(scope="module")
def lent(scene: Any) -> dict[str, str]:
    """A short-lived login of the intruder's, by its own token of Vault."""
    token = scene.vault.login(scene.a.status["vault"]["role"], scene.a.vault_jwt)
    answer = scene.vault.call("GET", scene.a.status["vault"]["credentials"], token=token)
    return {"user": answer["data"]["username"], "password": answer["data"]["password"]}


@pytest.fixture(scope="module", autouse=True)
def trap(scene: Any) -> None:
    """What statements of the table refer to."""
    with scene.a.connect() as own:
        own.execute("CREATE TABLE IF NOT EXISTS app.loot (line text)")


def prepared(admin: psycopg.Connection[Any], sentence: str, statement: str) -> str:
    """The control's form of statements that need a partner to exist."""
    if sentence == "hangs a trigger on all commands":
        admin.execute("CREATE FUNCTION app.app_trap() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
        return statement.replace("app_trap", "app.app_trap")
    if sentence == "makes a server for foreign tables":
        admin.execute("CREATE FOREIGN DATA WRAPPER nothing")
    if sentence == "exports a large object":
        admin.execute("SELECT lo_create(4242)")
    if sentence == "loads a library":
        return statement.replace("'x'", "''")
    if sentence == "makes an untrusted language function":
        return statement.replace("'libc', 'getpid'", "'plpgsql', 'plpgsql_call_handler'").replace(
            "'plpgsql'", "'$libdir/plpgsql'"
        )
    return statement


@pytest.mark.parametrize("sentence", STATEMENTS)
@pytest.mark.parametrize(
    "login", ["app", "its bare login", "a short-lived login", "its bare short-lived login"]
)
def test_postgres_refuses(
    scene: Any, admin: psycopg.Connection[Any], lent: dict[str, str], sentence: str, login: str
) -> None:
    statement = STATEMENTS[sentence].format(own=f"pw_{scene.a.id}", victim=f"pw_{scene.victim.id}")
    with scene.a.connect(**(lent if "short-lived" in login else {})) as own:
        if "bare" in login:
            own.execute("SET ROLE NONE")
        if sentence == "hangs a trigger on all commands":
            own.execute("SET ROLE " + f"pw_{scene.a.id}_app")
            own.execute(
                "CREATE OR REPLACE FUNCTION app.app_trap() RETURNS event_trigger"
                " LANGUAGE plpgsql AS 'BEGIN END'"
            )
        if sentence == "makes a server for foreign tables":
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute("CREATE FOREIGN DATA WRAPPER nothing")
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement)
        if sentence == "hangs a trigger on all commands":
            own.execute("DROP FUNCTION app.app_trap()")
    if sentence not in OUTSIDE_OF_TRANSACTIONS:
        with admin.transaction(force_rollback=True):
            admin.execute(prepared(admin, sentence, statement))
    scene.tried.append((f"{login}: {sentence}", "PostgreSQL"))


@pytest.mark.parametrize("neighbour", ["ab", "a-b"])
def test_no_login_opens_a_neighbours_database(scene: Any, lent: dict[str, str], neighbour: str) -> None:
    other = scene.places[neighbour]
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        scene.a.connect(dbname=other.secret["dbname"])
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        scene.a.connect(dbname=other.secret["dbname"], user=other.secret["user"])
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        scene.a.connect(dbname=other.secret["dbname"], **lent)
    with other.connect() as theirs:
        assert theirs.execute("SELECT 1").fetchone() == (1,)
    scene.tried.append((f"app: connects to the database of {neighbour}", "PostgreSQL"))


@pytest.mark.parametrize("name", ["postgres", "template1", "pipewright", "pipewright_template"])
def test_no_login_opens_a_database_of_the_platform(scene: Any, lent: dict[str, str], name: str) -> None:
    for who in ({}, lent):
        with pytest.raises(psycopg.OperationalError, match=r"permission denied|not currently accepting"):
            scene.a.connect(dbname=name, **who)
    scene.tried.append((f"app: connects to {name}", "PostgreSQL"))


@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
def test_nobody_ends_a_neighbours_session_or_reads_its_statements(
    scene: Any, admin: psycopg.Connection[Any], function: str
) -> None:
    with scene.victim.connect() as theirs, scene.a.connect() as own:
        theirs.execute("SELECT 'canary-of-the-neighbour'")
        pid = theirs.info.backend_pid
        seen = own.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert seen == ("<insufficient privilege>",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(f"SELECT {function}(%s)", [pid])
        assert theirs.execute("SELECT 1").fetchone() == (1,)
        assert admin.execute(f"SELECT {function}(%s)", [pid]).fetchone() == (True,)
    scene.tried.append((f"app: {function} of a neighbour's session", "PostgreSQL"))


def test_no_extension_is_installed_by_a_tenant(scene: Any, admin: psycopg.Connection[Any]) -> None:
    found = admin.execute(
        "SELECT DISTINCT name FROM pg_available_extension_versions WHERE NOT installed ORDER BY name"
    ).fetchall()
    assert found, "the server offers no extension at all, and nothing was tried"
    for (name,) in found:
        with scene.a.connect() as own, pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(f'CREATE EXTENSION "{name}" SCHEMA app')
        scene.tried.append((f"app: installs the extension {name}", "PostgreSQL"))
    with admin.transaction(force_rollback=True):
        admin.execute(f'CREATE EXTENSION "{found[0][0]}" SCHEMA app')


PLANTED = """
CREATE TABLE app.sprung (who text);
GRANT ALL ON app.sprung TO PUBLIC;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.spring() RETURNS void LANGUAGE sql AS 'INSERT INTO app.sprung VALUES (session_user)';
CREATE FUNCTION app.same(name, name) RETURNS bool LANGUAGE sql AS
    'INSERT INTO app.sprung VALUES (session_user); SELECT true';
CREATE FUNCTION app.same(text, text) RETURNS bool LANGUAGE sql AS
    'INSERT INTO app.sprung VALUES (session_user); SELECT true';
CREATE OPERATOR app.= (LEFTARG = name, RIGHTARG = name, FUNCTION = app.same);
CREATE OPERATOR app.= (LEFTARG = text, RIGHTARG = text, FUNCTION = app.same);
CREATE FUNCTION app.now() RETURNS timestamptz LANGUAGE sql AS
    'INSERT INTO app.sprung VALUES (session_user); SELECT pg_catalog.now()';
CREATE TABLE app.schema_version (version_num text);
"""


@pytest.fixture
def planted(scene: Any) -> Iterator[psycopg.Connection[Any]]:
    """The trap, proved to spring in a session with a bent path, and set again."""
    with scene.a.connect() as own:
        own.execute("DROP TABLE IF EXISTS app.sprung, app.schema_version")
        own.execute(PLANTED)
        own.execute("SET search_path = app, pg_catalog")
        own.execute("SELECT now(), 'a'::text = 'b'::text")
        assert own.execute("SELECT count(*) > 0 FROM app.sprung").fetchone() == (True,)
        own.execute("TRUNCATE app.sprung")
        yield own
        own.execute("RESET search_path")
        own.execute("DROP TABLE app.sprung, app.schema_version CASCADE")
        own.execute("DROP FUNCTION app.spring, app.now CASCADE")
        own.execute("DROP FUNCTION app.same(name, name), app.same(text, text) CASCADE")
        own.execute("REVOKE USAGE ON SCHEMA app FROM PUBLIC")


async def test_what_a_tenant_plants_never_runs_in_a_session_of_the_provisioner(
    scene: Any, planted: psycopg.Connection[Any]
) -> None:
    """cloudnative-pg#10774: operators and functions before the catalog's, and a bent search path."""
    folder = scene.stack.folder / "identities" / "provisioner"
    database = scene.stack.parts.database()
    server = Server(
        name="main",
        host=database.host,
        port=database.port,
        provisioner_dsn=Secret((folder / "server.dsn").read_text()),
        migrator_dsn=Secret((folder / "migrator.dsn").read_text()),
    )
    databases = PostgresDatabases(server)
    found = await databases.find(scene.a.id)
    assert found is not None
    assert found.current
    await databases.migrate(scene.a.id)
    await databases.create(scene.a.id, uid=str(found.owner_uid), connection_limit=20)
    assert planted.execute("SELECT DISTINCT who FROM app.sprung").fetchall() == []
    info = connect.conninfo(server.migrator_dsn, dbname=f"pw_{scene.a.id}")
    with psycopg.connect(info) as migrator:
        assert migrator.execute("SHOW search_path").fetchone() == ("pg_catalog",)
    scene.tried.append(("app: plants operators and functions for the provisioner's sessions", "PostgreSQL"))


@pytest.mark.parametrize("login", ["runner", "ingest"])
async def test_what_a_tenant_plants_never_runs_in_a_session_with_its_history(
    scene: Any, planted: psycopg.Connection[Any], login: str
) -> None:
    """The statements of the runner and of the gateway, in sessions opened as they open them."""
    passwords = scene.vault.call("GET", f"tenants/data/{scene.a.id}/platform/database")["data"]["data"]
    where = Connection(
        server="main",
        host=scene.a.secret["host"],
        port=int(scene.a.secret["port"]),
        database=scene.a.secret["dbname"],
    )
    dsn = connect.tenant_dsn(where, user=f"pw_{scene.a.id}_{login}", password=Secret(passwords[login]))
    at, uid, connections = datetime(2026, 3, 1, tzinfo=UTC), str(uuid4()), pools.Pools()
    run = RunRecord(
        project="p",
        pipeline="ci",
        id=f"planted-{login}",
        attempt=1,
        phase="started",
        queued_at=at,
        started_at=at,
    )
    try:
        async with connections.connection(login, dsn) as session:
            if login == "ingest":
                await history.upsert_runs(session, [run], integration=uid, seen_at=at, actors={})
                attempts = [(run.id, 1)]
                assert await history.find_runs(session, integration=uid, attempts=attempts)
                assert await decisions.claim_outbox(session, now=at) == []
            else:
                opened = WorkflowRun(run_uid=uid, namespace="a", name="n", workflow_uid=uid, started_at=at)
                assert await journal.start_run(session, opened)
                assert await journal.find_run(session, uid) == opened
                assert await journal.count_runs_since(session, workflow_uid=uid, since=at) == 1
    finally:
        await connections.close()
    assert planted.execute("SELECT DISTINCT who FROM app.sprung").fetchall() == []
    scene.tried.append((f"app: plants operators and functions for sessions of {login}", "PostgreSQL"))
