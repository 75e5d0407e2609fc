"""Models that cannot be loaded: nobody waits for them twice, and every failure is counted and tried later."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.metrics import Metrics
from gateway.scoring import Models
from ml import artifact
from pipewright.store.records import ModelPointer

POINTER = ModelPointer(
    model_uid="m", tenant_id="t", namespace="n", model="run-failure", task="RunFailure", is_default=True,
    version="v", artifact_uri="file:///nowhere", artifact_sha256="0" * 64,
    promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
)  # fmt: skip


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


async def test_a_model_is_waited_for_only_in_the_first_seconds_of_its_place():
    clock, release = Clock(), threading.Event()

    def fetch(_pointer):
        release.wait(10)
        raise OSError

    models = Models(fetch=fetch, metrics=Metrics(), clock=clock)
    waiting = asyncio.create_task(models.get(POINTER))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now = 7.0
    async with asyncio.timeout(1):
        assert await models.get(POINTER) is None
    release.set()
    assert await waiting is None
    await models.close()


@pytest.mark.parametrize("error", [OSError("gone"), MemoryError(), ValueError("canary"), KeyError("x")])
async def test_whatever_a_load_raises_is_counted_and_tried_again_later(error):
    clock, tries = Clock(), []

    def fetch(_pointer):
        tries.append(clock.now)
        raise error

    metrics = Metrics()
    models = Models(fetch=fetch, metrics=metrics, clock=clock)
    for now in (0.0, 1.0, 2.5, 3.0):
        clock.now = now
        await models.get(POINTER)
        await models.settle()
    assert tries == [0.0, 2.5]
    counted = metrics.registry.get_sample_value("pipewright_gateway_model_loads_total", {"result": "failed"})
    assert counted == 2
    await models.close()


@pytest.mark.parametrize("task", ["RunFailure", "Duration", "FailureCause"])
async def test_a_file_of_another_task_is_not_loaded(task):
    """A pointer says what its file is: whoever asks by the task gets a model of it, or none."""
    content = artifact.pack({"format": "pipewright-weather/1"})
    pointer = replace(POINTER, task=task, artifact_sha256=artifact.digest(content))
    metrics = Metrics()
    models = Models(fetch=lambda _pointer: content, metrics=metrics)
    for ask in (models.get, models.forecaster, models.judge):
        assert await ask(pointer) is None
    await models.settle()
    counted = metrics.registry.get_sample_value("pipewright_gateway_model_loads_total", {"result": "failed"})
    assert counted == 1
    await models.close()
