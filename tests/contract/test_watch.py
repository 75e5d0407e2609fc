"""Kopf on a real API server: what it lets through to the queue, and that it writes nothing at all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import kopf
import pytest

from dev.parts import Cluster
from pipewright.api.v1alpha1 import Tenant
from pipewright.runtime import watch
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import Key, WorkQueue
from pipewright.runtime.streams import Streams

LABEL = "pipewright.dev/tenant"


def tenant(name: str, **metadata: object) -> dict[str, object]:
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, **metadata},
        "spec": {},
    }


class Seen(WorkQueue):
    """A queue that tells who was added, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.adds: list[tuple[Key, bool]] = []
        self._more = asyncio.Event()

    def add(self, key: Key, *, after: float = 0.0, low: bool = False) -> None:
        super().add(key, after=after, low=low)
        self.adds.append((key, low))
        self._more.set()

    async def has(self, key: Key, *, low: bool) -> None:
        async with asyncio.timeout(20):
            while (key, low) not in self.adds:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def watching(cluster: Cluster, queue: WorkQueue) -> AsyncIterator[Streams]:
    registry, stop = kopf.OperatorRegistry(), asyncio.Event()
    streams = Streams(["tenants", "namespaces"], metrics=Metrics())
    watch.login(registry, kubeconfig=Path(cluster.kubeconfig), streams=streams)
    watch.watch(registry, queue, Tenant)
    watch.watch_labelled(
        registry,
        queue,
        version="v1",
        plural="namespaces",
        label=LABEL,
        key_of=lambda labels: Key("Tenant", labels[LABEL]),
    )
    settings = watch.configure(labelled={("v1", "namespaces"): LABEL})
    operator = asyncio.create_task(watch.operate(registry, settings, streams=streams, stop=stop))
    try:
        yield streams
    finally:
        operator.cancel()
        await asyncio.wait({operator}, timeout=30)
        assert operator.cancelled()


@pytest.fixture
def name(control_plane: Cluster) -> Iterator[Callable[[str], str]]:
    made: list[str] = []

    def make(prefix: str) -> str:
        made.append(f"{prefix}-{uuid.uuid4().hex[:6]}")
        return made[-1]

    yield make
    for name in made:
        control_plane.kubectl.attempt(
            "patch", "tenant", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
        control_plane.kubectl.attempt("delete", "tenant", name, "--wait=false")


async def listed(streams: Streams) -> None:
    async with asyncio.timeout(20):
        while streams.unlisted():  # noqa: ASYNC110 - a fact that nobody announces
            await asyncio.sleep(0.02)


async def kubectl(cluster: Cluster, *arguments: str) -> str:
    return await asyncio.to_thread(cluster.kubectl.run, *arguments)


def kopfs_writes(audit_log: Path) -> list[str]:
    found = []
    for line in audit_log.read_text().splitlines():
        entry = json.loads(line)
        if entry.get("userAgent", "").startswith("kopf") and entry["verb"] not in ("get", "list", "watch"):
            found.append(f"{entry['verb']} {entry['requestURI']}")
    return found


async def looked_at(control_plane, tenant: str, *, under_way: str = "False") -> None:
    """Its status speaks of the generation that it has."""
    told = {
        "type": "Reconciling",
        "status": under_way,
        "reason": "R",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"status": {"observedGeneration": 1, "conditions": [told]}})
    await kubectl(
        control_plane, "patch", "tenant", tenant, "--subresource=status", "--type=merge", "-p", patch
    )


async def test_what_was_at_rest_before_the_start_waits_for_the_rest(control_plane, name) -> None:
    there, begun, new = name("there"), name("begun"), name("new")
    await asyncio.to_thread(control_plane.kubectl.apply, *map(tenant, (there, begun, new)))
    await looked_at(control_plane, there)
    await looked_at(control_plane, begun, under_way="True")
    queue = Seen()
    async with watching(control_plane, queue) as streams:
        await queue.has(Key("Tenant", there), low=True)
        await queue.has(Key("Tenant", begun), low=False)
        await queue.has(Key("Tenant", new), low=False)
        await listed(streams)
    assert (Key("Tenant", there), False) not in queue.adds
    assert all((Key("Tenant", other), True) not in queue.adds for other in (begun, new))
    assert queue.delayed() >= 1


async def test_what_changes_later_is_added_with_normal_priority(control_plane, name) -> None:
    queue, new = Seen(), name("new")
    async with watching(control_plane, queue) as streams:
        await listed(streams)
        await asyncio.to_thread(control_plane.kubectl.apply, tenant(new))
        await queue.has(Key("Tenant", new), low=False)
        queue.adds.clear()
        await kubectl(control_plane, "delete", "tenant", new)
        await queue.has(Key("Tenant", new), low=False)


async def test_a_change_of_the_status_alone_is_passed_over(control_plane, name) -> None:
    queue, acme = Seen(), name("acme")
    await asyncio.to_thread(control_plane.kubectl.apply, tenant(acme))
    await looked_at(control_plane, acme)
    async with watching(control_plane, queue) as streams:
        await listed(streams)
        await queue.has(Key("Tenant", acme), low=True)
        queue.adds.clear()
        status = '{"status": {"id": "abcdefghijkl"}}'
        await kubectl(
            control_plane, "patch", "tenant", acme, "--subresource=status", "--type=merge", "-p", status
        )
        await kubectl(control_plane, "annotate", "tenant", acme, "note=later")
        await queue.has(Key("Tenant", acme), low=False)
    assert queue.adds.count((Key("Tenant", acme), False)) == 1


async def test_only_namespaces_with_the_label_are_watched(control_plane) -> None:
    ours, other = f"ours-{uuid.uuid4().hex[:6]}", f"other-{uuid.uuid4().hex[:6]}"
    queue = Seen()
    for namespace, labels in ((ours, {LABEL: ours}), (other, {})):
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels},
        }
        await asyncio.to_thread(control_plane.kubectl.apply, manifest)
    async with watching(control_plane, queue):
        await queue.has(Key("Tenant", ours), low=True)
        queue.adds.clear()
        await kubectl(control_plane, "label", "namespace", ours, f"{LABEL}-")
        await queue.has(Key("Tenant", ours), low=False)
    await kubectl(control_plane, "delete", "namespace", ours, other, "--wait=false")


async def test_kopf_writes_nothing_even_to_an_object_that_wears_its_own_marks(
    control_plane, audit_log, name
) -> None:
    marked, queue = name("marked"), Seen()
    marks = {
        "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"],
        "annotations": {
            "kopf.zalando.org/last-handled-configuration": "this is no JSON",
            "kopf.zalando.org/touch-dummy": "2030-01-01T00:00:00",
            "kopf.zalando.org/changed": '{"started":"x"}',
        },
    }
    await asyncio.to_thread(control_plane.kubectl.apply, tenant(marked, **marks))
    await looked_at(control_plane, marked)
    async with watching(control_plane, queue):
        await queue.has(Key("Tenant", marked), low=True)
        await kubectl(control_plane, "label", "tenant", marked, "color=red")
        await queue.has(Key("Tenant", marked), low=False)
        queue.adds.clear()
        await kubectl(control_plane, "delete", "tenant", marked, "--wait=false")
        await queue.has(Key("Tenant", marked), low=False)
    # the API server writes its audit log at once, so what kopf had sent before it stopped is in it
    assert kopfs_writes(audit_log) == []
    found = await asyncio.to_thread(control_plane.kubectl.get, "tenant", marked)
    assert found is not None
    assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]


async def test_a_signal_is_the_callers_and_a_reconcile_under_way_goes_on(control_plane: Cluster) -> None:
    queue, stop, told = WorkQueue(metrics=Metrics()), asyncio.Event(), asyncio.Event()
    registry, streams = kopf.OperatorRegistry(), Streams(["tenants"], metrics=Metrics())
    watch.login(registry, kubeconfig=Path(control_plane.kubeconfig), streams=streams)
    watch.watch(registry, queue, Tenant)
    ended: list[str] = []

    async def reconcile(key: Key) -> None:
        told.set()
        await stop.wait()
        await asyncio.sleep(6)  # longer than kopf would leave it
        ended.append(key.name)

    working = asyncio.create_task(queue.run(reconcile))
    operator = asyncio.create_task(watch.operate(registry, watch.configure(), streams=streams, stop=stop))
    await listed(streams)
    queue.add(Key("Tenant", "under-way"))
    await asyncio.wait_for(told.wait(), 10)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stop.wait(), 10)
    queue.stop()
    await working
    assert ended == ["under-way"]
    assert not operator.done()
    operator.cancel()
    await asyncio.wait({operator}, timeout=30)
    assert operator.cancelled()
