"""Pools on the real server: bounds, dead servers, rotated passwords, and nothing left behind."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from dev import parts
from pipewright import errors
from pipewright.ports import Secret
from pipewright.store import connect, trouble
from pipewright.store.pools import Pools


@pytest.fixture
async def made() -> AsyncIterator[list[Pools]]:
    """Pools that a test makes are closed at its end."""
    kept: list[Pools] = []
    yield kept
    for each in kept:
        await each.close()
        assert each.open_connections == 0


async def _pid(pools: Pools, key: str, dsn: Secret) -> int:
    async with pools.connection(key, dsn) as conn:
        row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
    assert row
    return int(row[0])


async def test_a_connection_is_used_again(place, made: list[Pools]) -> None:
    made.append(pools := Pools())
    first = await _pid(pools, "a", place.dsn("ingest"))
    assert await _pid(pools, "a", place.dsn("ingest")) == first
    assert pools.open_connections == 1


async def test_every_session_has_a_catalog_only_search_path_and_limits(place, made: list[Pools]) -> None:
    made.append(pools := Pools(application="gateway"))
    async with pools.connection("a", place.dsn("app_a")) as conn:
        for setting, value in {
            "search_path": "pg_catalog",
            "TimeZone": "UTC",
            "application_name": "gateway",
            "lock_timeout": "5s",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "1min",
        }.items():
            cursor = await conn.execute("SELECT current_setting(%s)", [setting])
            assert await cursor.fetchone() == (value,), setting


async def test_a_database_has_its_bound_and_the_waiting_are_served(place, made: list[Pools]) -> None:
    made.append(pools := Pools(per_database=2))
    most = 0

    async def use() -> None:
        nonlocal most
        async with pools.connection("a", place.dsn("ingest")) as conn:
            most = max(most, pools.open_connections)
            await conn.execute("SELECT pg_sleep(0.02)")

    await asyncio.gather(*(use() for _ in range(12)))
    assert most == 2


async def test_who_gets_no_connection_in_two_seconds_is_told(place, made: list[Pools]) -> None:
    made.append(pools := Pools(per_database=1))
    async with pools.connection("a", place.dsn("ingest")):
        began = time.monotonic()
        with pytest.raises(errors.Unreachable, match="busy"):
            async with pools.connection("a", place.dsn("ingest")):
                pass
        assert 1.5 < time.monotonic() - began < 4


async def test_the_process_bound_takes_idle_connections_from_the_least_used(place, made: list[Pools]) -> None:
    made.append(pools := Pools(max_connections=2))
    await _pid(pools, "old", place.dsn("ingest"))
    kept = await _pid(pools, "young", place.dsn("runner"))
    await _pid(pools, "new", place.dsn("readonly"))
    assert pools.open_connections == 2
    assert await _pid(pools, "young", place.dsn("runner")) == kept


async def test_only_so_many_databases_rest(place, made: list[Pools]) -> None:
    made.append(pools := Pools(max_databases=2))
    for key in ("a", "b", "c", "d"):
        await _pid(pools, key, place.dsn("ingest"))
    assert pools.idle_databases == 2


async def test_of_many_databases_those_used_last_keep_their_connections(place, made: list[Pools]) -> None:
    made.append(pools := Pools(max_databases=2))
    first = await _pid(pools, "a", place.dsn("ingest"))
    second = await _pid(pools, "b", place.dsn("ingest"))
    assert await _pid(pools, "a", place.dsn("ingest")) == first
    third = await _pid(pools, "c", place.dsn("ingest"))
    assert await _pid(pools, "a", place.dsn("ingest")) == first
    assert await _pid(pools, "c", place.dsn("ingest")) == third
    assert await _pid(pools, "b", place.dsn("ingest")) != second


async def test_who_waits_for_a_silent_server_holds_nothing_that_others_need(place, made: list[Pools]) -> None:
    made.append(pools := Pools(max_connections=4, max_opening=2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        nowhere = Secret(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/db")
        lost = [asyncio.create_task(_pid(pools, f"lost-{number}", nowhere)) for number in range(8)]
        while pools.open_connections < 2:  # noqa: ASYNC110 - the tasks begin one after the other
            await asyncio.sleep(0)
        began = time.monotonic()
        assert await asyncio.gather(*(_pid(pools, key, place.dsn("ingest")) for key in ("a", "b")))
        assert time.monotonic() - began < 1.5
        ended = await asyncio.gather(*lost, return_exceptions=True)
    assert all(isinstance(each, errors.Unreachable) for each in ended)


async def test_an_idle_connection_is_closed_after_its_time(place, made: list[Pools]) -> None:
    made.append(pools := Pools(idle_seconds=0.05))
    await _pid(pools, "a", place.dsn("ingest"))
    for _ in range(500):
        if not pools.open_connections:
            break
        await asyncio.sleep(0.01)
    assert pools.open_connections == 0


async def test_a_session_that_the_server_ended_is_replaced(
    place, made: list[Pools], postgres_server: parts.Database
) -> None:
    made.append(pools := Pools())
    first = await _pid(pools, "a", place.dsn("ingest"))
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn, autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert await _pid(pools, "a", place.dsn("ingest")) != first
    assert pools.open_connections == 1


async def test_a_session_that_ends_in_use_is_unreachable(
    place, made: list[Pools], postgres_server: parts.Database
) -> None:
    made.append(pools := Pools())

    async def lose() -> None:
        async with pools.connection("a", place.dsn("ingest")) as conn:
            row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
            async with await psycopg.AsyncConnection.connect(
                postgres_server.admin_dsn, autocommit=True
            ) as admin:
                await admin.execute("SELECT pg_terminate_backend(%s, 5000)", row)
            await conn.execute("SELECT 1")

    with pytest.raises(errors.Unreachable):
        await lose()
    assert pools.open_connections == 0


async def test_an_open_transaction_is_never_handed_on(place, made: list[Pools]) -> None:
    made.append(pools := Pools())
    async with pools.connection("a", place.dsn("ingest")) as conn:
        await conn.execute("BEGIN")
    assert pools.open_connections == 0


async def test_a_rotated_password_makes_a_new_pool(place, made: list[Pools]) -> None:
    made.append(pools := Pools())
    await _pid(pools, "a", place.dsn("app_a"))
    await _pid(pools, "a", place.dsn("app_b"))
    assert pools.open_connections == 1
    async with pools.connection("a", place.dsn("app_b")) as conn:
        assert await (await conn.execute("SELECT session_user")).fetchone() == (f"pw_{place.id}_app_b",)


async def test_a_cancelled_use_leaves_no_connection_behind(place, made: list[Pools]) -> None:
    made.append(pools := Pools())

    async def use() -> None:
        async with pools.connection("a", place.dsn("ingest")) as conn:
            await conn.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(use())
    await asyncio.wait([task], timeout=0.3)
    assert pools.open_connections == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _pid(pools, "a", place.dsn("ingest"))
    assert pools.open_connections == 1


async def test_closed_pools_give_nothing(place, made: list[Pools]) -> None:
    made.append(pools := Pools())
    await _pid(pools, "a", place.dsn("ingest"))
    await pools.close()
    assert pools.open_connections == 0
    with pytest.raises(errors.Unreachable, match="shutting down"):
        await _pid(pools, "a", place.dsn("ingest"))


async def test_a_refusing_server_is_unreachable_at_once_and_a_silent_one_within_seconds(
    made: list[Pools],
) -> None:
    made.append(pools := Pools())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        for port, seconds in ((1, 0.5), (silent.getsockname()[1], 3)):
            began = time.monotonic()
            with pytest.raises(errors.Unreachable) as caught:
                await _pid(pools, str(port), Secret(f"postgresql://u:canary@127.0.0.1:{port}/db"))
            assert time.monotonic() - began < seconds
            assert "canary" not in caught.value.message
    assert pools.open_connections == 0


REFUSALS = {
    "a wrong password": ("password=wrong", errors.Forbidden, "refused the login's password"),
    "a foreign database": ("dbname=postgres", errors.Forbidden, "may not connect"),
}


@pytest.mark.parametrize(("override", "kind", "message"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_says_which(
    place, made: list[Pools], override: str, kind: type[Exception], message: str
) -> None:
    made.append(pools := Pools())
    name, value = override.split("=")
    dsn = psycopg.conninfo.make_conninfo(place.dsn("ingest").reveal(), **{name: value})
    with pytest.raises(kind, match=message):
        await _pid(pools, "a", Secret(dsn))


STATEMENTS = {
    "a missing right": ("SELECT * FROM pg_authid", errors.Forbidden, "42501"),
    "a duplicate": ("INSERT INTO pipewright.lines VALUES ('s', 'k'), ('s', 'k')", errors.Conflict, "23505"),
    "a mistake of ours": ("SELECT canary FROM pg_class", errors.BackendError, "42703"),
    "a statement without an end": (
        "SET statement_timeout = 1; SELECT pg_sleep(9)",
        errors.Unreachable,
        "57014",
    ),
}


@pytest.mark.parametrize(("statement", "kind", "state"), STATEMENTS.values(), ids=STATEMENTS.keys())
async def test_the_servers_refusals_leave_the_block_in_our_words(
    place, made: list[Pools], statement: str, kind: type[errors.BackendError], state: str
) -> None:
    made.append(pools := Pools())
    with pytest.raises(kind) as caught:
        async with pools.connection("a", place.dsn("ingest")) as conn:
            await conn.execute(statement)
    assert state in caught.value.message
    assert "canary" not in caught.value.message


async def test_a_server_that_has_no_connection_left_says_what_must_fit(
    place, postgres_server: parts.Database, made: list[Pools]
) -> None:
    refused = list[None]()
    made.append(pools := Pools(on_full=lambda: refused.append(None)))
    login = psycopg.sql.Identifier(
        str(psycopg.conninfo.conninfo_to_dict(place.dsn("ingest").reveal())["user"])
    )
    with psycopg.connect(postgres_server.admin_dsn, autocommit=True) as admin:
        limit = psycopg.sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
        admin.execute(limit.format(login, psycopg.sql.Literal(0)))
        try:
            with pytest.raises(trouble.Full, match=r"gateway\.databaseConnections"):
                await _pid(pools, "a", place.dsn("ingest"))
        finally:
            admin.execute(limit.format(login, psycopg.sql.Literal(-1)))
    assert len(refused) == 1
    assert await _pid(pools, "a", place.dsn("ingest"))


async def test_what_a_server_takes_is_told_without_what_it_reserves(place) -> None:
    async with place.connect("ingest") as conn:
        row = await (await conn.execute("SHOW max_connections")).fetchone()
        assert 0 < int(row[0]) - await connect.room(conn) < 50
