"""JSON to records and back: the one place where what comes from outside becomes a record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pipewright.records.details import CommitRecord, DeploymentRecord, StepRecord, TestRecord
from pipewright.records.kinds import ArtifactRecord, JobRecord, RunRecord
from pipewright.records.values import (
    RecordError,
    camel,
    format_time,
    integer,
    json_value,
    kind_of,
    parse_time,
    shown,
    text,
    texts,
    word,
)
from pipewright.records.words import (
    ARTIFACT_CHANGES,
    MAX_ATTEMPT,
    MAX_NUMBER,
    OPERATIONS,
    OUTCOMES,
    PHASES,
    SEVERITIES,
    TEXT_LIMITS,
    Phase,
)

Detail = StepRecord | TestRecord | CommitRecord | DeploymentRecord
Record = RunRecord | JobRecord | ArtifactRecord | Detail

AHEAD: Final = timedelta(hours=1)
"""How far a provider's clock may be ahead of ours."""
_DIGEST = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*:[0-9a-zA-Z=_-]{32,}")
_KINDS: Final[Mapping[str, Any]] = {
    "run": RunRecord,
    "job": JobRecord,
    "artifact": ArtifactRecord,
    "step": StepRecord,
    "test": TestRecord,
    "commit": CommitRecord,
    "deployment": DeploymentRecord,
}
_REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    "run": frozenset({"project", "pipeline", "id", "attempt"}),
    "job": frozenset({"project", "run", "id", "name", "attempt"}),
    "artifact": frozenset({"event", "project", "repository"}),
    "step": frozenset({"project", "run", "attempt", "job", "number", "name", "outcome", "finishedAt"}),
    "test": frozenset({"project", "outcome", "finishedAt"}),
    "commit": frozenset({"project", "sha", "at"}),
    "deployment": frozenset({"project", "id", "environment"}),
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
        if values[field] is None and name in required:
            raise RecordError(name, "is required")
    match kind:
        case "artifact":
            _check_artifact(values)
        case "test":
            _check_test(values)
        case "run" | "job" | "deployment":
            values["phase"] = values["phase"] or _phase_of(values)
            _check_phase(values, kind=kind, partial=partial or kind == "deployment")
    found: Record = _KINDS[kind](**{field: value for field, value in values.items() if value is not None})
    return found


def not_from_the_future(record: Record, *, now: datetime) -> None:
    """Refuse what has not happened yet: called where records come in, webhooks and imports alike.

    The last outcomes of a line of work are kept by their time of finish and count from then on. One of a year
    to come would stand there, counted by nobody, in the place of one that is known.

    Raises:
        RecordError: names the first of the record's times that is later than `now` by more than `AHEAD`.
    """
    if isinstance(record, CommitRecord):
        return  # its time is its author's clock's; the store takes it for no later than it was told
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
        return text(name, value, required=required)
    match name:
        case "phase":
            return word(name, value, PHASES)
        case "outcome":
            return None if value == "" else word(name, value, OUTCOMES)
        case "event":
            return word(name, value, ARTIFACT_CHANGES)
        case "operation":
            return word(name, value, OPERATIONS)
        case "attempt":
            return integer(name, value, low=1, high=MAX_ATTEMPT)
        case "number" | "critical" | "high" | "medium" | "low" | "unknown":
            return integer(name, value, low=0, high=MAX_NUMBER)
        case "labels" | "parents":
            return texts(name, value)
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


def _check_test(values: dict[str, Any]) -> None:
    if not values["name"] and not values["suite"]:
        raise RecordError("name", "a test has a name, a suite or both")
    if values["id"]:
        return
    if not values["run"]:
        raise RecordError("id", "is required of a test that tells no run")
    apart = [values[name] or "" for name in ("project", "run", "job", "suite", "name")]
    told = json.dumps([values["attempt"] or 1, *apart], ensure_ascii=False)
    values["id"] = hashlib.sha256(told.encode()).hexdigest()[:32]


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
