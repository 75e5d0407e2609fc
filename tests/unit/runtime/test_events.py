"""Kubernetes Events: what they say, and that they do not repeat."""

from __future__ import annotations

from typing import Any

import pytest

from pipewright import errors
from pipewright.api.v1alpha1 import Model, Tenant
from pipewright.backends.memory import MemoryCluster
from pipewright.plan import Manifest
from pipewright.runtime import events
from pipewright.runtime.events import Events
from pipewright.runtime.metrics import Metrics

ACME = Tenant.parse(
    {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "acme", "uid": "uid-1", "resourceVersion": "7"},
        "spec": {},
    }
)


async def cluster() -> MemoryCluster:
    made = MemoryCluster()
    for namespace in ("default", "acme"):
        await made.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    return made


def writer(cluster: Any, timer: Any, metrics: Metrics | None = None) -> Events:
    return Events(
        cluster, component="provisioner", instance="provisioner-0", clock=timer, metrics=metrics or Metrics()
    )


async def found(cluster: MemoryCluster) -> list[dict[str, Any]]:
    return [dict(event) for event in await cluster.list(api_version="events.k8s.io/v1", kind="Event")]


async def test_an_event_says_who_did_what_to_which_object(timer) -> None:
    place = await cluster()
    await writer(place, timer).normal(ACME, reason="CreateDatabase", note="create database", action="Do")
    [event] = await found(place)
    metadata = event.pop("metadata")
    assert metadata["namespace"] == "default"
    assert metadata["name"].startswith("acme.")
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2030-01-01T00:16:40.000000Z",
        "reportingController": "pipewright.dev/provisioner",
        "reportingInstance": "provisioner-0",
        "regarding": {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": "Tenant",
            "name": "acme",
            "uid": "uid-1",
            "resourceVersion": "7",
        },
        "type": "Normal",
        "reason": "CreateDatabase",
        "action": "Do",
        "note": "create database",
    }


async def test_the_same_event_is_written_once_in_ten_minutes(timer) -> None:
    place, metrics = await cluster(), Metrics()
    events = writer(place, timer, metrics)
    for _ in range(5):
        await events.warning(ACME, reason="Unreachable", note="Vault is sealed", action="Reconcile")
        timer.advance(100)
    assert len(await found(place)) == 1
    timer.advance(200)
    await events.warning(ACME, reason="Unreachable", note="Vault is sealed", action="Reconcile")
    assert len(await found(place)) == 2
    assert metrics.registry.get_sample_value("pipewright_events_total", {"result": "repeated"}) == 4


async def test_another_note_is_another_event(timer) -> None:
    place = await cluster()
    for note in ("Vault is sealed", "the database is down"):
        await writer(place, timer).warning(ACME, reason="Unreachable", note=note, action="Reconcile")
    assert len(await found(place)) == 2


async def test_a_restarted_process_does_not_repeat_what_was_just_told(timer) -> None:
    place = await cluster()
    for _ in range(2):
        await writer(place, timer).warning(ACME, reason="Unreachable", note="down", action="Reconcile")
    assert len(await found(place)) == 1


async def test_memory_of_what_was_told_is_bounded(timer, monkeypatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 10)
    place = await cluster()
    telling = writer(place, timer)
    for number in range(50):
        await telling.normal(ACME, reason="Do", note=f"step {number}", action="Do")
    assert len(telling._told) == 10


async def test_an_event_of_a_namespaced_object_lies_in_its_namespace_and_is_cut_to_size(timer) -> None:
    place = await cluster()
    model = Model.model_construct(
        metadata=ACME.metadata.model_copy(update={"name": "m" * 63, "namespace": "acme"})
    )
    await writer(place, timer).normal(model, reason="Train", note="ü" * 2000, action="Train")
    [event] = await found(place)
    assert event["metadata"]["namespace"] == "acme"
    assert len(event["metadata"]["name"]) < 253
    assert len(event["note"].encode()) <= 1024


@pytest.mark.parametrize(
    "trouble", [errors.Forbidden("may not"), errors.Waiting("Terminating", "the namespace goes away")]
)
async def test_an_event_that_cannot_be_written_hurts_nobody(trouble: Exception, timer) -> None:
    class Refusing(MemoryCluster):
        async def create(self, manifest: Manifest) -> Manifest | None:
            raise trouble

    metrics = Metrics()
    await writer(Refusing(), timer, metrics).normal(ACME, reason="Do", note="x", action="Do")
    assert metrics.registry.get_sample_value("pipewright_events_total", {"result": "failed"}) == 1
