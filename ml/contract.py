"""What the Model controller and a training job say to each other: job, report, shape of the data window.

The controller writes a `TrainingJob`, Ray runs `python -m ml.train` with it, and the job answers with a
`Report`. Standard library only, so that the operator can import this without NumPy. JSON keys are camelCase,
as in the custom resources; unknown keys are ignored, so that either side may be upgraded first.
"""

import dataclasses
import hashlib
import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from ml.figures import Causes, Count, Curves, Durations, Figures, Metrics

T = TypeVar("T")
Outcome = Literal["Passed", "GatesFailed", "Failed"]
Task = Literal["RunFailure", "Duration", "FailureCause"]

JOB_VARIABLE = "PIPEWRIGHT_TRAINING_JOB"
"""Environment variable with a `TrainingJob` as base64 of its JSON: the way in when there is no job file."""

WINDOW_COLUMNS: Mapping[str, str] = {
    "integration": "string",
    "project": "string",
    "pipeline": "string",
    "run_id": "string",
    "attempt": "int64",
    "number": "int64",
    "event": "string",
    "branch": "string",
    "actor": "string",
    "sha": "string",
    "outcome": "string",
    "queued_at": "timestamp[us, tz=UTC]",
    "started_at": "timestamp[us, tz=UTC]",
    "finished_at": "timestamp[us, tz=UTC]",
    "failed_jobs": "list<string>",
    "jobs": "int64",
}
"""The data window (Parquet): one row for each ATTEMPT of a run, ordered by `started_at`; name → Arrow type.

`outcome` is success, failure, cancel, error or skip. `finished_at` is null while the attempt runs."""

MODEL_FORMAT = "pipewright-model/2 2eac9ad17a9e"
"""What this release writes and reads: the file's format, and the digest of the features' names (a test
compares them). A version that was made as another cannot be scored with, and is trained anew."""

DURATION_FORMAT = "pipewright-durations/1 7f2b84046edd"
"""The same of a model of durations."""

CAUSE_FORMAT = "pipewright-cause/1 62cadad0098a"
"""The same of a model of causes."""

FORMATS: Mapping[str, str] = {
    "RunFailure": MODEL_FORMAT,
    "Duration": DURATION_FORMAT,
    "FailureCause": CAUSE_FORMAT,
}
"""Task → what this release writes and reads."""

HYPERPARAMETERS: Mapping[str, tuple[float, float, float]] = {
    "num_leaves": (8, 2, 64),
    "learning_rate": (0.03, 0.001, 0.5),
    "num_trees": (400, 10, 1000),
    "min_child_samples": (40, 1, 10000),
    "lambda_l2": (5, 0, 1000),
    "feature_fraction": (0.4, 0.05, 1),
    "ensemble": (3, 1, 10),
}
"""Name → (default, least, most). LightGBM's names, except `ensemble`: how many models are averaged."""

MOST_LEAVES = 24_000
"""Leaves of a whole model. The gateway explains every run that it scores, and that takes a time which grows
with them: 0.1 to 0.3 µs for each, and no run may take 10 ms. Training grows no more trees than that allows;
a larger file is refused."""
MAX_DEPTH = 8
"""Splits from a tree's root to a leaf, for the same reason: the time of a leaf grows with their square."""


def complete(fixed: Mapping[str, float]) -> dict[str, float]:
    """All hyperparameters: the defaults, but for those that are fixed."""
    return {name: default for name, (default, _, _) in HYPERPARAMETERS.items()} | dict(fixed)


WHOLE = frozenset({"num_leaves", "num_trees", "min_child_samples", "ensemble"})
"""The hyperparameters that are whole numbers."""


SEARCHED = ("num_leaves", "learning_rate", "min_child_samples", "lambda_l2", "feature_fraction")
"""The hyperparameters that a search chooses, unless the job fixes them. The number of trees is chosen anyway,
by when more of them stop helping; a larger ensemble is hardly ever worse, only slower."""


class ContractError(ValueError):
    """A job or report that cannot be read; the message names the field, what it is and what it must be."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a candidate must reach on the held-out runs to be promoted. None: not asked for. Shares, 0-1."""

    max_false_positive_rate: float | None = None
    """Share of passing runs that may be called failures."""
    min_accuracy: float | None = None
    min_gain_over_baseline: float | None = None
    """Accuracy above the better baseline: 0.01 is one point."""
    max_calibration_error: float | None = None
    min_pinball_gain: float | None = None
    """Duration: the share by which the pinball loss must lie below the better baseline's."""
    max_coverage_error: float | None = None
    """Duration: the gap between a quantile and the share of runs that lie below it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not -1 <= value <= 1:
                raise ContractError(
                    f"gates.{_camel(field.name)} is {value}; it must be a share between 0 and 1"
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search for better hyperparameters may cost."""

    trials: int
    """How many settings are judged at most; the first one is the defaults."""
    seconds: float
    """After so long no more are."""

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= 1000:
            raise ContractError(f"search.trials is {self.trials}; it must be between 1 and 1000")
        if not 0 < self.seconds <= 86400:
            raise ContractError(f"search.seconds is {self.seconds:g}; it must be above 0 and at most 86400")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolWindow:
    """The runs of another tenant, where both opted in: nothing says whose they are."""

    uri: str
    """Where they are read: file:// or a presigned http(s) GET."""
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ContractError("pool.sha256 must be the 64 hexadecimal digits of the data window's SHA-256")
        _check_uri("pool.uri", self.uri)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What a pooled version was made of, in numbers alone."""

    tenants: Count
    """How many had runs that passed or failed, the model's own counted."""
    rows: Count
    """Such runs of them all."""
    own_rows: Count
    """Of these, the model's own tenant's."""


def data_sha256(own: str, others: Sequence[str]) -> str:
    """The digest by which data is known: the window's own, or of several windows one over their digests."""
    return hashlib.sha256("\n".join((own, *sorted(others))).encode()).hexdigest() if others else own


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training, complete in itself: a job knows no database and no credential, only these addresses."""

    submission_id: str
    window_uri: str
    """Where the data window is read: file:// or a presigned http(s) GET."""
    window_sha256: str
    artifact_uri: str
    """Where the model is written: file:// or a presigned http(s) PUT."""
    report_uri: str
    task: Task = "RunFailure"
    seed: int = 0
    holdout: float = 0.25
    """Share of the newest runs that is kept for the test and never trained on."""
    gates: Gates = dataclasses.field(default_factory=Gates)
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Those that are fixed; the others are searched where that is asked for, else they are the defaults."""
    search: Search | None = None
    pool: tuple[PoolWindow, ...] = ()
    """Windows of other tenants to learn from as well; RunFailure only."""

    def __post_init__(self) -> None:
        if self.pool and self.task != "RunFailure":
            raise ContractError(f"pool has windows; the task {self.task} learns from its own runs alone")
        if not self.submission_id:
            raise ContractError("submissionId is empty; it names the training and must be set")
        if not re.fullmatch("[0-9a-f]{64}", self.window_sha256):
            raise ContractError("windowSha256 must be the 64 hexadecimal digits of the data window's SHA-256")
        if not 0.05 <= self.holdout <= 0.5:
            raise ContractError(f"holdout is {self.holdout}; it must be a share between 0.05 and 0.5")
        if not 0 <= self.seed < 2**31:
            raise ContractError(f"seed is {self.seed}; it must be between 0 and 2147483647")
        for name in ("window_uri", "artifact_uri", "report_uri"):
            _check_uri(_camel(name), getattr(self, name))
        for name, value in self.hyperparameters.items():
            _check_hyperparameter(name, value)

    @property
    def data_sha256(self) -> str:
        """By which what it learns from is known."""
        return data_sha256(self.window_sha256, [each.sha256 for each in self.pool])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search found. It saw the runs that are learned from, and none of those that are held out."""

    trials: int
    """How many settings were judged, the defaults among them."""
    asked: int
    """How many were asked for: fewer were judged where the time was over."""
    loss: float
    """Log loss of the best settings on runs that each model had not seen, calibrated; less is better."""
    default_loss: float
    """The same of the defaults: never less."""
    hyperparameters: Mapping[str, float]
    """The best settings, by the learner's names: the searched ones, and those that the job fixed."""
    seconds: float = 0.0
    """How long it took."""
    by: str = ""
    """RayTune, or Job: one trial after another in the job's own process."""

    def __post_init__(self) -> None:
        if not 1 <= self.trials <= 1000:
            raise ContractError(f"search.trials is {self.trials}; it must be between 1 and 1000")
        for name in ("loss", "default_loss"):
            if not 0 <= (value := getattr(self, name)) <= 100:
                raise ContractError(f"search.{_camel(name)} is {value:g}; it must be between 0 and 100")
        for name, value in self.hyperparameters.items():
            if name in HYPERPARAMETERS:  # a later release may search others
                _check_hyperparameter(name, value)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer to a `TrainingJob`; written for every end of a training, also for a failed one."""

    submission_id: str
    outcome: Outcome
    reason: str
    """A sentence for the user: what passed, or which gate, its value and its limit, or what went wrong."""
    metrics: Metrics | None = None
    baselines: Mapping[str, Metrics] = dataclasses.field(default_factory=dict)
    """`alwaysPass` and `lastOutcome` (of the same branch, else the same pipeline) on the same runs."""
    curves: Curves | None = None
    """Of the model, on the same runs; None where nothing was trained, and in reports of older trainings."""
    durations: Durations | None = None
    """In the place of `metrics`, `baselines` and `curves` for the task Duration."""
    causes: Causes | None = None
    """The same for the task FailureCause."""
    search: Searched | None = None
    """None where no search was asked for."""
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """All that the model was made with, the defaults too; empty in reports of older trainings."""
    artifact_sha256: str | None = None
    artifact_bytes: int = 0
    model_format: str | None = None
    """`MODEL_FORMAT` of the code that made it; None in reports of releases that did not tell."""
    rows: Count = 0
    """Attempts with a known outcome in the data window."""
    data_from: str | None = None
    data_to: str | None = None
    """Start of the oldest and of the newest of these rows, RFC 3339."""
    pooled: Pooled | None = None
    """None where it learned from the model's own tenant alone."""
    trained_at: str | None = None
    duration_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("data_from", "data_to", "trained_at"):
            _check_time(_camel(name), getattr(self, name))

    @property
    def figures(self) -> Figures | None:
        """How good the model was, whatever its task; None where nothing was trained."""
        found = self.durations or self.causes
        return found.metrics if found is not None else self.metrics

    @property
    def baseline_figures(self) -> Mapping[str, Figures]:
        """The baselines' of the same task."""
        found = self.durations or self.causes
        return dict(found.baselines if found is not None else self.baselines)


def to_json(value: TrainingJob | Report | Figures | Gates | Curves) -> str:
    """The value as JSON, always the same text for the same value."""
    return json.dumps(
        _encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def from_json(kind: type[T], text: str | bytes) -> T:
    """Read a value of `kind` from JSON. Raises ContractError that names the field."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ContractError(f"{kind.__name__} is not JSON: {error}") from None
    return decode(kind, data)


def decode(kind: type[T], data: Any) -> T:
    """Read a value of `kind` from JSON that is parsed already. Raises ContractError that names the field."""
    value = _decode(kind, data, where="")
    assert isinstance(value, kind)
    return value


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            _camel(field.name): _encode(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _decode(kind: Any, value: Any, *, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        kind, bounds = args
        number = _decode(kind, value, where=where)
        if not bounds.least <= number <= bounds.most:
            raise ContractError(f"{where} is {number}; it must be between {bounds.least} and {bounds.most}")
        return number
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where=where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decode(args[0], value, where=where)
    if origin is Literal:
        return _expect(value in args, value, where=where, wanted=" or ".join(map(str, args)))
    if origin is Mapping:
        _expect(isinstance(value, dict), value, where=where, wanted="an object")
        return {key: _decode(args[1], item, where=f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        _expect(isinstance(value, list), value, where=where, wanted="a list")
        return tuple(_decode(args[0], item, where=f"{where}[{at}]") for at, item in enumerate(value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float:
        finite = number and abs(value) <= sys.float_info.max
        return _expect(finite, value, where=where, wanted="a number")
    if kind is int:
        whole = isinstance(value, int) and number and abs(value) < 2**63
        return _expect(whole, value, where=where, wanted="a whole number of 64 bits")
    return _expect(isinstance(value, str), value, where=where, wanted="a string")


def _decode_dataclass(kind: Any, value: Any, *, where: str) -> Any:
    _expect(isinstance(value, dict), value, where=where or kind.__name__, wanted="an object")
    hints, found = typing.get_type_hints(kind, include_extras=True), {}
    for field in dataclasses.fields(kind):
        name = f"{where}.{_camel(field.name)}".lstrip(".")
        if _camel(field.name) in value:
            found[field.name] = _decode(hints[field.name], value[_camel(field.name)], where=name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ContractError(f"{name} is missing in {kind.__name__}")
    return kind(**found)


def _expect(fits: bool, value: Any, *, where: str, wanted: str) -> Any:
    if not fits:
        # The type, not the value: an address in the wrong field may carry a signature.
        raise ContractError(f"{where} is of the wrong kind ({type(value).__name__}); it must be {wanted}")
    return value


def _check_uri(name: str, uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return
    if parts.scheme in ("http", "https") and parts.hostname and not parts.username:
        return
    raise ContractError(f"{name} must be file:///absolute/path or an http(s) address without a user name")


def _check_time(name: str, text: str | None) -> None:
    try:
        known = text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise ContractError(f"{name} must be a time as 2026-01-31T12:00:00Z")


def _check_hyperparameter(name: str, value: float) -> None:
    if name not in HYPERPARAMETERS:
        raise ContractError(
            f"hyperparameters.{name} is unknown; known are {', '.join(sorted(HYPERPARAMETERS))}"
        )
    _, least, most = HYPERPARAMETERS[name]
    if not least <= value <= most:
        raise ContractError(f"hyperparameters.{name} is {value:g}; it must be between {least:g} and {most:g}")
    if name in WHOLE and value != int(value):
        raise ContractError(f"hyperparameters.{name} is {value:g}; it must be a whole number")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
