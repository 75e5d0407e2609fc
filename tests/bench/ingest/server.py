"""The gateway with one more route: a durable insert for each request, and nothing else that we do.

    python -m tests.bench.ingest.server SETTINGS TENANT

It is the product's application, composed as `gateway.__main__` does, but for the cluster, which nobody asks.
The route's inserts go through the same server, the same middleware and the same pools.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors import catalogue
from gateway import app, heads, memory, reading
from gateway import parts as gateway_parts
from gateway.doors import Door
from gateway.parts import Parts
from pipewright.plan import Manifest
from pipewright.ports import SystemClock
from pipewright.runtime import logs
from pipewright.settings import Settings

CONNECTIONS = 8
"""Inserts at the same time: of 4, 8 and 16 the one with which there are most."""
INSERT = "INSERT INTO bench.raw (id, body) VALUES (%s, %s)"


class NoCluster:
    """Nobody asks it."""

    async def create(self, _manifest: Manifest) -> Manifest | None:
        raise AssertionError("nothing is dispatched here")

    async def review(self, _manifest: Manifest) -> Manifest:
        raise AssertionError("nobody is reviewed here")


def inserts(parts: Parts, tenant: str) -> Mapping[str, Door]:
    """The routes that do less: an INSERT in a transaction as the gateway opens them, or without one."""
    turn = asyncio.Semaphore(CONNECTIONS)

    async def insert(_name: str, request: Request) -> Response:
        body = await reading.whole(request, limit=2**20)
        async with turn, parts.databases.transaction(tenant) as conn:
            await conn.execute(INSERT, [uuid.uuid4(), body])
        return JSONResponse({"accepted": True}, 202)

    async def insert_bare(_name: str, request: Request) -> Response:
        body = await reading.whole(request, limit=2**20)
        dsn = parts.databases.access(tenant).dsn
        async with turn, parts.connections.connection(tenant, dsn) as conn:
            await conn.execute(INSERT, [uuid.uuid4(), body])
        return JSONResponse({"accepted": True}, 202)

    return {"/bench/insert/{name}": insert, "/bench/insert-bare/{name}": insert_bare}


async def serve(settings: Settings, tenant: str) -> None:
    """Serve until a signal."""
    parts = gateway_parts.build(
        settings,
        cluster=NoCluster(),
        catalogue=catalogue.load(),
        clock=SystemClock(),
        limits=gateway_parts.Limits(tenant_transactions=CONNECTIONS, tenant_requests=1000),
    )
    built = app.create(parts, others=inserts(parts, tenant))
    config = uvicorn.Config(
        built,
        host="127.0.0.1",
        port=settings.listen.port,
        http=heads.PromptHeads,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
    )
    memory.settle()
    await uvicorn.Server(config).serve()


def main() -> None:
    """Serve with the settings in a file, which tells its log as the product does."""
    logs.configure(component="gateway")
    uvloop.run(serve(Settings.model_validate_json(Path(sys.argv[1]).read_text()), sys.argv[2]))


if __name__ == "__main__":
    main()
