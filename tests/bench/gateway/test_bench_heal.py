"""From a failed run's webhook to the re-run's request at the provider, beside a bot that keeps nothing.

The way: webhook → stored, scored, decided → WorkflowRun created → runner's journal → call of the provider.
The bot waits for the webhook's answer only and calls the provider at once: no record, no retry.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from dev import simulator
from dev.demo.scene import ProviderClient
from dev.github_payloads import github_deliveries
from dev.stack import Stack

RUNS = 20
LOOK = 0.005
"""Seconds between two looks at what the provider was asked."""
TABLE = f"Healing: {RUNS} failed runs one after the other, from the webhook to the re-run"

WORKFLOW = {
    "triggers": [
        {
            "event": "pipelinerun.finished",
            "if": "event.outcome == 'failure' && prediction.retry.probability >= 0.0",
        }
    ],
    "steps": [
        {
            "name": "rerun",
            "uses": "github/rerun-failed-jobs",
            "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
        }
    ],
}


@pytest.mark.timeout(300)
async def test_failed_runs_are_run_again(
    site: Any,
    provider: ProviderClient,
    model_file: bytes,
    loop_of_clients: Any,
    report: Any,
    figure: Any,
    stack: Stack,
) -> None:
    here = site("bench-heal")
    await here.serve(model_file)
    kubectl = stack.parts.system().kubectl
    metadata = {"name": "heal", "namespace": here.namespace}
    kubectl.apply(
        {"apiVersion": "pipewright.dev/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": WORKFLOW}
    )
    where = ("workflow/heal", "-n", here.namespace)
    kubectl.run("wait", "--for=condition=Ready", *where, "--timeout=60s", timeout=70)
    whole, answered, bots = [], [], []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {provider.token}"}) as http:
        for number in range(RUNS):
            run, before, last = failed(here, number)
            await played(http, provider, run)
            found = await loop_of_clients(here.port, before, clients=1)
            assert found.statuses == {202: len(before)}
            began = time.perf_counter()
            found = await loop_of_clients(here.port, [last], clients=1)
            assert found.statuses == {202: 1}
            answered.append(time.perf_counter() - began)
            await asked_again(http, provider, run["id"])
            whole.append(time.perf_counter() - began)
            bots.append(answered[-1] + await direct(http, provider, number, here))
    report.add(
        TABLE,
        figure(
            what="from the webhook to the provider's re-run",
            unit="ms",
            values=[1000 * seconds for seconds in whole],
            limit=[1000 * seconds for seconds in bots],
            limit_is="the bot",
        ),
        figure(
            what="of it until the webhook is answered", unit="ms", values=[1000 * each for each in answered]
        ),
    )


def failed(here: Any, number: int) -> tuple[dict[str, Any], list[bytes], bytes]:
    """A run whose first attempt fails: its records, its webhooks, and the one that says that it failed."""
    attempt = [dict(record) for record in simulator.story(at=datetime.now(UTC), seed=9000 + number).first]
    run_id, sha = str(900_000_000 + uuid.uuid4().int % 99_000_000), uuid.uuid4().hex + "0" * 8
    for record in attempt:
        record["id" if record["type"] == "run" else "run"] = run_id
        if record["type"] == "job":
            record["id"] = str(uuid.uuid4().int % 10**12)
        if "sha" in record:
            record["sha"] = sha
    sent = [(event, payload) for _, event, payload in github_deliveries(attempt)]
    over = next(it for it in sent if it[0] == "workflow_run" and it[1]["action"] == "completed")
    sent.remove(over)
    messages = [here.delivery(event, json.dumps(payload).encode()) for event, payload in [*sent, over]]
    return {**attempt[0], "attempts": [attempt]}, messages[:-1], messages[-1]


async def played(http: aiohttp.ClientSession, provider: ProviderClient, run: dict[str, Any]) -> None:
    """Let the provider have the run; it has no webhook of ours, so what it says of it nobody hears."""
    document = {"attempts": run["attempts"], "delay": 0.0}
    async with http.post(f"{provider.url}/_sim/runs", json=document) as answer:
        assert answer.status == 201
    async with asyncio.timeout(10):
        while True:
            async with http.get(f"{provider.url}/_sim/runs") as answer:
                known = {it["id"]: it["status"] for it in await answer.json()}
            if known[run["id"]] == "completed":
                return
            await asyncio.sleep(LOOK)


async def asked_again(http: aiohttp.ClientSession, provider: ProviderClient, run_id: str) -> None:
    """Wait until the provider was asked to run it again."""
    async with asyncio.timeout(30):
        while True:
            async with http.get(f"{provider.url}/_sim/calls") as answer:
                calls = await answer.json()
            found = [it["status"] for it in calls if it["path"].endswith(f"{run_id}/rerun-failed-jobs")]
            if found:
                assert found == [201]
                return
            await asyncio.sleep(LOOK)


async def direct(http: aiohttp.ClientSession, provider: ProviderClient, number: int, here: Any) -> float:
    """Seconds of the provider's answer to a re-run that is asked for directly."""
    run, _, _ = failed(here, 5000 + number)
    await played(http, provider, run)
    began = time.perf_counter()
    url = f"{provider.url}/repos/{run['project']}/actions/runs/{run['id']}/rerun-failed-jobs"
    async with http.post(url) as answer:
        assert answer.status == 201
    return time.perf_counter() - began
