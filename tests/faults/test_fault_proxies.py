"""The proxies on small servers: what is a write, what it is called, and what each fault does to a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psycopg
import pytest
from aiohttp import web

from dev import parts, ports
from dev.faults import rest, wire, writes
from dev.faults.wire import PostgresProxy
from dev.faults.writes import Call, Cut, Delay, DropFrames, Kill, Refuse, Replay, Switch, Treatment, Write

CALLS = {
    "PATCH /api/v1/namespaces/ft-0123abcd/secrets/pipewright-database?force=true": (
        "PATCH namespaces/<name>/secrets/pipewright-database",
        True,
    ),
    "GET /apis/pipewright.dev/v1alpha1/tenants?limit=500": ("GET tenants", False),
    "PUT /apis/coordination.k8s.io/v1/namespaces/pipewright-system/leases/pipewright-provisioner": (
        "PUT namespaces/pipewright-system/leases/pipewright-provisioner",
        False,
    ),
    "POST /apis/events.k8s.io/v1/namespaces/default/events": ("POST namespaces/default/events", False),
    "POST /apis/authorization.k8s.io/v1/subjectaccessreviews": ("POST subjectaccessreviews", False),
}


@pytest.mark.parametrize("line", CALLS)
def test_a_call_to_the_api_server_has_a_name_without_what_is_random(line: str) -> None:
    found = rest.kubernetes_call(*line.split(" "))
    assert (found.label, found.writes) == CALLS[line]


@pytest.mark.parametrize(
    ("line", "label", "changes"),
    [
        ("POST /v1/tenants/data/abcdefghjkmn/user/database", "POST tenants/data/<id>/user/database", True),
        ("LIST /v1/tenants/metadata/abcdefghjkmn", "LIST tenants/metadata/<id>", False),
        ("POST /v1/auth/kubernetes/login", "POST auth/kubernetes/login", False),
        ("POST /v1/transit/keys/abcdefghjkmn", "POST transit/keys/<id>", True),
        ("POST /v1/transit/decrypt/abcdefghjkmn", "POST transit/decrypt/<id>", False),
    ],
)
def test_a_call_to_vault_has_a_name_without_what_is_random(line: str, label: str, changes: bool) -> None:
    found = rest.vault_call(*line.split(" "))
    assert (found.label, found.writes) == (label, changes)


@pytest.mark.parametrize(
    ("line", "label", "changes"),
    [
        ("POST /api/jobs/", "ray: POST jobs/", True),
        (f"GET /api/jobs/{'0f' * 16}", "ray: GET jobs/<id>", False),
        (f"POST /api/jobs/{'0f' * 16}/stop", "ray: POST jobs/<id>/stop", True),
        (f"PUT /api/packages/gcs/_ray_pkg_{'0f' * 16}.zip", "ray: PUT packages/gcs/<package>", True),
    ],
)
def test_a_call_to_ray_has_a_name_without_what_is_random(line: str, label: str, changes: bool) -> None:
    found = rest.ray_call(*line.split(" "))
    assert (found.label, found.writes) == (label, changes)


@pytest.mark.parametrize(
    ("statement", "label", "changes"),
    [
        (
            "ALTER ROLE \"pw_abcdefghjkmn_app\" LOGIN PASSWORD 'it''s secret'",
            "db: ALTER ROLE pw_<id>_app LOGIN PASSWORD '…'",
            True,
        ),
        ("  SELECT 1", "db: SELECT 1", False),
        (
            "SELECT FROM pipewright.registry FOR UPDATE",
            "db: SELECT FROM pipewright.registry FOR UPDATE",
            False,
        ),
        ("SELECT count(pg_terminate_backend(1))", "db: SELECT count(pg_terminate_backend(1))", True),
        ("BEGIN", "db: BEGIN", False),
        ('SET LOCAL ROLE "pipewright_maker_a"', "db: SET LOCAL ROLE pipewright_maker_a", False),
        (
            'SET LOCAL ROLE maker;\nCREATE ROLE "pw_abcdefghjkmn_app";\nSET LOCAL ROLE NONE',
            "db: CREATE ROLE pw_<id>_app; SET LOCAL ROLE NONE",
            True,
        ),
        ("SELECT 'x; DROP ROLE y'", "db: SELECT '…'", False),
    ],
)
def test_a_statement_has_a_name_without_its_literals(statement: str, label: str, changes: bool) -> None:
    assert wire.label_of("db", statement) == label
    assert wire.changes(statement) is changes


def test_inside_a_transaction_only_the_first_write_and_the_commit_are_distinct() -> None:
    made = [
        Write(number=number, system="postgres", label=str(number), occurrence=1, transaction=it)
        for number, it in enumerate([0, 1, 1, 0, 2, 0], start=1)
    ]
    assert [it.number for it in writes.distinct(made)] == [1, 2, 4, 5, 6]


class One:
    """Treats every write, or every watch."""

    def __init__(self, treatment: Treatment) -> None:
        self._treatment = treatment

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        return self._treatment if write is not None or call.watches else None


@asynccontextmanager
async def http(switch: Switch) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that remembers what reached it, behind a proxy; the proxy's address."""
    reached: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        reached.append(f"{request.method} {request.path}")
        if "watch" not in request.query:
            return web.json_response({"name": "x" * 100})
        stream = web.StreamResponse()
        await stream.prepare(request)
        for kind, name in (("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b")):
            await stream.write(f'{{"type":"{kind}","object":"{name}"}}\n'.encode())
        return stream

    server_port, proxy_port = ports.free(), ports.free()
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server_port).start()
    proxy = rest.HttpProxy(
        upstream=f"http://127.0.0.1:{server_port}", switch=switch, describe=rest.kubernetes_call
    )
    await proxy.start(proxy_port)
    try:
        yield f"http://127.0.0.1:{proxy_port}/api/v1", reached
    finally:
        await proxy.stop()
        await runner.cleanup()


async def ask(url: str, method: str = "PATCH") -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, url, data=b"{}") as answer:
        return answer.status, await answer.read()


async def test_without_a_fault_a_write_passes_and_is_numbered() -> None:
    switch = Switch()
    async with http(switch) as (url, reached):
        assert (await ask(f"{url}/namespaces/a"))[0] == 200
        assert (await ask(f"{url}/namespaces/a", "GET"))[0] == 200
    assert reached == ["PATCH /api/v1/namespaces/a", "GET /api/v1/namespaces/a"]
    assert [(it.number, it.label, it.outcome) for it in switch.writes] == [
        (1, "PATCH namespaces/a", "applied")
    ]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_kill_keeps_the_write_or_the_answer_back(before: bool) -> None:
    killed: list[int] = []
    switch = Switch(kill=lambda: killed.append(1), fault=One(Kill(before=before)))
    async with http(switch) as (url, reached):
        with pytest.raises(aiohttp.ClientError):
            await ask(f"{url}/namespaces/a")
    assert killed == [1]
    assert len(reached) == (0 if before else 1)
    assert switch.writes[0].outcome == ("lost" if before else "applied")


async def test_a_refusal_never_reaches_the_server() -> None:
    switch = Switch(fault=One(Refuse(429, "TooManyRequests", retry_after=1)))
    async with http(switch) as (url, reached):
        assert (await ask(f"{url}/namespaces/a"))[0] == 429
    assert not reached
    assert switch.writes[0].outcome == "refused"


async def test_what_holds_for_all_stories_is_asked_after_the_fault_of_the_moment() -> None:
    switch = Switch(standing=One(Refuse(404)))
    async with http(switch) as (url, reached):
        assert (await ask(f"{url}/namespaces/a"))[0] == 404
        switch.fault = One(Refuse(429))
        assert (await ask(f"{url}/namespaces/a"))[0] == 429
        assert (await ask(f"{url}/namespaces/a", "GET"))[0] == 200
    assert reached == ["GET /api/v1/namespaces/a"]


async def test_a_cut_answer_is_incomplete_though_the_write_was_applied() -> None:
    switch = Switch(fault=One(Cut()))
    async with http(switch) as (url, reached):
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(f"{url}/namespaces/a")
    assert len(reached) == 1
    assert switch.writes[0].outcome == "applied"


async def test_an_old_answer_and_a_late_one() -> None:
    for treatment, body in ((Replay(b"old"), b"old"), (Delay(0.01), b'{"name"')):
        async with http(Switch(fault=One(treatment))) as (url, _):
            assert (await ask(f"{url}/namespaces/a"))[1].startswith(body)


async def test_frames_of_a_watch_are_handed_on_or_dropped() -> None:
    dropped: list[int] = []

    async def frames(switch: Switch) -> list[bytes]:
        """The frames until the server ends the watch, as the proxy does then: without a word."""
        async with (
            http(switch) as (url, _),
            aiohttp.ClientSession() as session,
            session.get(f"{url}/namespaces?watch=true") as answer,
        ):
            found = [await answer.content.readline()]
            while found[-1] and b'"b"' not in found[-1]:
                found.append(await answer.content.readline())
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        return found

    assert len(await frames(Switch())) == 3
    drop = DropFrames(b'"a"', (b"MODIFIED",), lambda: dropped.append(1))
    assert [b"MODIFIED" in line for line in await frames(Switch(fault=One(drop)))] == [False, False]
    assert dropped == [1]


@pytest.fixture
async def relayed(postgres_server: parts.Database) -> AsyncIterator[Callable[[Switch], Any]]:
    """Opens a connection through a relay that meets a switch."""
    stops = []

    async def connect(switch: Switch) -> psycopg.AsyncConnection:
        port = ports.free()
        proxy = PostgresProxy(host=postgres_server.host, port=postgres_server.port, switch=switch)
        await proxy.start(port)
        stops.append(proxy.stop)
        dsn = psycopg.conninfo.make_conninfo(postgres_server.admin_dsn, port=port)
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    yield connect
    for stop in stops:
        await stop()


async def test_statements_are_numbered_and_count_when_committed(relayed: Any) -> None:
    switch = Switch()
    conn = await relayed(switch)
    await conn.execute("CREATE TEMP TABLE one (id int)")
    async with conn.transaction():
        await conn.execute("INSERT INTO one VALUES (%s)", [1])
        await conn.execute("SELECT 1")
    await conn.execute("BEGIN")
    await conn.execute("INSERT INTO one VALUES (%s)", [2])
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("INSERT INTO one SELECT 1 / 0")
    await conn.execute("ROLLBACK")
    assert [(it.label.partition(": ")[2][:17], it.inner, it.outcome) for it in switch.writes] == [
        ("CREATE TEMP TABLE", False, "applied"),
        ("INSERT INTO one V", True, "applied"),
        ("COMMIT", False, "applied"),
        ("INSERT INTO one V", True, "rolled back"),
        ("INSERT INTO one S", True, "refused"),
    ]
    assert [len(it.writes) for it in switch.transactions] == [1, 1]
    assert [it.transaction for it in switch.writes] == [0, 1, 0, 2, 2]
    await conn.close()


async def test_what_was_under_way_when_the_client_died_counts(relayed: Any) -> None:
    switch = Switch()
    conn, look = await relayed(switch), await relayed(Switch())
    await look.execute("DROP ROLE IF EXISTS under_way")
    conn.pgconn.send_query(b"CREATE ROLE under_way; SELECT pg_sleep(0.2)")
    conn.pgconn.flush()
    await conn.close()
    async with asyncio.timeout(10):
        while not switch.transactions:  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.01)
    (transaction,) = switch.transactions
    assert [write.outcome for write in transaction.writes] == ["applied"]
    await look.execute("DROP ROLE under_way")
    await look.close()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_kill_at_a_statement(before: bool, relayed: Any) -> None:
    killed: list[int] = []
    switch = Switch(kill=lambda: killed.append(1))
    conn, look = await relayed(switch), await relayed(Switch())
    name = f"fault_{before}".lower()
    await look.execute(f"DROP ROLE IF EXISTS {name}")
    switch.fault = One(Kill(before=before))
    with pytest.raises(psycopg.OperationalError):
        await conn.execute(f"CREATE ROLE {name}")
    assert killed == [1]
    await asyncio.sleep(0)
    found = await (await look.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])).fetchall()
    assert bool(found) is not before
    await look.execute(f"DROP ROLE IF EXISTS {name}")
    await look.close()
