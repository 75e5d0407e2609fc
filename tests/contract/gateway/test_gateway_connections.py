"""Connections and slow clients over real sockets: who asks nothing holds nothing."""

import asyncio

import pytest

from gateway import heads, history, parts, reading


async def connect(world, sent=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(sent)
    return reader, writer


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PARTIAL = {
    "says nothing": b"",
    "sends empty lines only": b"\r\n\r\n",
    "does not end its head": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
}


@pytest.mark.parametrize("sent", PARTIAL.values(), ids=PARTIAL)
async def test_a_connection_is_closed_that(world, monkeypatch, sent):
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
    reader, writer = await connect(world)
    for line in sent.splitlines(keepends=True):  # as a client that sends a little now and then
        writer.write(line)
        await writer.drain()
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()


async def test_who_begins_a_second_head_after_the_first_answer_has_as_long_for_it(world, monkeypatch):
    reader, writer = await connect(world, GET)
    async with asyncio.timeout(5):
        await reader.readuntil(b'"}')
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
        writer.write(b"GET /hea")
        assert await reader.read() == b""
    writer.close()


async def test_a_request_outlives_the_deadline_of_its_head(world, hook, github, monkeypatch):
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)

    async def slow():
        yield b"{"
        await asyncio.sleep(0.3)  # the fact is that time passes
        yield b"}"

    assert (await world.ask("POST", f"/hooks/{hook.id}", data=slow())).status == 401


async def test_idle_connections_take_no_requests_place(serve):
    async with serve(limits=parts.Limits(requests=1)) as world:
        idle = [await connect(world) for _ in range(5)]
        assert (await world.ask("GET", "/openapi.json")).status == 200
        for _, writer in idle:
            writer.close()


async def test_beyond_the_limit_a_request_is_503_and_probes_are_answered(serve, eventually):
    async with serve(limits=parts.Limits(requests=1)) as world:
        hook, more = await world.hook(await world.tenant()), asyncio.Event()

        async def slow():
            yield b"{"
            await more.wait()
            yield b"}"

        holding = asyncio.create_task(world.ask("POST", f"/hooks/{hook.id}", data=slow()))

        async def inside():
            return len(world.parts.hooks.lanes)

        await eventually(inside)
        refused = await world.ask("GET", "/openapi.json")
        probes = [(await world.ask("GET", path)).status for path in ("/healthz", "/readyz", "/metrics")]
        more.set()
        assert (refused.status, refused.body["reason"], refused.headers["Retry-After"]) == (503, "Busy", "1")
        assert probes == [200, 200, 200]
        assert (await holding).status == 401
        assert (await world.ask("GET", "/openapi.json")).status == 200


async def test_any_body_that_comes_too_slowly_is_408(world, tenant, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    path = f"/v1/namespaces/{tenant.namespace}/models/m/predictions"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    reader, writer = await connect(world, head.encode())
    async with asyncio.timeout(5):
        assert b" 408 " in await reader.readline()
    writer.close()


# --- imports ----------------------------------------------------------------------------------------------


def path_of(tenant):
    return f"/v1/namespaces/{tenant.namespace}/integrations/github/history"


async def test_an_import_that_comes_slowly_takes_no_other_tenants_place(serve):
    async with serve() as world:
        tenants = [await world.tenant() for _ in range(4)]
        more = asyncio.Event()
        for tenant in tenants:
            await world.hook(tenant)

        async def slow():
            yield b"\n"
            started.set()
            await more.wait()

        holding = []
        for tenant in tenants[:3]:
            started = asyncio.Event()
            holding.append(asyncio.create_task(world.rest("POST", path_of(tenant), data=slow())))
            await started.wait()
        async with asyncio.timeout(5):
            assert (await world.rest("POST", path_of(tenants[3]), data=b"\n")).status == 200
        more.set()
        assert [answer.status for answer in await asyncio.gather(*holding)] == [200] * 3


async def test_who_waits_too_long_for_a_place_to_import_is_told_to_come_back(serve, monkeypatch):
    monkeypatch.setattr(history, "PATIENCE", 0.1)
    async with serve() as world:
        tenant = await world.tenant()
        await world.hook(tenant)
        places = world.parts.imports._places
        await places.acquire()
        await places.acquire()
        answer = await world.rest("POST", path_of(tenant), data=b"\n")
        assert (answer.status, answer.body["reason"], answer.headers["Retry-After"]) == (503, "Busy", "30")


async def test_an_import_that_drips_is_408(world, tenant, hook, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.3)

    async def drips():
        for _ in range(100):
            yield b"\n"
            await asyncio.sleep(0.05)  # the fact is that time passes

    try:
        answer = await world.rest("POST", path_of(tenant), data=drips())
        assert answer.status == 408
    except OSError:  # the server hung up while we were still sending
        pass


async def test_bodies_of_all_imports_together_have_a_bound(serve, monkeypatch):
    monkeypatch.setattr(history, "ROOM", 0)
    async with serve() as world:
        tenant = await world.tenant()
        await world.hook(tenant)
        line = (
            b'{"type": "run", "project": "acme/shop", "pipeline": "ci", "id": "1", "attempt": 1,'
            b' "startedAt": "2026-01-01T00:00:00Z"}'
        )
        answer = await world.rest("POST", path_of(tenant), data=line)
        assert (answer.status, answer.body["reason"]) == (503, "Busy")
