"""What happens in a CI system, in one vocabulary: the value that every room hands on.

The types are the subject and predicate of CDEvents (pipelineRun, taskRun, artifact); a taskRun is a
provider's job. For a scan of an artifact CDEvents has no word: `artifact.scanned` is ours. A record
(`pipewright.records`) is what a provider said; an event is a record in its surroundings: which delivery,
which integration, which run. People appear in a record under their provider's login, and in an event only
under the surrogate that the store gave them.

The JSON forms are camelCase with RFC 3339 times in UTC; a field without a value is left out.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from pipewright import records
from pipewright.records import (
    OUTCOMES,
    PHASES,
    TYPES,
    ArtifactRecord,
    Band,
    EventType,
    JobRecord,
    Outcome,
    Phase,
    Record,
    RecordError,
    RunRecord,
    not_from_the_future,
    parse_record,
    record_json,
)

__all__ = [
    "OUTCOMES",
    "PHASES",
    "TYPES",
    "ArtifactRecord",
    "ArtifactRef",
    "Band",
    "DurationForecast",
    "Event",
    "EventType",
    "FailureCause",
    "JobRecord",
    "JobRef",
    "Outcome",
    "Phase",
    "Prediction",
    "Record",
    "RecordError",
    "Retry",
    "RunRecord",
    "RunRef",
    "Scan",
    "artifact_event",
    "encode",
    "event_from_json",
    "job_event",
    "lacks",
    "not_from_the_future",
    "parse_record",
    "prediction_from_json",
    "record_json",
    "run_event",
]


CauseKind = Literal["infra", "flaky", "code", "config", "unsure"]
"""What sort of failure it is: of the systems around, of chance, of the code, of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """The provider's run that an event is about. (run id, attempt) is unique in an integration."""

    id: str
    number: int
    attempt: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRef:
    """The provider's job that a taskrun event is about."""

    id: str
    name: str
    runner: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef:
    """The artifact that an artifact event is about; what the registry did not tell is empty."""

    repository: str
    """As the actions of its connector take it."""
    tag: str
    digest: str
    media_type: str
    url: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """How many vulnerabilities a scan of an artifact found, by how grave they are."""

    critical: int
    high: int
    medium: int
    low: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a run, a job or an artifact, as workflows see it."""

    type: EventType
    id: str
    """The provider's delivery id: with the integration it names the event for good."""
    integration: str
    """The Integration's name."""
    project: str
    pipeline: str
    branch: str
    sha: str
    trigger: str
    actor: str
    """A surrogate, or empty."""
    outcome: Outcome
    """Empty until finished."""
    run: RunRef | None
    """None of an artifact."""
    job: JobRef | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    artifact: ArtifactRef | None = None
    scan: Scan | None = None


_OF_RUNS: Final = frozenset(
    {"pipeline", "branch", "sha", "trigger", "run", "job", "queued_at", "started_at", "finished_at"}
)


def lacks(event_type: EventType) -> frozenset[str]:
    """The fields of `Event` that an event of this type never has: the others, it always has.

    `queued_at` counts as always there: readers fall back to the start where a provider does not tell.
    """
    subject, _, phase = event_type.partition(".")
    if subject == "artifact":
        return _OF_RUNS if phase == "scanned" else _OF_RUNS | {"outcome", "scan"}
    missing = {"queued": {"started_at", "finished_at", "outcome"}, "started": {"finished_at", "outcome"}}.get(
        phase, set()
    )
    return frozenset(missing | {"artifact", "scan"} | ({"job"} if subject == "pipelinerun" else set()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What the model thinks of another attempt."""

    probability: float
    """That another attempt passes."""
    band: Band


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationForecast:
    """How long a model said that the run would take, in seconds from its start."""

    p50: float
    """Half of such runs take longer."""
    p90: float
    """One of ten does."""
    p95: float
    """One of twenty does."""
    reasons: tuple[str, ...] = ()
    model: str
    """The model's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """Why a model said that the run failed, and who mends it how; what it does not know is null."""

    kind: CauseKind
    category: str | None = None
    """Of the taxonomy, where a log was read."""
    owner: str | None = None
    """platform, service, team or author."""
    recipe: str | None = None
    transient: float
    """The probability that another attempt passes."""
    reasons: tuple[str, ...] = ()
    model: str
    """The model's version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the namespace's default models said about the run that an event is about.

    What there is no model for is null.
    """

    probability: float | None = None
    """That the run fails, calibrated."""
    band: Band | None = None
    reasons: tuple[str, ...] = ()
    model: str | None = None
    """The model's version."""
    retry: Retry | None = None
    """Only for a run that failed."""
    duration: DurationForecast | None = None
    """How long it takes; without a default model of the task Duration null."""
    cause: FailureCause | None = None
    """Why it failed; without a default model of the task FailureCause null, and of a run that did not."""


def run_event(record: RunRecord, *, id: str, integration: str, actor: str = "") -> Event:  # noqa: A002 - the field's name
    """The event that a run's record is, delivered as `id`; `actor` is the surrogate."""
    return Event(
        type=record.type,
        id=id,
        integration=integration,
        project=record.project,
        pipeline=record.pipeline,
        branch=record.branch,
        sha=record.sha,
        trigger=record.trigger,
        actor=actor,
        outcome=record.outcome,
        run=RunRef(id=record.id, number=record.number, attempt=record.attempt, url=record.url),
        job=None,
        queued_at=record.queued_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
    )


def job_event(
    record: JobRecord,
    *,
    id: str,  # noqa: A002 - the field's name
    integration: str,
    run: RunRecord | None = None,
    actor: str = "",
) -> Event:
    """The event that a job's record is. `run` is what is known of its run, which may arrive later."""
    return Event(
        type=record.type,
        id=id,
        integration=integration,
        project=record.project,
        pipeline=record.pipeline or (run.pipeline if run else ""),
        branch=record.branch or (run.branch if run else ""),
        sha=record.sha or (run.sha if run else ""),
        trigger=run.trigger if run else "",
        actor=actor,
        outcome=record.outcome,
        run=RunRef(
            id=record.run, number=run.number if run else 0, attempt=record.attempt, url=run.url if run else ""
        ),
        job=JobRef(id=record.id, name=record.name, runner=record.runner, labels=record.labels),
        queued_at=record.queued_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
    )


def artifact_event(
    record: ArtifactRecord,
    *,
    id: str,  # noqa: A002 - the field's name
    integration: str,
    received_at: datetime,
    actor: str = "",
) -> Event:
    """The event that an artifact's record is; untold, its time is that of receipt."""
    scan = Scan(**{name: getattr(record, name) for name in records.SEVERITIES})
    return Event(
        type=record.type,
        id=id,
        integration=integration,
        project=record.project,
        pipeline="",
        branch="",
        sha="",
        trigger="",
        actor=actor,
        outcome=record.outcome,
        run=None,
        job=None,
        queued_at=None,
        started_at=None,
        finished_at=None,
        artifact=ArtifactRef(
            repository=record.repository,
            tag=record.tag,
            digest=record.digest,
            media_type=record.media_type,
            url=record.url,
            at=record.at or received_at,
        ),
        scan=scan if record.event == "scanned" else None,
    )


# --- JSON --------------------------------------------------------------------------------------------------


def encode(value: Event | Prediction) -> dict[str, Any]:
    """The JSON form, as `event_from_json` and `prediction_from_json` read it."""
    found: dict[str, Any] = records.json_value(value)
    return found


def event_from_json(mapping: Mapping[str, Any]) -> Event:
    """An event from what `encode` made of it.

    Raises:
        RecordError: names the field.
    """
    event: Event = _decode(Event, mapping, where="event")
    return event


def prediction_from_json(mapping: Mapping[str, Any]) -> Prediction:
    """A prediction from what `encode` made of it.

    Raises:
        RecordError: names the field.
    """
    prediction: Prediction = _decode(Prediction, mapping, where="prediction")
    return prediction


def _decode(cls: Any, mapping: object, *, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise RecordError(where, f"must be a JSON object, got {records.kind_of(mapping)}")
    return cls(
        **{
            field: _typed(hint, mapping.get(records.camel(field)), where=f"{where}.{records.camel(field)}")
            for field, hint in _HINTS[cls].items()
        }
    )


def _typed(hint: Any, value: object, *, where: str) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the latter of Literal | None
        return None if value is None else _typed(get_args(hint)[0], value, where=where)
    if typing.get_origin(hint) is Literal:
        return records.word(where, value, get_args(hint))
    if hint in _HINTS:
        return _decode(hint, value, where=where)
    if hint is datetime:
        return records.parse_time(where, value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise RecordError(where, f"must be a list of texts, got {records.kind_of(value)}")
        return tuple(_typed(str, entry, where=where) for entry in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or isinstance(value, bool) or (hint is float and not math.isfinite(value)):
        raise RecordError(where, f"must be a {hint.__name__}, got {records.kind_of(value)}")
    return value


_CLASSES: Final = (
    Event,
    RunRef,
    JobRef,
    ArtifactRef,
    Scan,
    Prediction,
    Retry,
    DurationForecast,
    FailureCause,
)
_HINTS: Final = {cls: typing.get_type_hints(cls) for cls in _CLASSES}
