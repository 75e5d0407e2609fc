"""The driver: the one place where a key becomes a reconcile, and where all reconciles end.

    read live ─► parse ─► our finalizer on ─► reconcile ─► status, if it differs ─► Events ─► finalizer off
      │ gone       │ InvalidSpec                │ raised: the previous status, no longer Ready
      ▼            ▼                            ▼
    forget      a person must act            the key goes back to the queue: at once, later or never

A look that follows at once takes the API server's answer to the status write before it for the live object,
unless somebody asked for a look meanwhile: what they saw may be newer than the answer.

A controller never touches status, finalizer, Events or queue; the driver never knows what a kind is about.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import structlog
from pydantic import ValidationError

from pipewright import conditions, errors
from pipewright.api.meta import ObjectMeta, Resource, Status
from pipewright.outcome import Outcome
from pipewright.plan import Manifest, Ref
from pipewright.ports import Clock, Cluster
from pipewright.runtime import logs, tracing, verdict
from pipewright.runtime.events import Events
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import Key, WorkQueue
from pipewright.runtime.verdict import Answer, Ending, Result

log = logs.get(__name__)

ResourceT = TypeVar("ResourceT", bound=Resource)

LIVE_S = 1.0
"""So old at most is an answer of the API server that stands for a read of the object."""


class TimedOut(errors.BackendError):
    """A reconcile took too long and was stopped; it is tried again."""

    reason = "TimedOut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller(Generic[ResourceT]):
    """What the driver needs to know of one kind."""

    kind: type[ResourceT]
    reconcile: Callable[[ResourceT], Awaitable[Outcome[Any]]]
    finalizer: str | None = None
    """Ours; None when nothing outside the object must be cleaned up."""
    summary: str = conditions.READY
    """The condition that sums the kind up."""
    bounded: bool = False
    """The summary is how an object ends: Unknown until then, whatever trouble there is, and final after."""
    timeout: timedelta = timedelta(seconds=120)
    """A reconcile that takes longer is stopped."""
    resync: timedelta = timedelta(hours=1)
    """Every object is looked at again after about this time, whatever happened."""


class Driver:
    """Takes keys from the queue through one reconcile each. `drive` is the queue's worker."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        queue: WorkQueue,
        controllers: Collection[Controller[Any]],
        events: Events,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._cluster, self._queue, self._events = cluster, queue, events
        self._clock, self._metrics, self._uniform = clock, metrics, uniform
        self._controllers = {controller.kind.kind: controller for controller in controllers}
        self._progress = verdict.Progress()
        self._answers: dict[Key, Answer] = {}
        """Of keys that go on at once."""

    async def drive(self, key: Key) -> None:
        """Look at the key's object once, and decide when to look again. Raises nothing but cancellation."""
        controller = self._controllers[key.kind]
        started = time.perf_counter()
        names = {"kind": key.kind, "namespace": key.namespace or "", "object": key.name}
        with structlog.contextvars.bound_contextvars(**names), tracing.span("reconcile", **names):
            try:
                ending = await self._pass(controller, key)
            except Exception as error:  # noqa: BLE001 - the border: here every kind of trouble becomes a value
                ending = Ending(errors=verdict.leaves(error))
            result = self._requeue(controller, key, ending)
            seconds = time.perf_counter() - started
            self._metrics.reconciles.labels(key.kind, result).inc()
            self._metrics.reconcile_seconds.labels(key.kind).observe(seconds)
            _log(ending, result, seconds)

    # -- one pass ----------------------------------------------------------------------------------------

    async def _pass(self, controller: Controller[Any], key: Key) -> Ending:
        ref = Ref(
            api_version=controller.kind.api_version, kind=key.kind, name=key.name, namespace=key.namespace
        )
        answer = self._answers.pop(key, None)
        manifest = answer.manifest if answer and self._is_live(key, answer) else await self._cluster.get(ref)
        if manifest is None:
            return Ending(result=Result.GONE)
        metadata = ObjectMeta.model_validate(manifest["metadata"])
        deleting = metadata.deletion_timestamp is not None
        if deleting and controller.finalizer not in metadata.finalizers:
            return Ending(result=Result.RELEASED)
        read = controller.kind.parse_for_teardown if deleting else controller.kind.parse
        try:
            resource = read(manifest)
        except ValidationError as refused:
            message = verdict.invalid_spec(controller.kind, refused)
            error = errors.Stalled(conditions.INVALID_SPEC, message)
            return await self._refuse(controller, manifest, metadata, error)
        if controller.finalizer and not deleting and controller.finalizer not in metadata.finalizers:
            await self._set_finalizers(ref, metadata, [*metadata.finalizers, controller.finalizer])
        return await self._reconcile(controller, ref, resource, manifest)

    async def _reconcile(
        self, controller: Controller[Any], ref: Ref, resource: Resource, manifest: Manifest
    ) -> Ending:
        try:
            outcome = await self._in_time(controller, resource)
        except Exception as error:  # noqa: BLE001 - told in the status first, then sorted as all others
            status = _failed(controller, manifest, error, resource.generation, self._clock)
            ending = Ending(errors=verdict.leaves(error), version=_version(resource))
            await self._write_status(controller, manifest, status)
            await self._tell_failures(resource, [("reconcile", inner) for inner in ending.errors])
            return ending
        failures = outcome.results.failures
        finished = outcome.finished and not failures
        others = [name for name in resource.metadata.finalizers if name != controller.finalizer]
        # all that it could say is said already: that changes are being made
        silent = (
            not controller.bounded
            and self._goes_on(ref, resource, outcome)
            and _is_on_its_way(outcome.status, resource.generation)
            and _is_on_its_way(_previous(controller, manifest), resource.generation)
        )
        before, asks = manifest, self._queue.asks(_key(ref))
        if not silent and not (finished and not others):  # else the object, and its status, go in a moment
            manifest = await self._write_status(controller, manifest, outcome.status)
        await self._tell(resource, outcome)
        if finished:
            await self._set_finalizers(ref, ObjectMeta.model_validate(manifest["metadata"]), others)
        return Ending(
            result=Result.FINISHED if finished else None,
            done=outcome.results.done,
            errors=tuple(leaf for failure in failures for leaf in verdict.leaves(failure.error)),
            next_look=outcome.next_look,
            version=_version(resource),
            answer=None if manifest is before else Answer(at=time.monotonic(), asks=asks, manifest=manifest),
        )

    def _is_live(self, key: Key, answer: Answer) -> bool:
        return self._queue.asks(key) == answer.asks and time.monotonic() - answer.at <= LIVE_S

    def _goes_on(self, ref: Ref, resource: Resource, outcome: Outcome[Any]) -> bool:
        """Whether the next look comes at once, because this one got further and nothing failed."""
        done, failures = outcome.results.done, outcome.results.failures
        return not failures and self._progress.is_new(_key(ref), _version(resource), done)

    async def _in_time(self, controller: Controller[Any], resource: Resource) -> Outcome[Any]:
        limit = controller.timeout.total_seconds()
        try:
            async with asyncio.timeout(limit) as stopwatch:
                return await controller.reconcile(resource)
        except TimeoutError:
            if not stopwatch.expired():
                raise
            message = f"the reconcile took longer than {limit:.0f} s and was stopped; it is tried again"
            raise TimedOut(message) from None

    async def _set_finalizers(self, ref: Ref, metadata: ObjectMeta, finalizers: list[str]) -> None:
        await self._cluster.set_finalizers(
            ref, finalizers=finalizers, resource_version=metadata.resource_version
        )

    # -- what it says ------------------------------------------------------------------------------------

    async def _refuse(
        self, controller: Controller[Any], manifest: Manifest, metadata: ObjectMeta, error: errors.Stalled
    ) -> Ending:
        status = _failed(controller, manifest, error, metadata.generation, self._clock)
        await self._write_status(controller, manifest, status)
        return Ending(result=Result.INVALID, errors=(error,))

    async def _tell(self, resource: Resource, outcome: Outcome[Any]) -> None:
        apart = outcome.results.apart
        made = [pair for pair in outcome.results.done if pair[0] not in apart]
        own = [[pair for pair in outcome.results.done if pair[0] == reason] for reason in sorted(apart)]
        for done in filter(None, (made, *own)):
            # one Event per pass, however much was done; its reason is the first sort of action
            reason, note = done[0][0], "; ".join(note for _, note in done)
            await self._events.normal(resource, reason=reason, note=note, action=reason)
        await self._tell_failures(resource, [(it.action, it.error) for it in outcome.results.failures])

    async def _tell_failures(self, resource: Resource, failures: Collection[tuple[str, Exception]]) -> None:
        for action, error in failures:
            if not isinstance(error, errors.Waiting):  # waiting is no failure; the conditions show it
                reason, message = errors.explain(error)
                note = f"{action}: {message}"
                await self._events.warning(resource, reason=reason, note=note, action="Reconcile")

    async def _write_status(
        self, controller: Controller[Any], manifest: Manifest, status: Status
    ) -> Manifest:
        """Apply the status unless it is there already; the UID keeps it off a namesake created meanwhile."""
        wanted = status.dump()
        if wanted == (manifest.get("status") or {}):
            return manifest
        metadata = manifest["metadata"]
        names = {name: metadata[name] for name in ("name", "namespace", "uid") if metadata.get(name)}
        self._metrics.status_writes.labels(controller.kind.kind).inc()
        return await self._cluster.apply(
            {
                "apiVersion": controller.kind.api_version,
                "kind": controller.kind.kind,
                "metadata": names,
                "status": wanted,
            },
            subresource="status",
        )

    # -- when to look again ------------------------------------------------------------------------------

    def _requeue(self, controller: Controller[Any], key: Key, ending: Ending) -> Result:
        if ending.result in (Result.GONE, Result.RELEASED, Result.FINISHED):
            self._queue.forget(key)
            self._progress.forget(key)
            return ending.result
        progress = self._progress.note(key, ending)
        result, again = verdict.judge(ending, progress)
        resync = controller.resync.total_seconds()
        self._queue.add(key, after=self._uniform(0.9, 1.1) * resync, low=True)
        if ending.next_look is not None:
            # of an object at rest it is upkeep: what somebody waits for goes first
            upkeep = result is Result.STEADY
            self._queue.add(key, after=max(1.0, ending.next_look.total_seconds()), low=upkeep)
        match again:
            case verdict.AtOnce():
                if ending.answer is not None:
                    self._answers[key] = ending.answer
                self._queue.go_on(key)
            case verdict.After(seconds=seconds):
                self._queue.add(key, after=seconds)
            case verdict.Backoff():
                self._queue.retry(key)
        if result not in (Result.FAILED, Result.UNSETTLED):
            self._queue.forget(key)
        if result in _TROUBLE and not isinstance(again, verdict.AtOnce):
            self._queue.hold(key)
        return result


_TROUBLE = (Result.FAILED, Result.STALLED, Result.UNSETTLED)


def _failed(
    controller: Controller[Any], manifest: Manifest, error: Exception, generation: int, clock: Clock
) -> Status:
    """The status as it was, with the conditions that the error makes of it."""
    previous = _previous(controller, manifest)
    told = conditions.failed(
        previous.conditions,
        verdict.principal(error),
        generation=generation,
        now=clock.now(),
        summary=controller.summary,
        bounded=controller.bounded,
    )
    return previous.model_copy(update={"conditions": told, "observed_generation": generation})


def _is_on_its_way(status: Status, generation: int) -> bool:
    """Whether it says that changes are being made for this generation of the object."""
    found = conditions.find(status.conditions, conditions.RECONCILING)
    if found is None or status.observed_generation != generation:
        return False
    return found.status == "True" and found.reason == conditions.PROGRESSING


def _previous(controller: Controller[Any], manifest: Manifest) -> Status:
    """The status that the object has."""
    model = controller.kind.model_fields["status"].annotation
    assert isinstance(model, type)
    assert issubclass(model, Status)
    return model.parse(manifest.get("status"))


def _key(ref: Ref) -> Key:
    return Key(ref.kind, ref.name, ref.namespace)


def _version(resource: Resource) -> tuple[str, int]:
    return resource.uid, resource.generation


def _log(ending: Ending, result: Result, seconds: float) -> None:
    """One line per reconcile. What only repeats that all is well is for whoever debugs."""
    fields: dict[str, Any] = {"result": result, "seconds": round(seconds, 4)}
    if ending.done:
        fields["done"] = [note for _, note in ending.done]
    if ending.errors:
        fields["failures"] = [logs.describe(error) for error in ending.errors]
    match result:
        case Result.FAILED if not all(logs.is_ours(error) for error in ending.errors):
            log.error("reconciled", **fields)
        case Result.FAILED | Result.STALLED | Result.INVALID | Result.UNSETTLED:
            log.warning("reconciled", **fields)
        case Result.STEADY:
            log.debug("reconciled", **fields)
        case _:
            log.info("reconciled", **fields)
