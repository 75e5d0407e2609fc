"""Effects of the Model controller: attempts of trainings, and which version is active."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ml import contract
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import JobPlace, Pod, Pointer, Training, TrainingOutcome, TrainingPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What another member of the pool gives to a training."""

    key: str
    """Names the member to this model alone."""
    tenant: TenantRef = field(repr=False)
    since: datetime
    integrations: tuple[str, ...] | None = field(repr=False)
    """UIDs; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginTraining:
    """Export the data window to the artifact store, then write the attempt's intent to the journal."""

    tenant: TenantRef
    model_uid: str
    attempt: int
    recipe: str
    since: datetime
    at: datetime
    """Now: the end of the window, and the attempt's start."""
    integrations: tuple[str, ...] | None
    """UIDs; None: all."""
    compute: str = ""
    """Where the job is to run."""
    cause: str = ""
    """Why, where the schedule does not say it."""
    pool: tuple[Contribution, ...] = field(default=(), repr=False)
    """What others give; empty: it learns from its own runs alone."""

    def __str__(self) -> str:
        told = f"export the data window and begin training, attempt {self.attempt}"
        if self.pool:
            told = f"{told}, with the runs of other members of its pool"
        return f"{told}: {self.cause}" if self.cause else told


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipTraining:
    """Pass over a turn of the schedule. Nothing changes but the status, which remembers the turn."""

    turn: datetime
    attempt: int
    """The last one, since which nothing happened."""

    def __str__(self) -> str:
        return (
            f"skip the training of {self.turn:%Y-%m-%d %H:%M} UTC:"
            f" nothing was heard of runs that passed or failed since attempt {self.attempt}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitTraining:
    """Give the job of an attempt whose intent is written to the compute cluster."""

    tenant: TenantRef
    model_uid: str
    attempt: int
    job: contract.TrainingJob = field(hash=False)
    """Without addresses that it can follow: those that are lent to it are no part of a plan."""
    training: Training = field(hash=False)
    """The attempt, with the store's own addresses."""
    lasting: timedelta
    """How long the job may use its files."""
    place: JobPlace
    pod: Pod
    phase: TrainingPhase

    def __str__(self) -> str:
        again = " again: the cluster has forgotten it" if self.phase == "Resubmitted" else ""
        return f"submit training, attempt {self.attempt}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTraining:
    """Ask the compute cluster to end a job, and note that it was asked."""

    tenant: TenantRef
    submission_id: str
    attempt: int
    place: JobPlace

    def __str__(self) -> str:
        return f"stop training, attempt {self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTraining:
    """Write an attempt's outcome to the journal."""

    tenant: TenantRef
    submission_id: str
    attempt: int
    outcome: TrainingOutcome
    reason: str
    """One word for programs, and after a colon a sentence."""
    report: contract.Report | None = field(hash=False, repr=False)
    at: datetime
    lent: str = ""
    """The folder of what others lent to it, which goes first."""

    def __str__(self) -> str:
        return f"note training, attempt {self.attempt}, as {self.outcome}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteModel:
    """Make a version the active one, if the pointer is still the one that was seen."""

    pointer: Pointer
    expected: int | None
    """The generation that was seen; None: no pointer was there."""

    def __str__(self) -> str:
        return f"promote version {self.pointer.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeServing:
    """Say whether the model is what `prediction` means in its namespace, and what it leaves alone."""

    model_uid: str
    is_default: bool
    control_share: float

    def __str__(self) -> str:
        place = "the default" if self.is_default else "not the default"
        return f"make the model {place} of its namespace, with a control group of {self.control_share:.2%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawModel:
    """Take the pointer away: from now on nothing is predicted by this model."""

    model_uid: str

    def __str__(self) -> str:
        return "withdraw the active version"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteArtifacts:
    """Delete the model's windows, versions and reports from the artifact store."""

    tenant_id: str
    model_uid: str

    def __str__(self) -> str:
        return "delete the model's files"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneTrainings:
    """Delete what trainings of long ago left in the artifact store; the journal remembers them."""

    urls: tuple[str, ...]

    def __str__(self) -> str:
        return "delete the files of old trainings"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnWindows:
    """Delete what others lent to the model's trainings."""

    model_uid: str

    def __str__(self) -> str:
        return "delete the windows that a pool lent"


ModelAction = (
    BeginTraining
    | SkipTraining
    | SubmitTraining
    | StopTraining
    | FinishTraining
    | PromoteModel
    | ChangeServing
    | WithdrawModel
    | DeleteArtifacts
    | ReturnWindows
    | PruneTrainings
)
