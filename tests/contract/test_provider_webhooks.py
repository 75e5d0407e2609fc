"""Registering webhooks by the github connector at the provider simulator, a real process on loopback."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.outbound import Outbound
from dev import places
from dev.web import demand
from pipewright import errors
from pipewright.backends.runner.actions import ConnectorActions
from pipewright.ports import ProviderAccount, Secret

PATH = "/hooks/abcdefghijklmnopqrstuvwxyz012345"


@dataclass(frozen=True)
class Simulator:
    """The running process."""

    url: str
    token: str

    def ask(self, method: str, path: str, document: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return demand(f"{self.url}{path}", method=method, document=document, headers=headers)

    def account(self, project: str, token: str | None = None) -> ProviderAccount:
        return ProviderAccount(
            connector="github",
            config={"baseUrl": self.url},
            credentials={"token": Secret(token or self.token)},
            project=project,
        )


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder: Path = tmp_path_factory.mktemp("provider")
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.provider", "--state", str(folder)],
        cwd=places.ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "operator"},
    )
    try:
        deadline = time.monotonic() + 30
        while not (folder / "address").exists():
            assert process.poll() is None, "the simulator ended"
            assert time.monotonic() < deadline, "the simulator does not listen"
            time.sleep(0.02)
        yield Simulator((folder / "address").read_text(), (folder / "token").read_text())
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
async def actions(simulator: Simulator) -> AsyncIterator[ConnectorActions]:
    async with Outbound(allow=[simulator.url.removeprefix("http://")]) as outbound:
        yield ConnectorActions(outbound)


async def test_a_webhook_is_made_found_repaired_and_removed(
    simulator: Simulator, actions: ConnectorActions
) -> None:
    account = simulator.account("acme/life")
    assert list(await actions.find_webhooks(account, path=PATH, known="")) == []
    await actions.create_webhook(account, url=f"https://a.example{PATH}", secret=Secret("one"))
    (made,) = await actions.find_webhooks(account, path=PATH, known="")
    assert (made.url, made.current) == (f"https://a.example{PATH}", True)
    simulator.ask("PATCH", f"/repos/acme/life/hooks/{made.id}", {"active": False})
    (off,) = await actions.find_webhooks(account, path=PATH, known="")
    assert not off.current
    await actions.update_webhook(account, made.id, url=f"https://b.example{PATH}", secret=Secret("two"))
    (mended,) = await actions.find_webhooks(account, path="/hooks/other", known=made.id)
    assert (mended.id, mended.url, mended.current) == (made.id, f"https://b.example{PATH}", True)
    for _ in range(2):
        await actions.delete_webhook(account, made.id)
    assert list(await actions.find_webhooks(account, path=PATH, known=made.id)) == []


async def test_webhooks_of_others_are_not_ours(simulator: Simulator, actions: ConnectorActions) -> None:
    for number in range(120):  # more than a page
        config = {"url": f"https://elsewhere.example/{number}"}
        simulator.ask("POST", "/repos/acme/busy/hooks", {"name": "web", "config": config})
    account = simulator.account("acme/busy")
    await actions.create_webhook(account, url=f"https://a.example{PATH}", secret=Secret("one"))
    (ours,) = await actions.find_webhooks(account, path=PATH, known="")
    assert ours.url == f"https://a.example{PATH}"


async def test_the_same_one_again_is_refused(simulator: Simulator, actions: ConnectorActions) -> None:
    account = simulator.account("acme/twice")
    await actions.create_webhook(account, url=f"https://a.example{PATH}", secret=Secret("one"))
    with pytest.raises(errors.Stalled, match="already exists") as refused:
        await actions.create_webhook(account, url=f"https://a.example{PATH}", secret=Secret("canary"))
    assert "canary" not in refused.value.message


async def test_a_wrong_token_is_refused(simulator: Simulator, actions: ConnectorActions) -> None:
    with pytest.raises(errors.Stalled) as refused:
        await actions.find_webhooks(simulator.account("acme/life", "wrong"), path=PATH, known="")
    assert refused.value.reason == "CredentialsRefused"


async def test_a_connector_without_registration_says_so(
    simulator: Simulator, actions: ConnectorActions
) -> None:
    account = ProviderAccount(connector="jenkins", config={}, credentials={}, project="acme/x")
    with pytest.raises(errors.Stalled, match="registers no webhooks"):
        await actions.find_webhooks(account, path=PATH, known="")


async def test_a_delivery_that_failed_is_found_asked_for_again_and_filled(
    simulator: Simulator, actions: ConnectorActions
) -> None:
    codes = iter([503, 202])

    async def receive(_: web.Request) -> web.Response:
        return web.Response(status=next(codes))

    application = web.Application()
    application.router.add_post(PATH, receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    account, since = simulator.account("acme/gaps"), datetime.now(UTC) - timedelta(minutes=1)
    try:
        await actions.create_webhook(account, url=f"{site.name}{PATH}", secret=Secret("one"))
        (hook,) = await actions.find_webhooks(account, path=PATH, known="")
        payload = {"action": "completed", "repository": {"full_name": "acme/gaps"}}
        sent = [{"event": "workflow_run", "payload": payload}]
        await asyncio.to_thread(simulator.ask, "POST", "/_sim/deliver", sent)
        look = await actions.missed_deliveries(account, hook.id, since=since)
        (missed,) = look.missed
        assert (missed.tries, look.filled_at) == (1, None)
        await actions.redeliver(account, hook.id, missed.id)
        look = await actions.missed_deliveries(account, hook.id, since=since)
        assert look.missed == ()
        assert look.filled_at is not None
    finally:
        await runner.cleanup()
