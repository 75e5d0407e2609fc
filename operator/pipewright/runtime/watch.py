"""Kopf, and all that we let it do: log in, list, watch, and hand every event to a doorman that adds a key.

Only `@kopf.on.event` handlers are registered. With these kopf keeps no state on an object, needs no finalizer
and sends no PATCH; the settings below make sure that it could not even if a user wrote kopf's own annotations
or finalizer on an object. Its peering, event posting and scanning are off: the Lease, the Events and the
fixed set of kinds are ours.
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kubernetes.aio import client as api
from kubernetes.aio import config

from pipewright.api.meta import GROUP, VERSION, Resource
from pipewright.api.v1alpha1 import KINDS
from pipewright.conditions import RECONCILING
from pipewright.runtime import logs
from pipewright.runtime.queue import Key, WorkQueue
from pipewright.runtime.streams import Streams

log = logs.get(__name__)

PAGE = 500
SERVER_TIMEOUT = 300
"""The API server ends a watch after so many seconds; kopf opens the next one where it ended."""

INACTIVITY_TIMEOUT = 70.0
"""Bookmarks come about every 60 s: a stream without one for so long is dead, and kopf opens another."""

FIRST_LOOK = 3.0
"""So many seconds after it was listed, what is at rest is verified: by then a list of a thousand was worked
through, and what is new among it was found and has the processor for itself."""

DEAD_AFTER = 240.0
"""A resource not heard of for so long, in spite of kopf's own reconnecting, fails liveness."""


def watch(registry: kopf.OperatorRegistry, queue: WorkQueue, kind: type[Resource]) -> None:
    """Add the key of every object of this kind that kopf lists, or sees change or go.

    A change of nothing but the status is passed over: it is the driver's own write coming back, and would
    make it look twice, or cut a backoff short.
    """
    seen: dict[str, object] = {}

    @kopf.on.event(kind.group, kind.version, kind.plural, id=f"{kind.plural}-changed", registry=registry)
    async def changed(
        name: str,
        namespace: str | None,
        type: str | None,  # noqa: A002 - kopf passes by name
        meta: Mapping[str, Any],
        status: Mapping[str, Any],
        **_: object,
    ) -> None:
        uid, wish = str(meta.get("uid")), _wish(meta)
        if type == "DELETED":
            seen.pop(uid, None)
        elif type is not None and seen.get(uid) == wish:
            return
        else:
            seen[uid] = wish
        key = Key(kind.kind, name, namespace)
        if type is None and _is_at_rest(status, generation=meta.get("generation")):
            queue.add(key, after=FIRST_LOOK, low=True)
        else:  # what was made or changed while nobody watched, or was left in the middle
            queue.add(key)


def _is_at_rest(status: Mapping[str, Any], *, generation: object) -> bool:
    """Whether a look ended at this generation with nothing under way."""
    under_way = any(
        (it.get("type"), it.get("status")) == (RECONCILING, "True") for it in status.get("conditions") or ()
    )
    return status.get("observedGeneration") == generation and not under_way


def _wish(metadata: Mapping[str, Any]) -> int:
    """All of an object but its status, as a number: the generation stands for the spec."""
    parts = {name: metadata.get(name) for name in ("generation", "deletionTimestamp", "finalizers")}
    parts |= {name: dict(metadata.get(name) or {}) for name in ("labels", "annotations")}
    return hash(json.dumps(parts, sort_keys=True, default=list))


def watch_labelled(
    registry: kopf.OperatorRegistry,
    queue: WorkQueue,
    *,
    version: str,
    plural: str,
    label: str,
    key_of: Callable[[Mapping[str, str]], Key | None],
) -> None:
    """Add a key for objects of a built-in kind that carry `label`; `key_of` finds it in their labels."""

    @kopf.on.event(version, plural, labels={label: kopf.PRESENT}, id=f"{plural}-changed", registry=registry)
    async def changed(labels: Mapping[str, str], type: str | None, **_: object) -> None:  # noqa: A002 - kopf's
        if key := key_of(labels):
            queue.add(key, after=FIRST_LOOK if type is None else 0.0, low=type is None)


def configure(*, labelled: Mapping[tuple[str, str], str] | None = None) -> kopf.OperatorSettings:
    """Kopf's settings for this operator.

    `labelled` maps (version, plural) to a label selector, for resources of which the API server is to send
    only a part.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # our kinds are known; watching CRDs would need one more right
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT
    settings.watching.chunk_size = PAGE
    for (version, plural), selector in (labelled or {}).items():
        settings.watching.label_selectors["", version, plural] = selector
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 4, 8)
    settings.networking.enforce_retry_after = True
    settings.execution.default_backoff = 5  # only logging in is ever retried by it
    settings.queueing.worker_limit = None  # it starves or deadlocks; our queue bounds the concurrency
    settings.queueing.idle_timeout = 0.5
    # SIGKILL for the process, ten minutes after a cancel; where one hangs the kubelet ends it
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = NO_FINALIZER
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffBase()
    return settings


NO_FINALIZER = "kopf sets no finalizer"
"""Not a name that Kubernetes accepts: kopf removes "its" finalizer from an object that somebody put it on."""


class NoProgress(kopf.ProgressStorage):
    """Kopf's store of handlers' progress, which ours do not have: nothing is kept or cleaned up."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """Nothing is known."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is kept."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing is there."""

    def touch(self, *, body: Any, patch: Any, value: str | None) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: Any) -> Any:
        """Nothing of ours is in it."""
        return essence


class NoDiffBase(kopf.DiffBaseStorage):
    """Kopf's copy of the last handled spec, which on.event does not use: neither written nor parsed."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """No essence: nothing is compared, so nothing is copied for every event."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """Nothing is known, whatever a user wrote in kopf's annotation."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is kept."""


# -- logging in and running --------------------------------------------------------------------------------


def login(registry: kopf.OperatorRegistry, *, kubeconfig: Path | None, streams: Streams) -> None:
    """Let kopf use the identity of our settings, and nothing that lies around on the machine.

    The file is read again at every login, so a token that was renewed on disk is picked up after a 401.
    """

    @kopf.on.login(registry=registry, id="login")
    async def log_in(**_: object) -> kopf.AiohttpSession:
        server, session = await _session(kubeconfig, streams)
        try:
            await until_served(session, server, plurals=streams.resources & OUR_PLURALS)
        except BaseException:
            await session.close()
            raise
        return kopf.AiohttpSession(server=server, aiohttp_session=session)


async def _session(kubeconfig: Path | None, streams: Streams) -> tuple[str, aiohttp.ClientSession]:
    configuration = api.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(
            config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
        )
    secure = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=getattr(configuration, "ca_cert_data", None)
    )
    if configuration.cert_file:
        secure.load_cert_chain(configuration.cert_file, configuration.key_file)
    bearer = (await configuration.auth_settings()).get("BearerToken", {}).get("value")
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=secure),
        response_class=Lean,
        headers={"Authorization": bearer} if bearer else {},
        trace_configs=[streams.trace()],
    )
    return str(configuration.host), session


def _without_owners(found: dict[str, Any]) -> dict[str, Any]:
    found.pop("managedFields", None)
    return found


_LEAN: json.JSONDecoder = json.JSONDecoder(object_hook=_without_owners)


class Lean(aiohttp.ClientResponse):
    """An answer without `managedFields`: more than half of an object's text, and no doorman reads them.

    Kopf holds all that it lists at once, and the process keeps the memory that this once took.
    """

    async def json(
        self,
        *,
        encoding: str | None = None,
        loads: Callable[[str], Any] = _LEAN.decode,
        content_type: str | None = "application/json",
    ) -> Any:
        """The answer's document."""
        return await super().json(encoding=encoding, loads=loads, content_type=content_type)


async def until_served(
    session: aiohttp.ClientSession, server: str, *, plurals: Collection[str], pause: float = 1.0
) -> None:
    """Wait until the API server serves these kinds of ours.

    Kopf looks once which kinds there are; one whose CRD comes a moment later would never be watched. An
    answer other than "not found" is left to kopf, which knows how to log in again.
    """
    told = False
    while True:
        async with session.get(f"{server}/apis/{GROUP}/{VERSION}", timeout=_DISCOVERY) as answer:
            if answer.status not in (200, 404):
                return
            listed = (await answer.json())["resources"] if answer.status == 200 else []
        missing = sorted(set(plurals) - {resource["name"] for resource in listed})
        if not missing:
            return
        if not told:
            log.warning("waiting for custom resource definitions", missing=missing)
            told = True
        await asyncio.sleep(pause)


_DISCOVERY = aiohttp.ClientTimeout(total=10)
OUR_PLURALS = frozenset(kind.plural for kind in KINDS)


async def operate(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, *, streams: Streams, stop: asyncio.Event
) -> None:
    """Watch until this is cancelled; SIGINT and SIGTERM set `stop`, and the caller decides what ends when.

    Kopf's own way out waits five seconds for each task that began after it did, and then cancels it: the
    reconcile that is under way, too.

    Raises:
        Exception: a watcher failed for good; the process must end and start anew.
    """
    streams.restart()
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(registry=registry, settings=settings, clusterwide=True, standalone=True)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):  # kopf has taken them
        loop.add_signal_handler(number, stop.set)
    await kopf.run_tasks(tasks, ignored=before)
