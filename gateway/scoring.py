"""Models in memory: loaded when a pointer says so, checked, warmed, swapped; the old one serves meanwhile.

Loading happens in threads and never on a request's way, except that the first use of a model which is not
there yet waits a moment for it. A file that cannot be loaded leaves the old version in place.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from gateway.directory import View
from gateway.lines import Kept
from gateway.metrics import Metrics
from ml import causes, diagnosis, forecast, history, predict
from ml.artifact import ArtifactRefused
from ml.transfer import TransferFailed
from pipewright.runtime import logs
from pipewright.store.records import ModelPointer

log = logs.get(__name__)

KEPT = 500
"""Models in memory; of more, those that were not used for longest are loaded again when they are."""
LOADING = 2
"""Loads at the same time."""
SCORING = 2
"""Runs scored at the same time."""
WAIT = 6.0
"""Seconds that the first users of a model wait for it, all of them together."""
FIRST_RETRY, LONGEST_RETRY = 2.0, 60.0

Loaded = predict.Predictor | forecast.Forecaster | diagnosis.Judge
"""A model in memory, of one of the tasks."""


class _Load(Protocol):
    """Reads a model's file."""

    def __call__(self, content: bytes, *, sha256: str) -> Loaded: ...


_LOADERS: Mapping[str, _Load] = {"Duration": forecast.Forecaster.load, "FailureCause": diagnosis.Judge.load}
"""Task → how its models are loaded; others are of the task RunFailure."""

Fetch = Callable[[ModelPointer], bytes]
"""Reads a model's file; called in a thread."""


@dataclass(slots=True)
class _Slot:
    """One model: the version that serves, and the task that brings another."""

    pointer: ModelPointer
    wait_until: float
    """Until then a delivery may wait for the first version; afterwards none does."""
    model: Loaded | None = None
    sha256: str = ""
    loading: asyncio.Task[None] | None = None
    failures: int = 0
    failed_at: float = field(default=float("-inf"))


class Models:
    """The models that the directory names."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        metrics: Metrics,
        kept: int = KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._metrics = metrics
        self._kept = kept
        self._clock = clock
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._turn = asyncio.Semaphore(LOADING)
        self._scorers = ThreadPoolExecutor(SCORING, thread_name_prefix="score")

    def follow(self, view: View) -> None:
        """Start to load what the view has newly, and forget what it has no more."""
        pointers = {
            pointer.model_uid: pointer for place in view.models.values() for pointer in place.values()
        }
        for uid in [uid for uid in self._slots if uid not in pointers]:
            self._drop(uid)
        for pointer in list(pointers.values())[: self._kept]:
            self._want(pointer)

    async def get(self, pointer: ModelPointer | None) -> predict.Predictor | None:
        """The current version of a model of the task RunFailure; else as `find` says."""
        found = await self.find(pointer)
        return found if isinstance(found, predict.Predictor) else None

    async def forecaster(self, pointer: ModelPointer | None) -> forecast.Forecaster | None:
        """The current version of a model of the task Duration; else as `find` says."""
        found = await self.find(pointer)
        return found if isinstance(found, forecast.Forecaster) else None

    async def judge(self, pointer: ModelPointer | None) -> diagnosis.Judge | None:
        """The current version of a model of the task FailureCause; else as `find` says."""
        found = await self.find(pointer)
        return found if isinstance(found, diagnosis.Judge) else None

    async def find(self, pointer: ModelPointer | None) -> Loaded | None:
        """The model's current version; while another is loaded the one before it.

        None: no pointer, or no version is here. Only in the first `WAIT` seconds is one waited for: a model
        that cannot be loaded must not hold up every delivery.
        """
        if pointer is None:
            return None
        slot = self._want(pointer)
        self._slots.move_to_end(pointer.model_uid)
        left = slot.wait_until - self._clock()
        if slot.model is None and slot.loading is not None and left > 0:
            await asyncio.wait([slot.loading], timeout=left)
        return slot.model

    async def settle(self) -> None:
        """Wait until every load that has been started is done."""
        while tasks := [slot.loading for slot in self._slots.values() if slot.loading is not None]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop loading and scoring."""
        for uid in list(self._slots):
            self._drop(uid)
        self._scorers.shutdown(wait=False, cancel_futures=True)

    async def score(
        self,
        predictor: predict.Predictor,
        run: history.Run,
        lines: Mapping[str, Sequence[history.Outcome]],
        *,
        kind: str,
    ) -> predict.Prediction:
        """Score a run, in a thread: it takes a few milliseconds, and LightGBM lets others run meanwhile."""
        begun = time.perf_counter()
        prediction = await asyncio.get_running_loop().run_in_executor(
            self._scorers, predictor.predict, run, lines
        )
        self._metrics.prediction_seconds.observe(time.perf_counter() - begun)
        self._metrics.predictions.labels(kind, prediction.band).inc()
        return prediction

    async def forecast(
        self,
        forecaster: forecast.Forecaster,
        run: history.Run,
        lines: Mapping[str, Sequence[history.Outcome]],
    ) -> forecast.Forecast | None:
        """Forecast how long a run takes, in a thread as `score`; None where nothing is known of its lines."""
        begun = time.perf_counter()
        found = await asyncio.get_running_loop().run_in_executor(
            self._scorers, forecaster.forecast, run, lines
        )
        self._metrics.prediction_seconds.observe(time.perf_counter() - begun)
        self._metrics.predictions.labels("duration", "known" if found else "unknown").inc()
        return found

    async def diagnose(self, judge: diagnosis.Judge, failure: causes.Failure) -> diagnosis.Diagnosis:
        """Judge a failure, in a thread as `score`; a log takes some 15 ms."""
        begun = time.perf_counter()
        found = await asyncio.get_running_loop().run_in_executor(self._scorers, judge.judge, failure)
        self._metrics.prediction_seconds.observe(time.perf_counter() - begun)
        self._metrics.predictions.labels("cause", found.kind).inc()
        return found

    async def score_many(
        self,
        predictor: predict.Predictor,
        runs: Sequence[history.Run],
        kept: Kept,
        *,
        kind: str,
    ) -> Sequence[predict.Prediction]:
        """Score several runs together, in a thread, by the lines of work that were read for them."""

        def all_of_them() -> Sequence[predict.Prediction]:
            return predictor.predict_many([(run, kept.of(run)) for run in runs])

        begun = time.perf_counter()
        found = await asyncio.get_running_loop().run_in_executor(self._scorers, all_of_them)
        each = (time.perf_counter() - begun) / max(1, len(found))
        for prediction in found:
            self._metrics.prediction_seconds.observe(each)
            self._metrics.predictions.labels(kind, prediction.band).inc()
        return found

    def _want(self, pointer: ModelPointer) -> _Slot:
        slot = self._slots.get(pointer.model_uid)
        if slot is None:
            slot = self._slots[pointer.model_uid] = _Slot(pointer, self._clock() + WAIT)
            while len(self._slots) > self._kept:
                self._drop(next(iter(self._slots)))
        if slot.pointer != pointer:
            slot.pointer, slot.failures, slot.failed_at = pointer, 0, float("-inf")
        if slot.sha256 != pointer.artifact_sha256 and slot.loading is None and self._may_try(slot):
            slot.loading = asyncio.create_task(self._load(slot))
        return slot

    def _may_try(self, slot: _Slot) -> bool:
        pause = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(slot.failures - 1, 10)) if slot.failures else 0.0
        return self._clock() - slot.failed_at >= pause

    async def _load(self, slot: _Slot) -> None:
        pointer = slot.pointer
        try:
            async with self._turn:
                model = await asyncio.to_thread(self._read, pointer)
        except Exception as error:  # noqa: BLE001 - whatever a file or its store does, the old version serves
            slot.failures += 1
            slot.failed_at = self._clock()
            self._metrics.model_loads.labels("failed").inc()
            known = isinstance(error, ArtifactRefused | TransferFailed)
            problem = {"problem": str(error)} if known else logs.describe(error)
            log.error(
                "a model cannot be loaded; the version before it stays",
                namespace=pointer.namespace, model=pointer.model, version=pointer.version, **problem,
            )  # fmt: skip
        else:
            slot.model, slot.sha256, slot.failures = model, pointer.artifact_sha256, 0
            self._metrics.model_loads.labels("ok").inc()
            log.info(
                "model loaded", namespace=pointer.namespace, model=pointer.model, version=pointer.version
            )
        finally:
            slot.loading = None
            self._metrics.models.set(sum(1 for each in self._slots.values() if each.model is not None))
        if slot.pointer is not pointer and self._slots.get(pointer.model_uid) is slot:
            self._want(slot.pointer)

    def _read(self, pointer: ModelPointer) -> Loaded:
        content = self._fetch(pointer)
        load = _LOADERS.get(pointer.task, predict.Predictor.load)
        model = load(content, sha256=pointer.artifact_sha256)
        model.warm()
        return model

    def _drop(self, uid: str) -> None:
        slot = self._slots.pop(uid)
        if slot.loading is not None:
            slot.loading.cancel()
        self._metrics.models.set(sum(1 for each in self._slots.values() if each.model is not None))
