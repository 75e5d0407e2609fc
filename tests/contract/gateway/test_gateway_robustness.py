"""What hostile and broken senders do, all at once: a few answers, bounded memory, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import socket

import psutil
import pytest

from gateway import heads, reading

IDLE = 10_000
MOST_GROWN = 240 * 2**20
"""Bytes: 10,000 connections of 16 KiB, and 80 MiB for all else."""

BODIES = {
    "null": (b"null", 400),
    "null where a run should be": (b'{"action": "completed", "workflow_run": null}', 202),
    "a list where a text should be": (b'{"action": [], "workflow_run": [], "repository": 7}', 202),
    "numbers where texts should be": (b'{"action": 7, "workflow_run": {"id": 1.5}, "repository": {}}', 202),
    "nested too deeply": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
    "lists nested too deeply": (b'{"workflow_run":' + b"[" * 900 + b"]" * 900 + b"}", 202),
    "no UTF-8": (b'{"action": "\xff\xfe"}', 400),
    "a lone surrogate": (b'{"action": "\\ud800", "workflow_run": {"id": 1}}', 202),
    "the same key twice": (b'{"action": "completed", "action": null, "workflow_run": {}}', 202),
    "a number of 5,000 digits": (
        b'{"action": "completed", "workflow_run": {"id": ' + b"9" * 5000 + b"}}",
        400,
    ),
    "a number beyond 64 bits": (
        b'{"action": "completed", "workflow_run": {"id": 9e18, "run_number": 1e400}}',
        202,
    ),
    "NaN": (b'{"action": NaN}', 400),
    "half of it": (b'{"action": "comp', 400),
    "nothing": (b"", 400),
}
"""What is signed and broken: no JSON object is 400, what is not understood is kept as a dead letter."""


def rss() -> int:
    return int(psutil.Process().memory_info().rss)


async def ask(port: int, *sent: bytes, pause: float = 0.0) -> tuple[bytes, int]:
    """The first line of the answer, or nothing, and how many bytes the server took until then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer, taken = asyncio.create_task(reader.readline()), 0
    with contextlib.suppress(OSError):
        for part in sent:
            if answer.done():
                break
            writer.write(part)
            await asyncio.wait_for(writer.drain(), 5)
            taken += len(part)
            if pause:
                await asyncio.wait([answer], timeout=pause)
    try:
        return await asyncio.wait_for(answer, 10), taken
    except OSError:
        return b"", taken
    finally:
        writer.close()


@pytest.fixture
def many_files():
    """As many open files as we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_memory_is_bounded_and_another_tenant_is_served_whatever_comes(
    serve, github, monkeypatch, many_files
):
    monkeypatch.setattr(heads, "HEAD_SECONDS", 3.0)
    monkeypatch.setattr(reading, "PATIENCE", 1.0)
    async with serve() as world:
        attacked, other = await world.hook(await world.tenant()), await world.hook(await world.tenant())
        port, runs, before = int(world.url.rpartition(":")[2]), itertools.count(1), rss()
        head = f"POST /hooks/{attacked.id} HTTP/1.1\r\nHost: x\r\n".encode()
        served, ended = list[int](), asyncio.Event()

        async def steady():
            while not ended.is_set():
                payload = github("requested", run=next(runs))
                served.append((await world.deliver(other, "workflow_run", payload)).status)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(steady())

            # idle connections, and heads and bodies that drip, more of them than a tenant may have
            held = list[socket.socket]()
            for at in range(min(IDLE, many_files // 2 - 500)):
                held.append(socket.create_connection(("127.0.0.1", port)))
                if at % 20 == 0:
                    await asyncio.sleep(0)
            drips = [asyncio.create_task(ask(port, head, *[b"X: y\r\n"] * 90, pause=0.1)) for _ in range(50)]
            slow = head + b"Content-Length: 900\r\n\r\n"
            bodies = [asyncio.create_task(ask(port, slow, *[b" "] * 90, pause=0.1)) for _ in range(300)]

            # too much
            claims = await ask(port, head + b"Content-Length: 104857600\r\n\r\n")
            assert claims[0].split()[1] == b"413"
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            line, taken = await ask(port, head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 1600)
            assert line.split()[1:2] in ([b"413"], [b"429"], [])  # hung up on while we were still sending
            assert taken < 16 * 2**20, "the rest of 100 MB was not read"
            flood = [b"X-%d: " % at + b"y" * 8000 + b"\r\n" for at in range(2000)]
            line, taken = await ask(port, head, *flood)
            assert line.split()[1:2] in ([b"431"], [])
            assert taken < 16 * 2**20, "the rest of the flood was not read"

            answers = await asyncio.gather(*bodies)
            found = {line.split()[1] for line, _ in answers if line}
            assert found == {b"408", b"429"}, found
            assert {line for line, _ in await asyncio.gather(*drips)} == {b""}, "heads that drip are cut off"
            grown, count = rss() - before, len(served)
            await asyncio.sleep(0)
            while len(served) < count + 3:  # noqa: ASYNC110 - the other goes on
                await asyncio.sleep(0.01)
            for each in held:
                each.close()

            # wrong
            for name, (body, status) in BODIES.items():
                answer = await world.deliver(attacked, "workflow_run", None, body=body)
                assert answer.status == status, (name, answer)
            ended.set()
        assert set(served) == {202}
        assert grown < MOST_GROWN, f"{grown / 2**20:.0f} MiB"
        assert (await world.ask("GET", "/healthz")).status == 200
        stored = await other.tenant.rows("SELECT count(*) FROM pipewright.events")
        assert stored == [(len(served),)]
        assert await attacked.tenant.rows("SELECT count(*) FROM pipewright.runs") == [(0,)]
