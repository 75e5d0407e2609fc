"""The ports of training in dictionaries, held to the same contract tests as the real backends."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from ml import contract
from pipewright import errors
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import (
    ExportedWindow,
    JobPlace,
    JobStatus,
    Pod,
    Pointer,
    RunCount,
    Training,
    TrainingOutcome,
    TrainingPhase,
)


class MemoryCompute:
    """`ports.training.Compute`: a job runs at once by `run` (False: it failed), or hangs without one."""

    def __init__(self, run: Callable[[contract.TrainingJob], bool] | None = None) -> None:
        self._run = run
        self._jobs: dict[str, JobStatus] = {}
        self.submitted: list[str] = []
        self.places: dict[str, tuple[JobPlace, Pod]] = {}
        self.unusable: dict[str, errors.Stalled] = {}
        """What somebody must change before a job runs there."""

    async def submit(self, job: contract.TrainingJob, *, place: JobPlace, pod: Pod) -> None:
        """Run the job, unless it is known."""
        if job.submission_id in self._jobs:
            return
        self.submitted.append(job.submission_id)
        self.places[job.submission_id] = (place, pod)
        if self._run is None:
            self._jobs[job.submission_id] = JobStatus(phase="Running")
        elif self._run(job):
            self._jobs[job.submission_id] = JobStatus(phase="Succeeded")
        else:
            self._jobs[job.submission_id] = JobStatus(phase="Failed", message="exit code 1")

    async def status(self, submission_id: str, *, place: JobPlace) -> JobStatus | None:
        """The job's state."""
        return self._jobs.get(submission_id)

    def trouble(self, compute: str, *, image: str) -> errors.Stalled | None:
        """As it was told."""
        return self.unusable.get(compute)

    async def stop(self, submission_id: str, *, place: JobPlace) -> None:
        """End the job, if it runs."""
        found = self._jobs.get(submission_id)
        if found is not None and not found.ended:
            self._jobs[submission_id] = JobStatus(phase="Stopped")

    def set(self, submission_id: str, status: JobStatus | None) -> None:
        """Let the cluster say something else of a job; None: it has forgotten the job."""
        if status is None:
            self._jobs.pop(submission_id, None)
        else:
            self._jobs[submission_id] = status


class MemoryArtifacts:
    """`ports.training.Artifacts`: address → content."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def url_for(self, *parts: str) -> str:
        """The address; ValueError when a part is no plain name."""
        for part in parts:
            if not part or part.startswith(".") or "/" in part:
                raise ValueError(f"{part[:40]!r} cannot be a part of an artifact's address")
        return "/".join(("file:///memory", *parts))

    async def put(self, url: str, content: bytes) -> None:
        """Keep the content."""
        self.files[self._inside(url)] = content

    async def stream(self, url: str, content: AsyncIterator[bytes]) -> None:
        """Keep the content once it is whole."""
        where = self._inside(url)
        self.files[where] = b"".join([piece async for piece in content])

    async def get(self, url: str) -> bytes | None:
        """The content."""
        return self.files.get(self._inside(url))

    async def exists(self, url: str) -> bool:
        """Whether anything lies there or below."""
        return any(self._is_below(found, url) for found in self.files)

    async def delete(self, url: str) -> None:
        """Forget what lies there or below."""
        self.files = {found: kept for found, kept in self.files.items() if not self._is_below(found, url)}

    async def lend(self, url: str, *, to: Literal["read", "write"], lasting: timedelta) -> str:
        """The address itself."""
        return self._inside(url)

    @staticmethod
    def _is_below(found: str, url: str) -> bool:
        return found == url or found.startswith(f"{url}/")

    @staticmethod
    def _inside(url: str) -> str:
        if not url.startswith("file:///memory/") or ".." in url.split("/"):
            raise errors.BackendError("an address leads out of the artifact store: it is not followed")
        return url


class MemoryTrainings:
    """`ports.training.Trainings`: the attempts of each model."""

    def __init__(self) -> None:
        self.attempts: dict[str, dict[int, Training]] = {}
        self.predictions: list[tuple[str, datetime, float]] = []
        """Version, when, probability."""
        self.durations: list[tuple[str, datetime, int]] = []
        """Version, when, between which quantiles the run lay, counted from 0."""

    async def latest(self, tenant: TenantRef, *, model_uid: str) -> Sequence[Training]:
        """The attempts, the newest first."""
        found = self.attempts.get(model_uid, {})
        return tuple(found[number] for number in sorted(found, reverse=True))

    async def spread(
        self, tenant: TenantRef, *, version: str, since: datetime, bounds: Sequence[float]
    ) -> Sequence[int]:
        """Predictions by where they lie."""
        found = [0] * len(bounds)
        for of, at, probability in self.predictions:
            if of == version and at >= since:
                found[max(bisect_right(bounds, probability), 1) - 1] += 1
        return found

    async def covered(self, tenant: TenantRef, *, version: str, since: datetime) -> Sequence[int]:
        """Runs by where their durations lie."""
        found = [0, 0, 0, 0]
        for of, at, place in self.durations:
            if of == version and at >= since:
                found[place] += 1
        return found

    async def begin(self, tenant: TenantRef, training: Training, *, model_uid: str) -> bool:
        """Keep the intent."""
        found = self.attempts.setdefault(model_uid, {})
        if training.attempt in found:
            return False
        found[training.attempt] = training
        return True

    async def mark(self, tenant: TenantRef, *, submission_id: str, phase: TrainingPhase) -> None:
        """Note how far an attempt is."""
        self._change(submission_id, phase=phase)

    async def finish(
        self,
        tenant: TenantRef,
        *,
        submission_id: str,
        outcome: TrainingOutcome,
        reason: str,
        report: contract.Report | None,
        at: datetime,
    ) -> None:
        """Note how it ended."""
        self._change(
            submission_id,
            phase="Finished",
            outcome=outcome,
            reason=reason,
            report=report,
            finished_at=at,
        )

    def _change(self, submission_id: str, **changes: object) -> None:
        for found in self.attempts.values():
            for number, training in found.items():
                if training.submission_id == submission_id and training.running:
                    found[number] = dataclasses.replace(training, **changes)  # type: ignore[arg-type]


class MemoryWindows:
    """`ports.training.Windows`: one window, whatever is asked for, or one of each tenant."""

    def __init__(self, window: ExportedWindow, *, labelled: int) -> None:
        self.window = window
        self.labelled = labelled
        self.heard: int | None = None
        """Of these, those of which something was heard since the last training began; None: all."""
        self.ended = 0
        """Of these, those that finished since then."""
        self.of: dict[str, tuple[ExportedWindow, int]] = {}
        """Tenant's id → its own window, and how many of its attempts have a known outcome."""

    async def count(
        self,
        tenant: TenantRef,
        *,
        since: datetime,
        until: datetime,
        integrations: Sequence[str] | None,
        new_since: datetime | None,
    ) -> RunCount:
        """The numbers that were set."""
        if tenant.id in self.of:
            rows = self.of[tenant.id][1]
            return RunCount(rows=rows, heard=rows, ended=0)
        if new_since is None:
            return RunCount(rows=self.labelled, heard=self.labelled, ended=self.labelled)
        heard = self.labelled if self.heard is None else self.heard
        return RunCount(rows=self.labelled, heard=heard, ended=self.ended)

    async def export(
        self, tenant: TenantRef, *, since: datetime, until: datetime, integrations: Sequence[str] | None
    ) -> ExportedWindow:
        """The window that was set."""
        return self.of[tenant.id][0] if tenant.id in self.of else self.window


class MemoryPointers:
    """`ports.training.Pointers`: model UID → pointer."""

    def __init__(self) -> None:
        self.pointers: dict[str, Pointer] = {}

    async def find(self, *, model_uid: str) -> Pointer | None:
        """The model's pointer."""
        return self.pointers.get(model_uid)

    async def default_of(self, *, tenant_id: str, namespace: str, task: str) -> Pointer | None:
        """The default for a task in a namespace."""
        for found in self.pointers.values():
            if found.is_default and (found.tenant_id, found.namespace, found.task) == (
                tenant_id,
                namespace,
                task,
            ):
                return found
        return None

    async def promote(self, pointer: Pointer, *, expected: int | None) -> bool:
        """Compare and swap on the generation."""
        found = self.pointers.get(pointer.model_uid)
        if (found.generation if found is not None else None) != expected:
            return False
        await self._check_default(pointer, is_default=pointer.is_default)
        generation = (expected or 0) + 1
        self.pointers[pointer.model_uid] = dataclasses.replace(pointer, generation=generation)
        return True

    async def change_serving(self, *, model_uid: str, is_default: bool, control_share: float) -> None:
        """Change both."""
        found = self.pointers.get(model_uid)
        if found is not None:
            await self._check_default(found, is_default=is_default)
            self.pointers[model_uid] = dataclasses.replace(
                found, is_default=is_default, control_share=control_share
            )

    async def withdraw(self, *, model_uid: str) -> None:
        """Forget it."""
        self.pointers.pop(model_uid, None)

    async def _check_default(self, pointer: Pointer, *, is_default: bool) -> None:
        other = await self.default_of(
            tenant_id=pointer.tenant_id, namespace=pointer.namespace, task=pointer.task
        )
        if is_default and other is not None and other.model_uid != pointer.model_uid:
            raise errors.Conflict("another model is the namespace's default")
