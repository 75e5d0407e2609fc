"""What one delivery, or one line of an imported history, says about a run, a job or an artifact: the records.

    provider's payload ──connector──► RunRecord | JobRecord | ArtifactRecord ──store──► Event ──► conditions

This is the strict border: whatever comes from outside becomes a record by `parse_record` or is refused with
the field named. `pipewright.events` goes on from here and offers these names too.

The JSON forms are camelCase with RFC 3339 times in UTC; a field without a value is left out.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

Phase = Literal["queued", "started", "finished"]
Outcome = Literal["", "success", "failure", "cancel", "error", "skip"]
Band = Literal["low", "medium", "high", "unsure"]
EventType = Literal[
    "pipelinerun.queued",
    "pipelinerun.started",
    "pipelinerun.finished",
    "taskrun.queued",
    "taskrun.started",
    "taskrun.finished",
    "artifact.published",
    "artifact.deleted",
    "artifact.scanned",
]
ArtifactChange = Literal["published", "deleted", "scanned"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
OUTCOMES: Final[tuple[Outcome, ...]] = tuple(outcome for outcome in get_args(Outcome) if outcome)
TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
ARTIFACT_CHANGES: Final[tuple[ArtifactChange, ...]] = get_args(ArtifactChange)
SEVERITIES: Final = ("critical", "high", "medium", "low", "unknown")
"""How grave a vulnerability is, worst first; `unknown` are also those that a scanner calls negligible."""

TEXT_LIMITS: Final[Mapping[str, int]] = {
    "project": 200,
    "pipeline": 255,
    "run": 64,
    "id": 64,
    "trigger": 64,
    "branch": 255,
    "sha": 64,
    "actor": 128,
    "name": 512,
    "runner": 255,
    "url": 2048,
    "repository": 255,
    "tag": 128,
    "digest": 135,
    "mediaType": 128,
}
"""The longest text of each field of a record, in characters. Longer ones are refused, never cut."""

MAX_LABELS: Final = 50
MAX_LABEL: Final = 128
MAX_NUMBER: Final = 2**53
MAX_ATTEMPT: Final = 10_000

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DIGEST = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-zA-Z=_-]{32,}")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_CAMEL = re.compile(r"_([a-z])")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)

AHEAD: Final = timedelta(hours=1)
"""How far a provider's clock may be ahead of ours."""


def camel(name: str) -> str:
    """The JSON name of a field: `finished_at` is `finishedAt`."""
    return _CAMEL.sub(lambda found: found.group(1).upper(), name)


class RecordError(ValueError):
    """A record or an event's JSON is not what it must be. The message starts with the field's name."""

    def __init__(self, field: str, problem: str, *, got: str = "") -> None:
        """`got` is what of the wrong value is shown."""
        super().__init__(f"{field}: {problem}{got}")
        self.field = field
        self.problem = f"{problem}{got}"
        self.plain = f"{field}: {problem}"
        """The message without the value: for what is kept longer than the value."""


# --- records: what a connector emits, and a line of an imported history ------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One attempt of a provider's run, as far as one delivery or one line of history tells.

    A finished one has `outcome`, `started_at` and `finished_at`; a started one `started_at`; a queued one
    `queued_at`. Some providers tell the start only by a delivery of its own. No order of the three is
    promised: providers' clocks disagree by seconds.
    """

    project: str
    pipeline: str
    id: str
    attempt: int
    number: int = 0
    trigger: str = ""
    branch: str = ""
    sha: str = ""
    actor: str = ""
    """The person's login at the provider: personal data; the store turns it into a surrogate."""
    phase: Phase
    outcome: Outcome = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    url: str = ""

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"pipelinerun.{self.phase}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job of an attempt of a run, as far as one delivery or one line of history tells."""

    project: str
    pipeline: str = ""
    """Empty where the provider does not name it with the job: the run, found by its id, knows."""
    run: str
    """The provider's id of the run."""
    attempt: int
    """The attempt of the run that this job belongs to."""
    id: str
    name: str
    branch: str = ""
    sha: str = ""
    phase: Phase
    outcome: Outcome = ""
    runner: str = ""
    labels: tuple[str, ...] = ()
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"taskrun.{self.phase}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """What a registry says about a container image, or another artifact, in one of its repositories.

    It has a tag, a digest or both: some registries tell only one. The counts are of vulnerabilities that a
    scan found; a scan that did not come to its end has the outcome `error` and no counts.
    """

    event: ArtifactChange
    project: str
    """What an Integration's `projects` name; registries differ in what belongs to it."""
    repository: str
    """As the registry's API takes it, without the registry's address."""
    tag: str = ""
    digest: str = ""
    """Such as sha256:…"""
    media_type: str = ""
    actor: str = ""
    """The person's login at the registry: personal data; the store turns it into a surrogate."""
    at: datetime | None = None
    """None where the registry does not tell: it was received then."""
    outcome: Outcome = ""
    """Of a scan."""
    critical: int = 0
    high: int = 0
    medium: int = 0
    low: int = 0
    unknown: int = 0
    url: str = ""

    @property
    def type(self) -> EventType:
        """The type of the event that this record is."""
        return typing.cast("EventType", f"artifact.{self.event}")


Record = RunRecord | JobRecord | ArtifactRecord

_KINDS: Final[Mapping[str, type[RunRecord] | type[JobRecord] | type[ArtifactRecord]]] = {
    "run": RunRecord,
    "job": JobRecord,
    "artifact": ArtifactRecord,
}
_REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    "run": frozenset({"project", "pipeline", "id", "attempt"}),
    "job": frozenset({"project", "run", "id", "name", "attempt"}),
    "artifact": frozenset({"event", "project", "repository"}),
}
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    kind: {camel(field.name): field.name for field in dataclasses.fields(cls)} for kind, cls in _KINDS.items()
}
"""JSON name → field name, in the order of the fields."""


def parse_record(mapping: Mapping[str, Any], *, partial: bool = False) -> Record:
    """Read a record from its JSON form, strictly: bounded texts, known fields, what its phase needs.

    `phase` may be left out; it then follows from the times and the outcome. A `partial` one is one of several
    deliveries: the end may come without the start, which another has told.

    Raises:
        RecordError: names the field and what it must be. The caller adds the line.
    """
    if not isinstance(mapping, Mapping):
        raise RecordError("record", f"must be a JSON object, got {kind_of(mapping)}")
    kind = mapping.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RecordError("type", f"must be one of {', '.join(_KINDS)}")
    names = _NAMES[kind]
    for given in mapping:
        if given != "type" and given not in names:
            one = "an artifact" if kind == "artifact" else f"a {kind}"
            raise RecordError(
                shown(given), f"is not a field of {one} record; it has type, {', '.join(names)}"
            )
    required = _REQUIRED[kind]
    values = dict.fromkeys(names.values())
    for name, field in names.items():
        value = mapping.get(name)
        if value is not None:
            values[field] = _value(name, value, required=name in required)
        elif name in required:
            raise RecordError(name, "is required")
    if kind == "artifact":
        _check_artifact(values)
    else:
        values["phase"] = values["phase"] or _phase_of(values)
        _check_phase(values, kind=kind, partial=partial)
    return _KINDS[kind](**{field: value for field, value in values.items() if value is not None})


def not_from_the_future(record: Record, *, now: datetime) -> None:
    """Refuse what has not happened yet: called where records come in, webhooks and imports alike.

    The last outcomes of a line of work are kept by their time of finish and count from then on. One of a year
    to come would stand there, counted by nobody, in the place of one that is known.

    Raises:
        RecordError: names the first of the record's times that is later than `now` by more than `AHEAD`.
    """
    for field in ("queued_at", "started_at", "finished_at", "at"):
        moment: datetime | None = getattr(record, field, None)
        if moment is not None and moment > now + AHEAD:
            raise RecordError(camel(field), f"lies in the future: it is {format_time(now)} here")


def record_json(record: Record) -> dict[str, Any]:
    """The JSON form of a record, as `parse_record` reads it."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
    return {"type": kind, **json_value(record)}


def _value(name: str, value: object, *, required: bool) -> Any:
    if name in TEXT_LIMITS:  # most are
        return _text(name, value, required=required)
    match name:
        case "phase":
            return word(name, value, PHASES)
        case "outcome":
            return None if value == "" else word(name, value, OUTCOMES)
        case "event":
            return word(name, value, ARTIFACT_CHANGES)
        case "attempt":
            return _integer(name, value, low=1, high=MAX_ATTEMPT)
        case "number" | "critical" | "high" | "medium" | "low" | "unknown":
            return _integer(name, value, low=0, high=MAX_NUMBER)
        case "labels":
            return _labels(value)
        case _:
            return parse_time(name, value)


def _phase_of(values: Mapping[str, Any]) -> Phase:
    if values["outcome"] or values["finished_at"]:
        return "finished"
    return "started" if values["started_at"] else "queued"


def _check_phase(values: Mapping[str, Any], *, kind: str, partial: bool) -> None:
    phase = values["phase"]
    needs = {
        "queued": ("queued_at",),
        "started": ("started_at",),
        "finished": ("outcome", "finished_at") if partial else ("outcome", "started_at", "finished_at"),
    }
    for field in needs[phase]:
        if values[field] is None:
            raise RecordError(camel(field), f"is required of a {phase} {kind}")
    if phase != "finished":
        for field in ("outcome", "finished_at"):
            if values[field] is not None:
                raise RecordError(camel(field), f"only a finished {kind} has it, this one is {phase}")


def _check_artifact(values: Mapping[str, Any]) -> None:
    if not values["tag"] and not values["digest"]:
        raise RecordError("digest", "an artifact has a tag, a digest or both")
    if values["digest"] and not _DIGEST.fullmatch(values["digest"]):
        raise RecordError("digest", "must be a digest such as sha256:… with its hexadecimal characters")
    if values["event"] != "scanned":
        for field in ("outcome", *SEVERITIES):
            if values[field]:
                raise RecordError(field, f"only a scan has it, this artifact was {values['event']}")
    elif values["outcome"] is None:
        raise RecordError("outcome", "is required of a scan")


def _text(name: str, value: object, *, required: bool = False, limit: int | None = None) -> str:
    if not isinstance(value, str):
        raise RecordError(name, f"must be a text, got {kind_of(value)}")
    limit = limit or TEXT_LIMITS[name]
    if len(value) > limit:
        raise RecordError(name, f"must have at most {limit} characters, has {len(value)}")
    if required and not value.strip():
        raise RecordError(name, "must not be empty")
    if _UNPRINTABLE.search(value):
        raise RecordError(name, "must not contain control characters")
    if name == "url" and value and not value.startswith(("https://", "http://")):
        raise RecordError(name, "must begin with https:// or http://")
    return value


def word(name: str, value: object, words: tuple[str, ...]) -> str:
    """The value, if it is one of these words.

    Raises:
        RecordError: it is not.
    """
    if not isinstance(value, str) or value not in words:
        raise RecordError(name, f"must be one of {', '.join(words)}", got=f", got {shown(value)}")
    return value


def _integer(name: str, value: object, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(name, f"must be a whole number, got {kind_of(value)}")
    if not low <= value <= high:
        raise RecordError(name, f"must be between {low} and {high}")
    return value


def _labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise RecordError("labels", f"must be a list of texts, got {kind_of(value)}")
    if len(value) > MAX_LABELS:
        raise RecordError("labels", f"must have at most {MAX_LABELS} entries, has {len(value)}")
    return tuple(_text(f"labels[{at}]", label, limit=MAX_LABEL) for at, label in enumerate(value))


def parse_time(name: str, value: object) -> datetime:
    """An RFC 3339 time with its offset, as UTC; `name` is the field for the message.

    Raises:
        RecordError: not such a text, or a year outside 1970 to 2200.
    """
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        wanted = "must be an RFC 3339 time such as 2026-01-31T08:30:00Z"
        raise RecordError(name, wanted, got=f", got {shown(value)}")
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RecordError(name, "is no real time", got=f": {shown(value)}") from None
    if not _EARLIEST <= moment < _LATEST:
        raise RecordError(name, "must lie between the years 1970 and 2200")
    return moment


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, with a fraction only where there is one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_value(value: object) -> Any:
    """The JSON form of a record's or an event's part: times as text, tuples as lists, no absent fields."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, tuple):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            camel(field.name): json_value(found)
            for field in dataclasses.fields(value)
            if (found := getattr(value, field.name)) is not None
        }
    return value


def kind_of(value: object) -> str:
    """What kind of JSON value this is, for a message."""
    names = {"NoneType": "null", "str": "a text", "bool": "a boolean", "int": "a number", "float": "a number"}
    return names.get(type(value).__name__, "a list" if isinstance(value, list) else "an object")


def shown(value: object) -> str:
    """A wrong value for a message: short, and only texts and numbers."""
    if not isinstance(value, str | int | float):
        return kind_of(value)
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:40]}…"
