"""The server that all simulated CI systems share: who may ask, what was recorded and done, what is sent."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from dev import places

SAMPLES: Final = places.ROOT / "connectors" / "catalogue" / "fixtures"
LOG: Final = "".join(f"line {number:04d}\n" for number in range(1, 1001)) + "FAIL checkout flow\n"
"""What every job has written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, as a vendor's handler sees it."""

    path: str
    """As it is escaped."""
    at: Mapping[str, str]
    """What the route's expression found in it."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    """Its JSON; None: none was sent."""
    url: str
    """The whole address, for links in answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a webhook tells."""

    name: str
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A delivery on the wire."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Answer = Callable[["Simulator", Asked], web.Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What is one vendor's own."""

    name: str
    """The connector's."""
    credentials: Mapping[str, str]
    """Those that open it, by the keys of the Integration's Secret."""
    admits: Callable[[Asked], bool]
    """Whether a request has them."""
    refusal: Callable[[], web.Response]
    """What the vendor answers to others."""
    routes: Sequence[tuple[str, str, Answer]]
    """Method, expression for the whole path, and the answer. What was recorded needs none."""
    sign: Callable[[Event, str], Sent]
    """An event as it is sent, proved with the webhook's secret."""
    open: frozenset[str] = frozenset()
    """Paths that are answered to everybody."""
    busy: Mapping[str, str] = field(default_factory=lambda: {"Retry-After": "7"})
    """What a 429 says of when to come again."""


@dataclass(slots=True)
class Simulator:
    """One system, running."""

    system: System
    most: int = 2
    """Items of a page, where the vendor says how many there are and not the client."""
    scopes: list[str] = field(default_factory=list)
    """What the token may do, where the vendor tells."""
    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    """What GET gives, by path: recorded, and changed by what is done."""
    done: list[str] = field(default_factory=list)
    """What was carried out, in words: `retry 301`."""
    asked: list[str] = field(default_factory=list)
    """`GET /path 200` of every request."""
    codes: list[int] = field(default_factory=list)
    """What the webhook's receiver answered."""
    busy_in: int = 0
    """So many requests from now one is answered with 429; 0: none."""
    _hook: tuple[str, str] | None = None
    _session: aiohttp.ClientSession | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for file in sorted((SAMPLES / self.system.name / "sync").glob("*.json")):
            self.answers |= json.loads(file.read_text(encoding="utf-8"))["answers"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Simulator]:
        """Serve on a free port of loopback."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = site.name
        try:
            async with aiohttp.ClientSession(trust_env=False) as self._session:
                yield self
                await self.settle()
        finally:
            await runner.cleanup()

    # --- webhooks ---------------------------------------------------------------------------------------

    def hook(self, url: str, secret: str) -> None:
        """Where webhooks go from now on, as its user enters it at the vendor."""
        self._hook = url, secret

    @property
    def entered(self) -> tuple[str, str]:
        """Where webhooks go, and their secret."""
        assert self._hook is not None, "no webhook was entered"
        return self._hook

    async def send(self, event: Event, *, secret: str = "") -> int:
        """Send a webhook, signed with the hook's secret or with this one; gives the receiver's answer."""
        assert self._session is not None, "it does not run"
        url, own = self.entered
        sent = self.system.sign(event, secret or own)
        async with self._session.post(url, data=sent.body, headers=sent.headers) as answer:
            self.codes.append(answer.status)
            return answer.status

    def happens(self, sample: str, **changes: Any) -> None:
        """Something happens, and its webhook is on its way: a sample with changes, `a__b=1` for `a.b`."""
        if self._hook is None:
            return
        task = asyncio.ensure_future(self.send(event_of(self.system.name, sample, **changes)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait until everything that happened was sent."""
        await asyncio.gather(*self._tasks)

    # --- the REST API -----------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = Asked(
            path=request.url.raw_path,
            at={},
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=json.loads(raw) if raw else None,
            url=str(request.url),
        )
        answer = self._answer(request.method, asked)
        self.asked.append(f"{request.method} {asked.path} {answer.status}")
        return answer

    def _answer(self, method: str, asked: Asked) -> web.Response:
        self.busy_in -= 1
        if self.busy_in == 0:
            return web.json_response({"message": "busy"}, status=429, headers=self.system.busy)
        if asked.path not in self.system.open and not self.system.admits(asked):
            return self.system.refusal()
        for verb, path, answer in self.system.routes:
            found = re.fullmatch(path, asked.path)
            if verb == method and found:
                return answer(self, _placed(asked, found.groupdict()))
        if method == "GET" and asked.path in self.answers:
            return web.json_response(self.answers[asked.path])
        return web.json_response({"message": "Not Found"}, status=404)


def _placed(asked: Asked, at: Mapping[str, str]) -> Asked:
    return Asked(
        path=asked.path, at=at, query=asked.query, headers=asked.headers, body=asked.body, url=asked.url
    )


def event_of(system: str, sample: str, **changes: Any) -> Event:
    """What a sample of a connector tells, with these changes of its body."""
    data = sample_of(system, sample)
    body = copy.deepcopy(data["body"])
    for name, value in changes.items():
        *path, last = name.split("__")
        at = body
        for step in path:
            at = at[step]
        at[last] = value
    return Event(name=data["event"], body=body)


def sample_of(system: str, sample: str) -> Any:
    """A sample of a connector, with its golden records."""
    path: Path = SAMPLES / system / f"{sample}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def log_text(_: Simulator, __: Asked) -> web.Response:
    """A job's log, where it is plainly given."""
    return web.Response(text=LOG)
