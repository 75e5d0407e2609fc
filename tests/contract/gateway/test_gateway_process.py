"""`python -m gateway` as a process: it starts without an API server and logs JSON without secrets."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial

import aiohttp
import pytest
import yaml

from dev import places
from tests.contract.gateway.conftest import Proxy


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def start(gateway_folder, platform_logins, tenant_server, tmp_path):
    """Starts a gateway process on a port; its API server is down."""

    async def process(port):
        kubeconfig, dsn = tmp_path / f"kubeconfig-{port}", tmp_path / f"platform-{port}.dsn"
        dsn.write_text(platform_logins["pipewright_gateway"])
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}],
                    "users": [{"name": "u", "user": {"token": "canary-token"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )
        settings = tmp_path / f"settings-{port}.yaml"
        settings.write_text(
            yaml.safe_dump(
                {
                    "component": "gateway",
                    "identity": "gateway-0",
                    "kubeconfig": str(kubeconfig),
                    "listen": {"host": "127.0.0.1", "port": port},
                    "platformDatabase": {"dsnFile": str(dsn)},
                    "servers": [{"name": "main", "host": tenant_server.host, "port": tenant_server.port}],
                    "gateway": {
                        "privateKeyFile": str(gateway_folder / "gateway.key"),
                        "baseUrl": f"http://127.0.0.1:{port}",
                    },
                    "artifacts": {"url": (gateway_folder / "artifacts").as_uri()},
                }
            )
        )
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway",
            env={
                "PATH": os.environ["PATH"],
                "PIPEWRIGHT_SETTINGS": str(settings),
                "PYTHONPATH": f"{places.ROOT / 'operator'}:{places.ROOT}",
            },
            cwd=places.ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    return process


async def test_with_the_api_server_down_it_takes_webhooks_and_ends_on_a_signal(
    serve, start, github, eventually
):
    port = free_port()
    process = await start(port)
    try:
        async with serve() as world:
            tenant = await world.tenant()
            hook = await world.hook(tenant)
            world.url = f"http://127.0.0.1:{port}"

            async def ready():
                assert process.returncode is None
                try:
                    return (await world.ask("GET", "/readyz")).status == 200
                except OSError:
                    return False

            await eventually(ready, within=30)

            async def taken():
                answer = await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
                return answer.status == 202

            await eventually(taken)
            refused = await world.deliver(hook, "workflow_run", github("requested"), body=b"canary-body")
            assert refused.status == 400
            answer = await world.rest(
                "GET",
                f"/v1/namespaces/{tenant.namespace}/workflows/w/decisions",
                params={"cursor": "canary-query"},
            )
            assert answer.status == 503
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, output
    lines = [json.loads(line) for line in output.decode().splitlines()]
    assert {line["component"] for line in lines} == {"gateway"}
    assert any(line.get("route") == "/hooks/{hook_id}" and line.get("status") == 202 for line in lines)
    for canary in ("canary", hook.id, hook.secret, "password-of-ingest", "octocat"):
        assert canary not in output.decode(), canary


class Replicas:
    """Two processes behind one Service, and a CI system that sends again what was not taken."""

    def __init__(self, world, github, service):
        self.world, self.github, self.service = world, github, service
        self.runs, self.taken = itertools.count(1), set()

    async def deliver(self, hook, *, run=None, at=None):
        """The answer to a delivery, sent to one replica or to the Service; None: it was cut off."""
        run = run or next(self.runs)
        self.world.url = f"http://127.0.0.1:{at or self.service}"
        try:
            payload = self.github("requested", run=run)
            answer = await self.world.deliver(hook, "workflow_run", payload, id=f"d-{run}")
        except (OSError, aiohttp.ClientError):
            return None
        if answer.status in (200, 202):
            self.taken.add(f"d-{run}")
        return answer

    async def send(self, hook, count):
        """Send so many, each until it is taken."""
        for run in itertools.islice(self.runs, count):
            while f"d-{run}" not in self.taken:
                await self.deliver(hook, run=run)


async def test_of_two_replicas_behind_a_service_one_is_killed_and_whatever_was_acknowledged_is_stored_once(
    serve, start, github, model_file, state, kept, eventually
):
    ports = [free_port(), free_port()]
    processes = [await start(port) for port in ports]
    service = Proxy(*(("127.0.0.1", port) for port in ports))
    await service.up()
    try:
        async with serve() as world:
            replicas, tenant = Replicas(world, github, service.port), await world.tenant()
            hook = await world.hook(tenant)
            pointer = await world.promote(tenant, model_file)

            # what one hears the other hears: a route, a model, a rotated key, a tenant that is suspended
            async def scores(port):
                answer = await replicas.deliver(hook, at=port)
                found = await tenant.rows("SELECT model_version FROM pipewright.predictions")
                count = len(found)
                return answer and answer.status == 202 and (pointer.version,) in found[counted:] and count

            counted = 0
            for port in ports:
                counted = await eventually(partial(scores, port), within=30)

            async def refuses(port):
                answer = await replicas.deliver(hook, at=port)
                return answer is not None and answer.status == 401

            await world.rotate(hook, ["another key"])
            for port in ports:
                await eventually(partial(refuses, port))
            hook = replace(hook, secret="another key")

            async def parks(port):
                answer = await replicas.deliver(hook, at=port)
                return answer is not None and answer.body.get("parked")

            await state(tenant, "Suspended", where=world)
            for port in ports:
                await eventually(partial(parks, port))
            await replicas.send(hook, 20)

            # what waited is replayed by two at once, while webhooks are steady, and one is gone
            await state(tenant, "Active", where=world)
            before = len(replicas.taken)
            sending = [asyncio.create_task(replicas.send(hook, 25)) for _ in range(8)]
            while len(replicas.taken) < before + 60:  # noqa: ASYNC110 - the answers come one by one
                await asyncio.sleep(0.001)
            processes[0].kill()
            assert len(replicas.taken) < before + 200
            await asyncio.wait_for(asyncio.gather(*sending), 60)

            async def replayed():
                return not await kept(tenant)

            await eventually(replayed, within=30)
            for table in ("events", "deliveries"):
                found = await tenant.rows(f"SELECT delivery_id FROM pipewright.{table}")
                assert sorted(name for (name,) in found) == sorted(replicas.taken), table
            assert await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(len(replicas.taken),)]
    finally:
        await service.down()
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_wrong_settings_are_one_line(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway",
        env={
            "PATH": os.environ["PATH"],
            "PIPEWRIGHT_SETTINGS": str(tmp_path / "absent.yaml"),
            "PYTHONPATH": f"{places.ROOT / 'operator'}:{places.ROOT}",
        },
        cwd=places.ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("gateway: cannot read ")
    assert len(errors.decode().splitlines()) == 1
