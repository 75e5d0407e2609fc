"""What kopf is told before it starts, and the wait for our kinds to be served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
from aiohttp import web

from pipewright.runtime import watch


def test_kopf_may_not_post_peer_scan_or_keep_anything() -> None:
    settings = watch.configure(labelled={("v1", "namespaces"): "pipewright.dev/tenant"})
    assert settings.posting.enabled is False
    assert settings.peering.standalone is True
    assert settings.scanning.disabled is True
    assert settings.queueing.worker_limit is None
    assert settings.persistence.finalizer == "kopf sets no finalizer"
    assert settings.watching.server_timeout == 300
    assert settings.watching.inactivity_timeout == 70
    assert settings.watching.chunk_size == 500
    assert settings.process.ultimate_exiting_timeout is None


def test_kopfs_storages_neither_read_nor_write() -> None:
    settings = watch.configure()
    patch, body = kopf.Patch(), kopf.Body({"metadata": {"annotations": {"kopf.zalando.org/x": "not json"}}})
    progress, base = settings.persistence.progress_storage, settings.persistence.diffbase_storage
    assert progress.fetch(key="x", body=body) is None
    progress.store(key="x", record={}, body=body, patch=patch)
    progress.purge(key="x", body=body, patch=patch)
    progress.touch(body=body, patch=patch, value="now")
    assert base.fetch(body=body) is None
    assert base.build(body=body) == {}
    base.store(body=body, patch=patch, essence={})
    assert not patch


async def test_the_watch_begins_when_the_last_of_our_kinds_is_served() -> None:
    answers: list[Any] = [None, ["tenants"], ["tenants", "tenants/status", "models"]]
    asked = 0

    async def discover(_: web.Request) -> web.Response:
        nonlocal asked
        found = answers[asked]
        asked += 1
        if found is None:
            return web.json_response({}, status=404)
        return web.json_response({"resources": [{"name": name} for name in found]})

    assert await served(discover, plurals={"tenants", "models"})
    assert asked == 3


async def test_an_answer_that_kopf_can_handle_is_left_to_it() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({}, status=401)

    assert await served(refuse, plurals={"tenants"})


async def test_a_list_is_read_without_the_owners_of_fields() -> None:
    async def listed(_: web.Request) -> web.Response:
        metadata = {"name": "acme", "labels": {"a": "b"}, "managedFields": [{"fieldsV1": {"f:spec": {}}}]}
        return web.json_response({"items": [{"metadata": metadata, "spec": {"quota": {}}}]})

    async with (
        serving("/list", listed) as server,
        aiohttp.ClientSession(response_class=watch.Lean) as session,
        session.get(f"{server}/list") as answer,
    ):
        metadata = {"name": "acme", "labels": {"a": "b"}}
        assert await answer.json() == {"items": [{"metadata": metadata, "spec": {"quota": {}}}]}


async def served(answer: Any, *, plurals: set[str]) -> bool:
    async with (
        serving("/apis/pipewright.dev/v1alpha1", answer) as server,
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
    ):
        await watch.until_served(session, server, plurals=plurals, pause=0)
    return True


@asynccontextmanager
async def serving(path: str, answer: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
