"""What the Model controller needs: a compute cluster, an artifact store, and three sorts of rows.

No credential of a database or of the store goes to the compute cluster: a job knows addresses only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from ml import contract
from pipewright import errors
from pipewright.ports.common import Cluster
from pipewright.ports.runner import Directory
from pipewright.runner_facts import TenantRef
from pipewright.tracking_facts import TrackedRun, TrackedVersion
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


class Compute(Protocol):
    """Runs training jobs; a job is known by its submission id, which the caller chose."""

    async def submit(self, job: contract.TrainingJob, *, place: JobPlace, pod: Pod) -> None:
        """Start the job; one that the cluster knows already, whatever became of it, is left alone.

        `pod` is for a job that has a cluster of its own.

        Raises:
            Stalled: there is no such cluster, or nothing to make one of.
        """
        ...

    async def status(self, submission_id: str, *, place: JobPlace) -> JobStatus | None:
        """The job's state; None when the cluster does not know it (never submitted, or forgotten).

        Raises:
            Stalled: there is no such cluster.
        """
        ...

    async def stop(self, submission_id: str, *, place: JobPlace) -> None:
        """Ask the job to end; one that has ended, or is not known, counts as done.

        Raises:
            Stalled: there is no such cluster.
        """
        ...

    def trouble(self, compute: str, *, image: str) -> errors.Stalled | None:
        """Why no job can run there until somebody changes something; None: one can. Asks no server."""
        ...


class Artifacts(Protocol):
    """Files of windows, models and reports. A file is there whole or not at all."""

    def url_for(self, *parts: str) -> str:
        """The address of a file or folder below the store. ValueError when a part is no plain name."""
        ...

    async def put(self, url: str, content: bytes) -> None:
        """Write a file, whatever was there."""
        ...

    async def stream(self, url: str, content: AsyncIterator[bytes]) -> None:
        """Write a file piece by piece, whatever was there. When `content` raises, nothing changes.

        Only this process's user may read what is written so.
        """
        ...

    async def get(self, url: str) -> bytes | None:
        """A file's content.

        Raises:
            BackendError: it is larger than any file of ours, or cannot be read.
        """
        ...

    async def exists(self, url: str) -> bool:
        """Whether anything lies at this address or below it."""
        ...

    async def delete(self, url: str) -> None:
        """Delete the file, or everything below the folder; absent already counts as done."""
        ...

    async def lend(self, url: str, *, to: Literal["read", "write"], lasting: timedelta) -> str:
        """An address by which a job reads or writes this one file for a while. It may be a credential."""
        ...


class Trainings(Protocol):
    """The journal of trainings and of what their versions said, in the tenant's database."""

    async def latest(self, tenant: TenantRef, *, model_uid: str) -> Sequence[Training]:
        """The model's last attempts, the newest first; as many as any decision needs."""
        ...

    async def spread(
        self, tenant: TenantRef, *, version: str, since: datetime, bounds: Sequence[float]
    ) -> Sequence[int]:
        """How many predictions of a version since then lie from each of these rising bounds to the next."""
        ...

    async def covered(self, tenant: TenantRef, *, version: str, since: datetime) -> Sequence[int]:
        """How many runs whose duration a version forecast since then lay up to the first quantile, from
        there to the next, and so on, and above the last."""
        ...

    async def begin(self, tenant: TenantRef, training: Training, *, model_uid: str) -> bool:
        """Write the intent, before the job; False when this attempt is there already."""
        ...

    async def mark(self, tenant: TenantRef, *, submission_id: str, phase: TrainingPhase) -> None:
        """Note how far an attempt is; a finished one stays as it is."""
        ...

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
        """Write how an attempt ended; an outcome that is there stays as it is."""
        ...


class Windows(Protocol):
    """The tenant's history as training data, people as surrogates. `integrations`: UIDs; None: all."""

    async def count(
        self,
        tenant: TenantRef,
        *,
        since: datetime,
        until: datetime,
        integrations: Sequence[str] | None,
        new_since: datetime | None,
    ) -> RunCount:
        """How many attempts with a known outcome (success or failure) began in [since, until).

        And how many of these are new since a moment; None: all are.
        """
        ...

    async def export(
        self, tenant: TenantRef, *, since: datetime, until: datetime, integrations: Sequence[str] | None
    ) -> ExportedWindow:
        """All attempts that began then, as Parquet; the same rows give the same bytes."""
        ...


class Pointers(Protocol):
    """Which version of each model is active: rows of the platform database that the gateway follows."""

    async def find(self, *, model_uid: str) -> Pointer | None:
        """The model's pointer."""
        ...

    async def default_of(self, *, tenant_id: str, namespace: str, task: str) -> Pointer | None:
        """The pointer of the model that is the default for a task in a namespace."""
        ...

    async def promote(self, pointer: Pointer, *, expected: int | None) -> bool:
        """Write the pointer if it is still at generation `expected` (None: not there yet).

        False: somebody else was first.

        Raises:
            Conflict: another model became the namespace's default meanwhile.
        """
        ...

    async def change_serving(self, *, model_uid: str, is_default: bool, control_share: float) -> None:
        """Say whether the model is its namespace's default for its task, and how many runs it leaves alone.

        Raises:
            Conflict: another model became the default meanwhile.
        """
        ...

    async def withdraw(self, *, model_uid: str) -> None:
        """Delete the pointer; absent already counts as done."""
        ...


class Tracking(Protocol):
    """Where people compare models: a run for each training, and a registered model for each Model."""

    async def record(self, run: TrackedRun) -> str:
        """Write the run whole, and return its id; one that was written stays as it is, whoever asks again.

        Raises:
            Stalled, BackendError: it is not, or not wholly, written.
        """
        ...

    async def register(self, version: TrackedVersion, *, run_id: str) -> str:
        """Have the version registered and marked as the one that predicts, and return its number.

        Raises:
            OwnedByOther: the registered model is not this tenant's.
            BackendError: not all of it is done.
        """
        ...


TurnEnd = Literal["Passed", "GatesFailed", "Failed", "Skipped"]
"""How a turn of a Model's schedule ended."""


class TurnBook(Protocol):
    """What the metrics tell of trainings."""

    def saw(self, model_uid: str, *, due: datetime | None) -> None:
        """Since when a training is due that trouble keeps from beginning; None: there is none."""
        ...

    def ended(self, how: TurnEnd) -> None:
        """One more training ended, or was passed over."""
        ...


class TrainingPorts(Protocol):
    """What the Model controller reaches; the runner's ports are these and more."""

    @property
    def cluster(self) -> Cluster:
        """The Kubernetes API."""
        ...

    @property
    def directory(self) -> Directory:
        """Whose namespace it is."""
        ...

    @property
    def compute(self) -> Compute:
        """Where jobs run."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """Where files lie."""
        ...

    @property
    def trainings(self) -> Trainings:
        """The journal."""
        ...

    @property
    def windows(self) -> Windows:
        """The history."""
        ...

    @property
    def pointers(self) -> Pointers:
        """What the gateway follows."""
        ...

    @property
    def tracking(self) -> Tracking | None:
        """Where trainings are recorded; None: nowhere."""
        ...

    @property
    def turns(self) -> TurnBook | None:
        """Who counts; None: nobody does."""
        ...
