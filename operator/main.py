"""The composition root of an operator process: settings → backends → queue → handlers → kopf.

One image, two Deployments: `component` in the settings says whether this process is the provisioner or the
runner. Imported by nobody.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import kopf
import uvloop

from pipewright import settings as configuration
from pipewright.backends import kubernetes
from pipewright.ports import Clock, Cluster, SystemClock
from pipewright.runtime import health, leader, logs, tracing, watch
from pipewright.runtime.drive import Driver
from pipewright.runtime.events import Events
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.part import Part
from pipewright.runtime.queue import WorkQueue
from pipewright.runtime.streams import Streams
from pipewright.settings import Settings, SettingsError

log = logs.get(__name__)

CONCURRENCY = 16
"""Reconciles at a time; a lane (tenant) gets at most three quarters of them."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """Whether this replica watches, or stands by for the Lease."""

    watching: asyncio.Event


async def run(settings: Settings) -> None:
    """Serve until a signal, a dead watcher or a lost Lease ends it.

    Raises:
        LeaseLost: another replica took over.
    """
    clock, metrics, phase = SystemClock(), Metrics(), _Phase(asyncio.Event())
    async with AsyncExitStack() as resources:
        client = await kubernetes.connect(settings.kubeconfig)
        resources.push_async_callback(client.close)
        plain = kubernetes.KubernetesCluster(client)
        cluster = tracing.traced(plain, "cluster", metrics=metrics)
        queue, registry = WorkQueue(metrics=metrics), kopf.OperatorRegistry()
        part = await _compose(settings, cluster=cluster, clock=clock, metrics=metrics, resources=resources)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: no collection needs to look through it again
        for register in part.handlers:
            register(registry, queue=queue)
        streams = Streams(part.watched, metrics=metrics)
        watch.login(registry, kubeconfig=settings.kubeconfig, streams=streams)
        events = Events(
            cluster, component=settings.component, instance=settings.identity, clock=clock, metrics=metrics
        )
        driver = Driver(
            cluster=cluster,
            queue=queue,
            controllers=part.controllers,
            events=events,
            clock=clock,
            metrics=metrics,
        )
        server = _health(settings, queue, streams, metrics, phase)
        await server.start()
        resources.push_async_callback(server.stop)
        lease = leader.Leader(
            plain,
            name=f"pipewright-{settings.component}",
            namespace=settings.system_namespace,
            identity=settings.identity,
            clock=clock,
            metrics=metrics,
        )
        await lease.acquire()
        phase.watching.set()
        settings_of_kopf, stop = watch.configure(labelled=part.labelled), asyncio.Event()
        await _lead(
            queue.run(driver.drive, concurrency=CONCURRENCY),
            watch.operate(registry, settings_of_kopf, streams=streams, stop=stop),
            lease.hold(),
            queue=queue,
            stop=stop,
        )
        await lease.release()


async def _compose(
    settings: Settings, *, cluster: Cluster, clock: Clock, metrics: Metrics, resources: AsyncExitStack
) -> Part:
    """This process's part. The other one's libraries are never loaded: they are a third of the memory.

    Raises:
        SettingsError: the component is none of ours.
    """
    if settings.component == "provisioner":
        import provisioner

        compose = provisioner.compose
    elif settings.component == "runner":
        import runner

        compose = runner.compose
    else:
        raise SettingsError(f"the operator has no component {settings.component}; the gateway starts itself")
    return await compose(settings, cluster=cluster, clock=clock, metrics=metrics, resources=resources)


async def _lead(
    working: Awaitable[None],
    watching: Awaitable[None],
    holding: Awaitable[None],
    *,
    queue: WorkQueue,
    stop: asyncio.Event,
) -> None:
    """Work while the watchers run and the Lease is held, until `stop`.

    On `stop`, and when a watcher died, the workers may finish what they do; a lost Lease ends them at once,
    because somebody else works from then on.
    """
    work, watch_, hold = (asyncio.ensure_future(part) for part in (working, watching, holding))
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, watch_, hold, asked), return_when=asyncio.FIRST_COMPLETED)
        queue.stop()
        if not hold.done():  # it may be lost while they finish, too
            await asyncio.wait((work, hold), return_when=asyncio.FIRST_COMPLETED)
        for task in (hold, watch_, work):
            if task.done():
                task.result()
    finally:
        asked.cancel()
        for task in (work, watch_, hold):
            task.cancel()
        await asyncio.gather(work, watch_, hold, asked, return_exceptions=True)


def _health(
    settings: Settings, queue: WorkQueue, streams: Streams, metrics: Metrics, phase: _Phase
) -> health.HealthServer:
    return health.HealthServer(
        host=settings.listen.host,
        port=settings.listen.port,
        metrics=metrics,
        live={
            "queue": health.queue_moves(queue),
            "streams": health.streams_deliver(
                streams, watching=phase.watching.is_set, limit=watch.DEAD_AFTER
            ),
        },
        ready={"listed": health.all_listed(streams, watching=phase.watching.is_set)},
    )


def main() -> int:
    """The process's exit code: 0 after a clean stop, 1 when it must be started again, 2 for bad settings."""
    try:
        settings = configuration.load()
    except SettingsError as wrong:
        sys.stderr.write(f"pipewright: {wrong}\n")
        return 2
    logs.configure(component=settings.component)
    tracing.configure(component=settings.component, endpoint=settings.otlp_endpoint)
    try:
        uvloop.run(run(settings))
    except leader.LeaseLost as lost:
        log.error("lease lost", cause=str(lost))
        return 1
    except Exception as broken:  # noqa: BLE001 - the border: logged without the text of foreign exceptions
        log.error("ended", **logs.describe(broken))
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    tracing.flush()
    sys.stdout.flush()
    # a thread that hangs must not keep a process alive that has lost its Lease
    os._exit(code)
