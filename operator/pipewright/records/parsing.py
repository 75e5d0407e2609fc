"""JSON to records and back: the one place where what comes from outside becomes a record."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
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
    text_reader,
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
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "run": ("project", "pipeline", "id", "attempt"),
    "job": ("project", "run", "attempt", "id", "name"),
    "artifact": ("event", "project", "repository"),
    "step": ("project", "run", "attempt", "job", "number", "name", "outcome", "finishedAt"),
    "test": ("project", "outcome", "finishedAt"),
    "commit": ("project", "sha", "at"),
    "deployment": ("project", "id", "environment"),
}
_WITH_PHASES: Final = frozenset({"run", "job", "deployment"})
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "queued": ("queued_at",),
    "started": ("started_at",),
    "finished": ("outcome", "finished_at"),
}
"""Phase → the fields that one of several deliveries about the same has."""
_NEEDED_ALONE: Final = {**_NEEDED, "finished": ("outcome", "started_at", "finished_at")}

Reader = Callable[[object], Any]
"""Gives a field's value, None for one that says nothing; raises RecordError."""


def _reader(name: str, *, required: bool) -> Reader:
    match name:
        case "phase":
            return functools.partial(word, name, words=PHASES)
        case "outcome":
            return lambda value: None if value == "" else word("outcome", value, OUTCOMES)
        case "event":
            return functools.partial(word, name, words=ARTIFACT_CHANGES)
        case "operation":
            return functools.partial(word, name, words=OPERATIONS)
        case "attempt":
            return functools.partial(integer, name, low=1, high=MAX_ATTEMPT)
        case "number" | "critical" | "high" | "medium" | "low" | "unknown":
            return functools.partial(integer, name, low=0, high=MAX_NUMBER)
        case "labels" | "parents":
            return functools.partial(texts, name)
        case _ if name in TEXT_LIMITS:
            return text_reader(name, required=required)
        case _:
            return functools.partial(parse_time, name)


_READERS: Final[Mapping[str, Mapping[str, tuple[str, Reader]]]] = {
    kind: {
        name: (field.name, _reader(name, required=name in _REQUIRED[kind]))
        for field in dataclasses.fields(cls)
        if (name := camel(field.name))
    }
    for kind, cls in _KINDS.items()
}
"""JSON name → field name and what reads it, in the order of the fields."""
_KNOWN: Final = {kind: frozenset({"type", *readers}) for kind, readers in _READERS.items()}


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
    readers = _READERS[kind]
    values: dict[str, Any] = {}
    if not _KNOWN[kind].issuperset(mapping):
        raise _unknown(kind, mapping)
    required = _REQUIRED[kind]
    for name in required:
        if mapping.get(name) is None:
            raise RecordError(name, "is required")
    for name, value in mapping.items():
        if value is not None and name != "type":
            field, read = readers[name]
            if (found := read(value)) is not None:
                values[field] = found
            elif name in required:
                raise RecordError(name, "is required")
    if kind in _WITH_PHASES:
        values.setdefault("phase", _phase_of(values))
        _check_phase(values, kind=kind, partial=partial or kind == "deployment")
    elif kind == "artifact":
        _check_artifact(values)
    elif kind == "test":
        _check_test(values)
    record: Record = _KINDS[kind](**values)
    return record


def not_from_the_future(record: Record, *, now: datetime) -> None:
    """Refuse what has not happened yet: called where records come in, webhooks and imports alike.

    The last outcomes of a line of work are kept by their time of finish and count from then on. One of a year
    to come would stand there, counted by nobody, in the place of one that is known.

    Raises:
        RecordError: names the first of the record's times that is later than `now` by more than `AHEAD`.
    """
    if isinstance(record, CommitRecord):
        return  # its time is its author's clock's; the store takes it for no later than it was told
    latest = now + AHEAD
    for field in ("queued_at", "started_at", "finished_at", "at"):
        moment: datetime | None = getattr(record, field, None)
        if moment is not None and moment > latest:
            raise RecordError(camel(field), f"lies in the future: it is {format_time(now)} here")


def record_json(record: Record) -> dict[str, Any]:
    """The JSON form of a record, as `parse_record` reads it."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
    return {"type": kind, **json_value(record)}


def _unknown(kind: str, mapping: Mapping[str, Any]) -> RecordError:
    given = next(name for name in mapping if name not in _KNOWN[kind])
    one = "an artifact" if kind == "artifact" else f"a {kind}"
    known = ", ".join(_READERS[kind])
    return RecordError(shown(given), f"is not a field of {one} record; it has type, {known}")


def _phase_of(values: Mapping[str, Any]) -> Phase:
    if "outcome" in values or "finished_at" in values:
        return "finished"
    return "started" if "started_at" in values else "queued"


def _check_phase(values: Mapping[str, Any], *, kind: str, partial: bool) -> None:
    phase = values["phase"]
    for field in (_NEEDED if partial else _NEEDED_ALONE)[phase]:
        if field not in values:
            raise RecordError(camel(field), f"is required of a {phase} {kind}")
    if phase != "finished":
        for field in ("outcome", "finished_at"):
            if field in values:
                raise RecordError(camel(field), f"only a finished {kind} has it, this one is {phase}")


def _check_test(values: dict[str, Any]) -> None:
    if not values.get("name") and not values.get("suite"):
        raise RecordError("name", "a test has a name, a suite or both")
    if values.get("id"):
        return
    if not values.get("run"):
        raise RecordError("id", "is required of a test that tells no run")
    apart = [values.get(name, "") for name in ("project", "run", "job", "suite", "name")]
    told = json.dumps([values.get("attempt", 1), *apart], ensure_ascii=False)
    values["id"] = hashlib.sha256(told.encode()).hexdigest()[:32]


def _check_artifact(values: Mapping[str, Any]) -> None:
    digest = values.get("digest")
    if not values.get("tag") and not digest:
        raise RecordError("digest", "an artifact has a tag, a digest or both")
    if digest and not _DIGEST.fullmatch(digest):
        raise RecordError("digest", "must be a digest such as sha256:… with its hexadecimal characters")
    if values["event"] != "scanned":
        for field in ("outcome", *SEVERITIES):
            if values.get(field):
                raise RecordError(field, f"only a scan has it, this artifact was {values['event']}")
    elif "outcome" not in values:
        raise RecordError("outcome", "is required of a scan")
