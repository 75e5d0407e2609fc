"""A provider of our own on loopback that notes what comes over the wire, and small manifests that call it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from aiohttp import web

from connectors import manifest
from connectors.manifest import Manifest
from connectors.outbound import Outbound


@dataclass
class Clock:
    """A time that only the test moves on."""

    time: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def move(self, by: timedelta) -> None:
        self.time += by


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    """With the query, as it is escaped."""
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Provider:
    """Answers from a table; the last answer of a path is given for ever."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    _answers: dict[str, list[web.Response | Callable[[Seen], web.Response]]] = field(default_factory=dict)

    def on(
        self, path: str, body: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """The next answer for this path, without regard to the query unless the path has one."""
        text = body if isinstance(body, str) else json.dumps({} if body is None else body)
        self._answers.setdefault(path, []).append(
            lambda _: web.Response(status=status, text=text, headers=headers, content_type="application/json")
        )

    def asked(self, path: str) -> list[Seen]:
        """The requests for a path, in their order."""
        return [seen for seen in self.seen if seen.path.partition("?")[0] == path]

    async def handle(self, request: web.Request) -> web.Response:
        seen = Seen(request.method, request.raw_path, dict(request.headers), await request.read())
        self.seen.append(seen)
        table = self._answers.get(seen.path) or self._answers.get(seen.path.partition("?")[0])
        if table is None:
            return web.json_response({"message": "Not Found"}, status=404)
        answer = table.pop(0) if len(table) > 1 else table[0]
        return answer(seen) if callable(answer) else answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    served = Provider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = str(site.name)
    yield served
    await runner.cleanup()


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[Outbound]:
    async with Outbound(allow=[provider.url.removeprefix("http://")]) as outbound:
        yield outbound


Connector = Callable[..., Manifest]


@pytest.fixture
def connector(provider: Provider) -> Connector:
    """Makes a manifest of the parts that a test is about."""

    def make(auth: Any, *, credentials: tuple[str, ...] = ("token",), **parts: Any) -> Manifest:
        setting = {"type": "string", "description": "x"}
        base: dict[str, Any] = {
            "apiVersion": "connector/v1",
            "metadata": {
                "name": "x",
                "title": "Xen CI",
                "category": "ci",
                "docs": "https://example.com/",
                "maturity": "alpha",
            },
            "config": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "baseUrl": setting | {"default": provider.url},
                    "tokenUrl": setting | {"default": f"{provider.url}/token"},
                    "user": setting | {"default": "ada"},
                    "region": setting | {"default": "eu-west-1"},
                },
            },
            "credentials": {name: {"title": name, "description": name} for name in credentials},
            "http": {
                "baseUrl": "${{ config.baseUrl }}",
                "auth": auth,
                "timeoutSeconds": 5,
                "maxResponseBytes": 65536,
                "retry": {"statuses": [502, 503], "header": "Retry-After"},
                "rateLimit": {"statuses": [403], "remaining": "X-Remaining", "reset": "X-Reset"},
                "message": "body.message",
            },
            "check": {"get": "/me"},
            "actions": {
                "run": {
                    "title": "Run",
                    "description": "Runs.",
                    "post": "/runs/${{ input.id }}",
                    "idempotent": False,
                    "input": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["id"],
                        "properties": {"id": setting},
                    },
                    "body": {"id": "${{ input.id }}"},
                    "output": {"status": "status"},
                }
            },
        }
        http = parts.pop("http", {})
        base["http"] |= http
        return manifest.parse(yaml.safe_dump(base | parts), where="x.yaml")

    return make
