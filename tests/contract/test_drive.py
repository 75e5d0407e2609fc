"""The whole runtime on a real API server: kopf, queue and driver around a controller of a few lines."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kopf
import pytest

from dev.parts import Cluster
from pipewright.api.meta import Condition, now_without_fraction
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.tenant import TenantStatus
from pipewright.backends.kubernetes import KubernetesCluster, connect
from pipewright.outcome import Outcome
from pipewright.plan import Results
from pipewright.ports import SystemClock
from pipewright.runtime import watch
from pipewright.runtime.drive import Controller, Driver
from pipewright.runtime.events import Events
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import WorkQueue
from pipewright.runtime.streams import Streams

FINALIZER = "pipewright.dev/tenant"


async def reconcile(tenant: Tenant) -> Outcome[TenantStatus]:
    """Says Ready, and on its first visit that it did something."""
    before = {condition.type: condition for condition in tenant.status.conditions}
    first = "Ready" not in before
    at = now_without_fraction(SystemClock().now()) if first else before["Ready"].last_transition_time
    ready = Condition(
        type="Ready",
        status="True",
        reason="Ready",
        message="all is there",
        last_transition_time=at,
        observed_generation=tenant.generation,
    )
    return Outcome(
        status=TenantStatus(observed_generation=tenant.generation, conditions=(ready,)),
        results=Results(done=(("RegisterTenant", f"register tenant {tenant.name}"),) if first else ()),
        finished=tenant.deleting,
    )


@asynccontextmanager
async def operating(cluster: Cluster) -> AsyncIterator[Metrics]:
    client = await connect(Path(cluster.kubeconfig))
    kubernetes, metrics, clock = KubernetesCluster(client), Metrics(), SystemClock()
    queue = WorkQueue(metrics=metrics)
    events = Events(kubernetes, component="test", instance="test-0", clock=clock, metrics=metrics)
    driver = Driver(
        cluster=kubernetes,
        queue=queue,
        controllers=[Controller(kind=Tenant, reconcile=reconcile, finalizer=FINALIZER)],
        events=events,
        clock=clock,
        metrics=metrics,
    )
    registry = kopf.OperatorRegistry()
    streams = Streams(["tenants"], metrics=metrics)
    watch.login(registry, kubeconfig=Path(cluster.kubeconfig), streams=streams)
    watch.watch(registry, queue, Tenant)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.run(driver.drive))
        watching = tasks.create_task(
            watch.operate(registry, watch.configure(), streams=streams, stop=asyncio.Event())
        )
        try:
            yield metrics
        finally:
            watching.cancel()
            queue.stop()
    await client.close()


async def until(fact: Callable[[], Any], within: float = 30) -> Any:
    async with asyncio.timeout(within):
        while not (found := await asyncio.to_thread(fact)):  # noqa: ASYNC110 - a fact that nobody announces
            await asyncio.sleep(0.05)
    return found


def condition(cluster: Cluster, name: str, word: str) -> bool:
    found = cluster.kubectl.get("tenant", name)
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(it["type"] == "Ready" and it["status"] == word for it in conditions)


def writes(audit_log: Path, name: str) -> list[str]:
    """Writes to the tenant that neither kubectl nor its stand-in sent."""
    found = []
    for line in audit_log.read_text().splitlines():
        entry = json.loads(line)
        target = entry.get("objectRef", {})
        if target.get("name") == name and not entry.get("userAgent", "").startswith(
            ("kubectl", "pipewright-stack")
        ):
            found.append(f"{entry['verb']} {target['resource']} {target.get('subresource', '')}".strip())
    return found


@pytest.fixture
def name() -> str:
    return f"driven-{uuid.uuid4().hex[:6]}"


async def test_a_tenant_lives_and_goes_with_the_fewest_writes(
    control_plane: Cluster, audit_log: Path, name: str
) -> None:
    kubectl = control_plane.kubectl
    manifest = {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": {},
    }
    async with operating(control_plane) as metrics:
        await asyncio.to_thread(kubectl.apply, manifest)
        await until(lambda: condition(control_plane, name, "True"))

        def steady() -> bool:
            labels = {"kind": "Tenant", "result": "steady"}
            return bool(metrics.registry.get_sample_value("pipewright_reconcile_total", labels))

        await until(steady)
        assert writes(audit_log, name) == ["patch tenants", "patch tenants status"]
        told = await until(
            lambda: kubectl.run("events", "--for", f"tenant/{name}", "-n", "default", "-o", "json")
        )
        [event] = json.loads(told)["items"]
        assert (event["reason"], event["message"]) == ("RegisterTenant", f"register tenant {name}")

        await asyncio.to_thread(kubectl.run, "delete", "tenant", name, "--timeout=20s")
        assert writes(audit_log, name) == ["patch tenants", "patch tenants status", "patch tenants"]


async def test_a_hundred_tenants_are_ready_soon(control_plane: Cluster, name: str) -> None:
    names = [f"{name}-{number}" for number in range(100)]
    manifests = [
        {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": each, "labels": {"test": name}},
            "spec": {},
        }
        for each in names
    ]
    async with operating(control_plane) as metrics:
        await asyncio.to_thread(control_plane.kubectl.apply, *manifests)
        applied = time.monotonic()

        def all_ready() -> bool:
            return all(condition(control_plane, each, "True") for each in (names[0], names[-1])) and (
                metrics.registry.get_sample_value("pipewright_status_writes_total", {"kind": "Tenant"}) or 0
            ) >= len(names)

        await until(all_ready, within=60)
        print(f"\n100 tenants ready {time.monotonic() - applied:.1f} s after the last was applied")
        kubectl = control_plane.kubectl
        await asyncio.to_thread(kubectl.run, "delete", "tenant", "-l", f"test={name}", "--wait=false")
        await until(lambda: not kubectl.get("tenant", "-l", f"test={name}")["items"])
