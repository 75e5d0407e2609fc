"""A reverse proxy for an HTTP/1.1 server: each request is named, numbered if it writes, met by the fault.

The listening side is written out: Vault's method LIST, half answers and watches that fall silent are not
what HTTP servers are made for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from yarl import URL

from dev.faults.writes import (
    UNNUMBERED,
    Call,
    Cut,
    Delay,
    DropFrames,
    Hole,
    Kill,
    Refuse,
    Replay,
    Switch,
    Treatment,
    Write,
    masked,
)

_READING = ("GET", "HEAD", "OPTIONS", "LIST")
_ASKING = re.compile(r"/(tokenreviews|subjectaccessreviews|selfsubject\w+reviews)$")
_VAULT_READS = re.compile(r"^(auth/[^/]+/login|transit/(decrypt|datakey)/.*)$")
_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}
_HEAD_LIMIT = 256 * 1024


def kubernetes_call(method: str, target: str) -> Call:
    """A request to the API server: `PATCH namespaces/<name>/secrets/…`."""
    path, _, query = target.partition("?")
    short = re.sub(r"^/(api/v1|apis/[^/]+/[^/]+)/?", "", path) or path
    watches = method == "GET" and bool(re.search(r"\bwatch=(true|1)", query))
    return Call(
        system="kubernetes",
        label=masked(f"{method} {short}"),
        writes=method not in _READING and not _ASKING.search(path) and not UNNUMBERED.search(path),
        watches=watches,
        lists=method == "GET" and not watches and "/" not in short,
    )


def vault_call(method: str, target: str) -> Call:
    """A request to Vault: `POST tenants/data/<id>/platform/database`. Logging in changes nothing of ours."""
    short = target.partition("?")[0].removeprefix("/v1/")
    writes = method not in _READING and not _VAULT_READS.match(short)
    return Call(system="vault", label=masked(f"{method} {short}"), writes=writes)


def provider_call(method: str, target: str) -> Call:
    """A request to a CI system: `PATCH /repos/acme/<name>/hooks/<id>`."""
    path = re.sub(r"(?<=/)[0-9]+(?=/|$)", "<id>", target.partition("?")[0])
    return Call(system="provider", label=masked(f"provider: {method} {path}"), writes=method not in _READING)


def ray_call(method: str, target: str) -> Call:
    """A request to Ray's Jobs API: `ray: POST jobs/<id>/stop`."""
    path = target.partition("?")[0].removeprefix("/api/")
    path = re.sub(r"_ray_pkg_[0-9a-f]+\.zip", "<package>", path)
    path = re.sub(r"(?<=jobs/)[0-9a-f]{32}", "<id>", path)
    return Call(system="ray", label=f"ray: {method} {path}", writes=method not in _READING)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class _Gone(Exception):
    """The connection is to end here, without a word."""


class HttpProxy:
    """Listens on loopback and forwards to one server."""

    def __init__(
        self,
        *,
        upstream: str,
        switch: Switch,
        describe: Callable[[str, str], Call],
        serve: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._upstream, self._switch, self._describe = upstream, switch, describe
        self._serve, self._trust = serve, trust
        self._session: aiohttp.ClientSession | None = None
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._trust or True),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        )
        self._listener = await asyncio.start_server(
            self._connected, "127.0.0.1", port, ssl=self._serve, limit=_HEAD_LIMIT
        )

    async def stop(self) -> None:
        """Close every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                await self._handle(await _read(reader), reader, writer)
        except (_Gone, OSError, asyncio.IncompleteReadError, aiohttp.ClientError):
            writer.transport.abort()  # one side is gone, so the other goes, too
        except asyncio.CancelledError:
            return  # by `stop`, which waits for nobody; asyncio would print a trace
        finally:
            self._open.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _handle(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        call = self._describe(request.method, request.target)
        write, treatment = self._switch.arrive(call)
        match treatment:
            case Kill(before=True):
                _settle(write, "lost")
                self._switch.strike()
                raise _Gone
            case Refuse():
                _settle(write, "refused")
                await _send(writer, treatment.code, *_refusal(call, treatment))
                return
            case Replay(body=old):
                await _send(writer, 200, {"Content-Type": "application/json"}, old)
                return
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
        if call.watches:
            await self._watch(request, reader, writer, treatment)
            return
        # shielded: what the operator had sent reaches the server, whatever becomes of the operator
        status, headers, body = await asyncio.shield(
            asyncio.ensure_future(self._forward(request, write, treatment))
        )
        if isinstance(treatment, Kill):
            raise _Gone
        await _send(writer, status, headers, body, half=isinstance(treatment, Cut))

    async def _forward(
        self, request: _Request, write: Write | None, treatment: Treatment | None
    ) -> tuple[int, dict[str, str], bytes]:
        async with self._ask(request) as answer:
            content = await answer.read()
            _settle(write, "applied" if answer.status < 400 else "refused")
            if isinstance(treatment, Kill):
                self._switch.strike()
            return answer.status, _headers(answer), content

    async def _watch(
        self,
        request: _Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        treatment: Treatment | None,
    ) -> None:
        """Hand frames on until either side ends it."""
        pump = asyncio.ensure_future(self._pump(request, writer, treatment))
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((pump, hung_up), return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                raise _Gone
            pump.result()
        finally:
            for task in (pump, hung_up):
                task.cancel()
            await asyncio.gather(pump, hung_up, return_exceptions=True)

    async def _pump(
        self, request: _Request, writer: asyncio.StreamWriter, treatment: Treatment | None
    ) -> None:
        async with self._ask(request) as answer:
            headers = _headers(answer) | {"Transfer-Encoding": "chunked"}
            writer.write(_head(answer.status, headers))
            await writer.drain()
            buffer = b""
            async for chunk in answer.content.iter_any():
                if isinstance(treatment, Hole):
                    continue
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    if not _drops(treatment, line):
                        writer.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
                await writer.drain()
        raise _Gone  # as a server does that ends: kopf opens the next watch on a new connection

    def _ask(self, request: _Request) -> aiohttp.client._RequestContextManager:
        assert self._session is not None
        headers = [(name, value) for name, value in request.headers if name.lower() not in _HOP]
        url = URL(self._upstream + request.target, encoded=True)
        return self._session.request(
            request.method, url, headers=headers, data=request.body or None, allow_redirects=False
        )


def _drops(treatment: Treatment | None, line: bytes) -> bool:
    if not isinstance(treatment, DropFrames) or treatment.having not in line:
        return False
    if not any(line.startswith(b'{"type":"' + kind) for kind in treatment.types):
        return False
    treatment.dropped()
    return True


def _settle(write: Write | None, outcome: str) -> None:
    if write is not None:
        write.outcome = outcome


def _refusal(call: Call, refuse: Refuse) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/json"}
    if refuse.retry_after is not None:
        headers["Retry-After"] = str(refuse.retry_after)
    if call.system == "vault":
        return headers, json.dumps({"errors": [refuse.reason or "refused by a fault"]}).encode()
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": refuse.reason,
        "message": "refused by a fault",
        "code": refuse.code,
    }
    return headers, json.dumps(document).encode()


# --- HTTP/1.1 ---------------------------------------------------------------------------------------------


async def _read(reader: asyncio.StreamReader) -> _Request:
    """The next request of a connection that stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    known = {name.lower(): value for name, value in headers}
    if "chunked" in known.get("transfer-encoding", ""):
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(known.get("content-length", "0")))
    return _Request(method, target, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if not size:
            return body


async def _send(
    writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes, *, half: bool = False
) -> None:
    writer.write(_head(status, headers | {"Content-Length": str(len(body))}))
    writer.write(body[: len(body) // 2] if half else body)
    await writer.drain()
    if half:
        writer.close()
        raise _Gone


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
