"""Alive and ready: a real HTTP server asked, and a real stream that falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pipewright.runtime import health
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import Key, WorkQueue
from pipewright.runtime.streams import Streams


async def ask(port: int, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await (answer.json() if path != "/metrics" else answer.text())


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, dict[str, str | None]]]:
    trouble: dict[str, str | None] = {"queue": None, "streams": None}
    served = health.HealthServer(
        host="127.0.0.1",
        port=0,
        metrics=Metrics(),
        live={"queue": lambda: trouble["queue"]},
        ready={"streams": lambda: trouble["streams"]},
    )
    yield await served.start(), trouble
    await served.stop()


async def test_all_well_is_200(server) -> None:
    port, _ = server
    assert await ask(port, "/healthz") == (200, {"status": "ok"})
    assert await ask(port, "/readyz") == (200, {"status": "ok"})


async def test_trouble_is_503_with_its_reason(server) -> None:
    port, trouble = server
    trouble["queue"] = "no worker moved for 400 s"
    assert await ask(port, "/healthz") == (
        503,
        {"status": "failing", "reasons": {"queue": "no worker moved for 400 s"}},
    )
    assert (await ask(port, "/readyz"))[0] == 200
    trouble["streams"] = "not listed yet: tenants"
    assert (await ask(port, "/readyz"))[1]["reasons"] == {"streams": "not listed yet: tenants"}


async def test_metrics_are_served_as_text(server) -> None:
    port, _ = server
    status, text = await ask(port, "/metrics")
    assert status == 200
    assert "pipewright_leader 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_a_queue_whose_keys_get_no_worker_is_not_alive(timer) -> None:
    queue = WorkQueue(timer=timer)
    check = health.queue_moves(queue, limit=300)
    queue.add(Key("Tenant", "acme"))
    timer.advance(300)
    assert check() is None
    timer.advance(1)
    assert check() == "1 keys are ready and no worker moved for 301 s"


async def test_a_worker_that_never_ends_is_not_alive(timer) -> None:
    queue, started = WorkQueue(timer=timer), asyncio.Event()

    async def hang(_: Key) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(queue.run(hang))
    queue.add(Key("Tenant", "acme"))
    await started.wait()
    timer.advance(301)
    assert health.queue_moves(queue, limit=300)() == "a worker has been busy with one key for 301 s"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class ApiServer:
    """As much of an API server as a watch needs: a list, and a stream that a test writes to."""

    def __init__(self) -> None:
        self.line: asyncio.Queue[bytes] = asyncio.Queue()
        self.status = 200

    async def tenants(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200 or request.query.get("watch") != "true":
            return web.json_response({"items": []}, status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await self.line.get():
            await response.write(line)
        return response

    async def start(self) -> str:
        app = web.Application()
        app.router.add_get("/apis/pipewright.dev/v1alpha1/tenants", self.tenants)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/apis/pipewright.dev/v1alpha1/tenants"

    async def stop(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def api() -> AsyncIterator[tuple[ApiServer, str]]:
    server = ApiServer()
    yield server, await server.start()
    server.line.put_nowait(b"")
    await server.stop()


async def test_a_stream_is_alive_while_bytes_come_and_silent_when_they_stop(timer, api) -> None:
    server, url = api
    streams = Streams(["tenants"], metrics=Metrics(), monotonic=timer.time)
    async with aiohttp.ClientSession(trace_configs=[streams.trace()]) as session:
        assert streams.unlisted() == "not listed yet: tenants"
        async with session.get(url):
            assert streams.unlisted() == "not listed yet: tenants"
        async with session.get(url, params={"watch": "true"}) as stream:
            assert streams.unlisted() is None
            timer.advance(100)
            server.line.put_nowait(b'{"type": "BOOKMARK"}\n')
            await stream.content.readline()
            assert streams.silence("tenants") == 0
            timer.advance(241)
            assert streams.silent(240) == "nothing heard on the watch of tenants for 241 s"
            server.line.put_nowait(b'{"type": "BOOKMARK"}\n')
            await stream.content.readline()
            assert streams.silent(240) is None
            server.line.put_nowait(b"")
        timer.advance(241)
        async with session.get(url, params={"watch": "true"}):
            assert streams.silent(240) is None  # opened anew
            server.line.put_nowait(b"")


async def test_refused_requests_are_no_sign_of_life(timer, api) -> None:
    server, url = api
    server.status = 403
    streams = Streams(["tenants"], metrics=Metrics(), monotonic=timer.time)
    timer.advance(241)
    async with aiohttp.ClientSession(trace_configs=[streams.trace()]) as session:
        async with session.get(url, params={"watch": "true"}):
            assert streams.silent(240) == "nothing heard on the watch of tenants for 241 s"
        async with session.get(f"{url}/unknown"):
            pass
    assert streams.unlisted() == "not listed yet: tenants"


def test_a_standby_replica_is_alive_and_ready_although_it_does_not_watch(timer) -> None:
    streams = Streams(["tenants"], metrics=Metrics(), monotonic=timer.time)
    timer.advance(1000)
    assert health.streams_deliver(streams, watching=lambda: False, limit=240)() is None
    assert health.all_listed(streams, watching=lambda: False)() is None
    assert health.all_listed(streams, watching=lambda: True)() == "not listed yet: tenants"
    streams.restart()
    assert health.streams_deliver(streams, watching=lambda: True, limit=240)() is None


def test_the_silence_of_a_stream_is_a_metric(timer) -> None:
    metrics = Metrics()
    Streams(["tenants"], metrics=metrics, monotonic=timer.time)
    timer.advance(12)
    labels = {"resource": "tenants"}
    assert metrics.registry.get_sample_value("pipewright_watch_silence_seconds", labels) == 12
