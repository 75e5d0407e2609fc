"""What the ports of training report, as values: `facts` for the Model controller. No I/O.

Jobs and reports are `ml.contract`'s: what the controller and a training job say to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ml import contract

JobPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
TrainingPhase = Literal["Intended", "Submitted", "Resubmitted", "Stopping", "Finished"]
"""How far an attempt is by the journal; Resubmitted: the cluster forgot it once, a second time is its end."""
TrainingOutcome = Literal["Passed", "GatesFailed", "Failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job as the compute cluster has it."""

    phase: JobPhase
    message: str = ""
    """What the cluster says of a job that did not succeed, in one line."""

    @property
    def ended(self) -> bool:
        """It will not do anything any more."""
        return self.phase not in ("Pending", "Running")


MESSAGE_LENGTH = 300
"""Characters of what a cluster says that are kept."""
KUBE_RAY = "kubeRay"
"""In the place of a cluster's name: a cluster of its own for each job. No cluster's name has capitals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlace:
    """Whose job it is, and where it runs."""

    tenant_id: str
    namespace: str
    model: str
    model_uid: str
    compute: str = ""
    """The name of a cluster in the settings, or `KUBE_RAY`; empty: the first cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a job asks for that has a cluster of its own, as Kubernetes writes it."""

    image: str = ""
    """Empty: the one of the settings."""
    cpus: int = 1
    memory: str = "4Gi"
    gpus: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict, hash=False)
    tolerations: Sequence[Mapping[str, str]] = field(default=(), hash=False)
    queue: str = ""
    start_deadline: timedelta = timedelta(minutes=15)
    deadline: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataWindow:
    """A data window as it lies in the artifact store."""

    uri: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCount:
    """How many attempts with a known outcome a window holds: all, and what is new since a moment."""

    rows: int
    heard: int
    """Of these, those of which something was heard later; also an old run, when its history is imported."""
    ended: int
    """Of these, those that finished later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedWindow:
    """A data window that was just read from the tenant's history."""

    content: bytes = field(repr=False)
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWindow:
    """The runs of another member, lent to one training."""

    key: str
    """Names the member to this model alone; see `controllers.model.pooling.key`."""
    uri: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LentWindows:
    """What other tenants lent to a training; nothing in it says whose it is."""

    folder: str
    """Where their files lie, until the training is over."""
    windows: tuple[PoolWindow, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The members."""
        return frozenset(each.key for each in self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One attempt to train a model, as the journal has it: written before the job, finished after it."""

    submission_id: str
    attempt: int
    recipe: str
    """Short digest of the part of the spec that decides what comes out; see `objects.recipe`."""
    phase: TrainingPhase
    window: DataWindow
    artifact_uri: str
    report_uri: str
    started_at: datetime
    compute: str = ""
    """Where its job runs, as `JobPlace` has it: the spec may say another place since."""
    lent: LentWindows | None = None
    """None: it learns from its own tenant's runs alone."""
    finished_at: datetime | None = None
    outcome: TrainingOutcome | None = None
    reason: str = ""
    """One word for programs, and after a colon a sentence."""
    report: contract.Report | None = None

    @property
    def running(self) -> bool:
        """Its outcome is not yet known."""
        return self.finished_at is None

    @property
    def version(self) -> str | None:
        """The name of the version that it made; None where it made none."""
        sha256 = self.report.artifact_sha256 if self.report is not None else None
        return version_of(sha256) if sha256 is not None and self.outcome != "Failed" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """The active version of a model: the row that the gateway follows."""

    model_uid: str
    tenant_id: str
    namespace: str
    model: str
    task: str
    is_default: bool
    version: str
    artifact_uri: str
    artifact_sha256: str
    metrics: Mapping[str, Any] = field(hash=False)
    """`ml.figures.Metrics` as JSON."""
    promoted_at: datetime
    control_share: float = 0.0
    """The share of runs on which nothing is done by their prediction."""
    generation: int = 0
    """Counts promotions; 0 before the row is written."""


def one_line(message: object) -> str:
    """The first line of what a cluster says of a job: what follows it is the end of the job's log."""
    lines = str(message or "").strip().splitlines()
    first = "".join(letter for letter in (lines[0] if lines else "") if letter.isprintable())
    return first[:MESSAGE_LENGTH].rstrip(" ,:")


def version_of(sha256: str) -> str:
    """The name of a version: the beginning of its artifact's digest, as the predictor says it, too."""
    return sha256[:12]
