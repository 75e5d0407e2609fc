"""The final dump on the real server: whole, readable by pg_restore, without a password, or an error."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from dev import parts, postgres
from dev.stack import Stack
from pipewright import errors
from pipewright.backends.artifacts import FileArtifacts
from pipewright.backends.memory_postgres import MemoryDatabases, MemoryDumps, MemoryServer
from pipewright.backends.postgres import PostgresDumps, Server
from pipewright.ports import Dumps, Secret
from pipewright.store import roles

PROGRAM = postgres.program("pg_dump")


@pytest.fixture(scope="session")
def dumping_server(tenant_server: Server, empty_stack: Stack) -> Server:
    """The server with the dumper's login, which the bootstrap made."""
    dsn = (empty_stack.folder / "identities" / "provisioner" / "dumper.dsn").read_text()
    return replace(tenant_server, dumper_dsn=Secret(dsn))


def dumps_of(server: Server, folder: Path) -> PostgresDumps:
    return PostgresDumps(server, artifacts=FileArtifacts(folder.as_uri()), program=PROGRAM)


def read(file: Path, option: str) -> str:
    """What pg_restore makes of a dump."""
    command = [postgres.program("pg_restore"), option, file]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_dump_holds_the_tenants_tables_and_ours_and_no_password(
    dumping_server: Server, fresh_place, tmp_path: Path
) -> None:
    async with fresh_place.connect("app_a") as own:
        await own.execute("CREATE TABLE app.kept AS SELECT 'canary-row'::text AS word")
    dumps = dumps_of(dumping_server, tmp_path)
    dump = await dumps.take(fresh_place.id, uid=fresh_place.uid)
    assert dump.path == f"{fresh_place.id}/dumps/{fresh_place.uid}.dump"
    file = tmp_path / dump.path
    content = file.read_bytes()
    assert (dump.bytes, dump.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    table = read(file, "--list")
    assert "TABLE DATA app kept" in table
    assert "TABLE DATA pipewright runs" in table
    plain = read(file, "--file=-")
    assert "canary-row" in plain
    assert "password" not in plain.lower()
    assert "SCRAM-SHA-256" not in plain
    # taken again it takes the place of the first
    again = await dumps.take(fresh_place.id, uid=fresh_place.uid)
    assert again.path == dump.path
    assert [path.name for path in file.parent.iterdir()] == [file.name]


async def test_a_dump_is_taken_of_a_closed_database_too(
    dumping_server: Server, fresh_place, tmp_path: Path
) -> None:
    await fresh_place.logins.disable(fresh_place.id, uid=fresh_place.uid)
    dump = await dumps_of(dumping_server, tmp_path).take(fresh_place.id, uid=fresh_place.uid)
    assert "TABLE DATA pipewright runs" in read(tmp_path / dump.path, "--list")


async def test_the_dumper_is_let_into_nothing_before_and_changes_nothing_after(
    dumping_server: Server, fresh_place, place, tmp_path: Path
) -> None:
    assert dumping_server.dumper_dsn is not None
    dsn = dumping_server.dumper_dsn.reveal()
    for door in (roles.PLATFORM, "postgres", roles.database(place.id), roles.database(fresh_place.id)):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            await psycopg.AsyncConnection.connect(psycopg.conninfo.make_conninfo(dsn, dbname=door))
    await dumps_of(dumping_server, tmp_path).take(fresh_place.id, uid=fresh_place.uid)
    inside = psycopg.conninfo.make_conninfo(dsn, dbname=roles.database(fresh_place.id))
    async with await psycopg.AsyncConnection.connect(inside, autocommit=True) as conn:
        for statement in ("DELETE FROM pipewright.runs", "CREATE TABLE app.x (id int)", "SET ROLE postgres"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement)


async def test_a_failing_dump_leaves_nothing_and_says_what_to_do(
    dumping_server: Server, fresh_place, tmp_path: Path
) -> None:
    async with fresh_place.connect("app_a") as own:
        await own.execute("SELECT lo_from_bytea(0, 'a large object')")
    with pytest.raises(errors.BackendError, match="cannot read large objects") as caught:
        await dumps_of(dumping_server, tmp_path).take(fresh_place.id, uid=fresh_place.uid)
    assert "spec.finalDump" in caught.value.message
    assert files(tmp_path) == []


async def test_a_dump_that_takes_longer_than_a_look_is_had_later(
    dumping_server: Server, fresh_place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipewright.backends.postgres.dumps.PATIENCE_S", 0.0)
    dumps = dumps_of(dumping_server, tmp_path)
    with pytest.raises(errors.Waiting, match="is being written"):
        await dumps.take(fresh_place.id, uid=fresh_place.uid)
    monkeypatch.setattr("pipewright.backends.postgres.dumps.PATIENCE_S", 60.0)
    dump = await dumps.take(fresh_place.id, uid=fresh_place.uid)
    assert (tmp_path / dump.path).stat().st_size == dump.bytes
    await dumps.close()


async def test_a_wrong_password_is_an_error_that_does_not_repeat_it(
    dumping_server: Server, fresh_place, tmp_path: Path
) -> None:
    assert dumping_server.dumper_dsn is not None
    wrong = psycopg.conninfo.make_conninfo(dumping_server.dumper_dsn.reveal(), password="canary-password")
    broken = replace(dumping_server, dumper_dsn=Secret(wrong))
    with pytest.raises(errors.BackendError) as caught:
        await dumps_of(broken, tmp_path).take(fresh_place.id, uid=fresh_place.uid)
    assert "canary" not in caught.value.message
    assert files(tmp_path) == []


async def refuses(dumps: Dumps, tenant_id: str) -> None:
    with pytest.raises(errors.OwnedByOther):
        await dumps.take(tenant_id, uid=str(uuid4()))
    with pytest.raises(errors.Conflict):
        await dumps.take(roles.new_id(), uid=str(uuid4()))


async def test_nobody_elses_database_is_dumped(dumping_server: Server, place, tmp_path: Path) -> None:
    await refuses(dumps_of(dumping_server, tmp_path), place.id)


async def test_nobody_elses_database_is_dumped_in_memory() -> None:
    server, tenant_id = MemoryServer(), roles.new_id()
    await MemoryDatabases(server).create(tenant_id, uid="owner", connection_limit=1)
    dumps = MemoryDumps(server)
    assert (await dumps.take(tenant_id, uid="owner")).path == f"{tenant_id}/dumps/owner.dump"
    await refuses(dumps, tenant_id)


def test_what_is_missing_is_named(
    tenant_server: Server, postgres_server: parts.Database, tmp_path: Path
) -> None:
    store = FileArtifacts(tmp_path.as_uri())
    given = replace(tenant_server, dumper_dsn=Secret("postgresql://x"))
    words = [
        PostgresDumps(given, artifacts=store, program=None).missing,
        PostgresDumps(given, artifacts=store, program=tmp_path / "none").missing,
        PostgresDumps(given, artifacts=None, program=PROGRAM).missing,
        PostgresDumps(tenant_server, artifacts=store, program=PROGRAM).missing,
    ]
    for word, expected in zip(words, ["pgDump", "pgDump", "artifacts", "dumperDsnFile"], strict=True):
        assert expected in word
    assert PostgresDumps(given, artifacts=store, program=PROGRAM).missing == ""
