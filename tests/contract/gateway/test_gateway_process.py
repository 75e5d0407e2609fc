"""`python -m gateway` as a process: it starts without an API server and logs JSON without secrets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

import aiohttp
import pytest
import yaml

from dev import places


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def start(gateway_folder, platform_logins, tenant_server, tmp_path):
    """Starts a gateway process on a port; its API server is down."""

    async def process(port):
        kubeconfig, dsn = tmp_path / "kubeconfig", tmp_path / "platform.dsn"
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
        settings = tmp_path / "settings.yaml"
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


async def test_whatever_was_acknowledged_when_it_is_killed_is_stored_once(serve, start, github, eventually):
    port, acknowledged = free_port(), set()
    process = await start(port)
    async with serve() as world:
        hook = await world.hook(tenant := await world.tenant())
        world.url = f"http://127.0.0.1:{port}"

        async def deliver(run):
            try:
                answer = await world.deliver(
                    hook, "workflow_run", github("requested", run=run), id=f"d-{run}"
                )
            except (OSError, aiohttp.ClientError):
                return False
            if answer.status == 202:
                acknowledged.add(f"d-{run}")
            return answer.status in (200, 202)

        await eventually(lambda: deliver(0), within=30)
        sending = [asyncio.create_task(deliver(run)) for run in range(1, 200)]
        while len(acknowledged) < 60:  # noqa: ASYNC110 - the answers come one by one
            await asyncio.sleep(0)
        process.kill()
        await asyncio.gather(*sending)
        await process.communicate()
        assert 60 <= len(acknowledged) < 200
        found = [name for (name,) in await tenant.rows("SELECT delivery_id FROM pipewright.events")]
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)

        process = await start(port)
        await eventually(lambda: deliver(0), within=30)

        async def until_taken(run):
            await eventually(lambda: deliver(run), within=30)  # who is told to wait sends it again

        await asyncio.gather(*map(until_taken, range(200)))
        process.kill()
        await process.communicate()
        for table in ("events", "deliveries", "runs"):
            assert await tenant.rows(f"SELECT count(*) FROM pipewright.{table}") == [(200,)]


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
