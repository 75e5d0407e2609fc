"""What finished in a tenant's history as CloudEvents 1.0, each with a record: what another gateway takes in.

    row of a view ──► record ──► CloudEvent of the type dev.pipewright.record

Pure: rows come in, values go out. An event's id follows from what it says: the same record is the same event
whenever, and by whomever, it is sent, and one that was corrected since is another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipewright import records
from pipewright.records import (
    CommitRecord,
    DeploymentRecord,
    JobRecord,
    Record,
    RunRecord,
    StepRecord,
    TestRecord,
)

Row = Mapping[str, Any]

TYPE: Final = "dev.pipewright.record"
MEDIA_TYPE: Final = "application/cloudevents+json; charset=UTF-8"

_OF_RUN: Final = (
    " LEFT JOIN history.runs r ON r.integration = h.integration AND r.provider_id = h.run_id"
    " AND r.attempt = h.attempt"
)
_NEAR: Final = "h.day >= %(since)s::date - 1 AND h.day <= %(until)s::date + 1"
"""A row's day may be the one beside that of its finish."""
_FINISHED: Final = "h.phase = 'finished' AND h.outcome <> ''"
_COLUMNS: Final = {"id": "provider_id", "run": "run_id", "job": "job_id"}
"""Field of a record → column of its view, where they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Where records of one kind are read, and which of them have an order that matters."""

    record: Any
    view: str
    condition: str
    subject: tuple[str, ...]
    """Fields that name one record of an Integration."""
    line: tuple[str, ...]
    """SQL of what, with the project, names its line of work."""
    join: str = ""
    told: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Field → SQL, where it is no column of the view."""
    at: str = "finished_at"

    def query(self) -> str:
        """Rows of [since, until), the oldest first."""
        fields = [field.name for field in dataclasses.fields(self.record)]
        columns = [f"{self.told.get(name, f'h.{_COLUMNS.get(name, name)}')} AS {name}" for name in fields]
        line = ", ".join(self.line)
        found = [self.condition, f"h.{self.at} >= %(since)s", f"h.{self.at} < %(until)s"]
        return (
            f"SELECT h.integration::text AS integration, ARRAY[{line}] AS line, {', '.join(columns)}"  # noqa: S608
            f" FROM history.{self.view} h{self.join} WHERE {' AND '.join(found)}"
            f" ORDER BY h.{self.at}, {', '.join(f'h.{_COLUMNS.get(name, name)}' for name in self.subject)}"
        )


KINDS: Final[Mapping[str, Kind]] = {
    "step": Kind(
        record=StepRecord,
        view="steps",
        condition=_NEAR,
        subject=("job", "number"),
        line=("'line'", "coalesce(r.pipeline, '')", "coalesce(r.branch, '')"),
        join=_OF_RUN,
    ),
    "test": Kind(
        record=TestRecord,
        view="tests",
        condition=_NEAR,
        subject=("id",),
        line=(
            "'line'",
            "coalesce(nullif(h.pipeline, ''), r.pipeline, '')",
            "coalesce(nullif(h.branch, ''), r.branch, '')",
        ),
        join=_OF_RUN,
    ),
    "job": Kind(
        record=JobRecord,
        view="jobs",
        condition=_FINISHED,
        subject=("id",),
        line=("'line'", "coalesce(r.pipeline, '')", "coalesce(nullif(h.branch, ''), r.branch, '')"),
        join=_OF_RUN,
        told={"pipeline": "coalesce(r.pipeline, '')"},
    ),
    "run": Kind(
        record=RunRecord,
        view="runs",
        condition=_FINISHED,
        subject=("id", "attempt"),
        line=("'line'", "h.pipeline", "h.branch"),
    ),
    "commit": Kind(
        record=CommitRecord,
        view="commits",
        condition="true",
        subject=("sha", "project", "branch"),
        line=("'commits'", "h.branch"),
        at="at",
    ),
    "deployment": Kind(
        record=DeploymentRecord,
        view="deployments",
        condition=_FINISHED,
        subject=("id",),
        line=("'deployments'", "h.environment", "h.service"),
    ),
}
"""In the order of what finished at one moment: parts before what they are parts of."""
USUAL: Final = ("job", "run", "deployment")
"""What is sent unless it is said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event; its attributes are named as CloudEvents names them."""

    id: str
    source: str
    subject: str
    time: datetime
    partitionkey: str
    """Of the Partitioning extension: equal for all of one line of work."""
    data: Mapping[str, Any]

    def structured(self) -> bytes:
        """In the JSON event format."""
        attributes = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": TYPE,
            "subject": self.subject,
            "time": records.format_time(self.time),
            "datacontenttype": "application/json",
            "partitionkey": self.partitionkey,
            "data": self.data,
        }
        return _json(attributes).encode()


def event(kind: str, row: Row) -> CloudEvent:
    """What a row of the kind's query says."""
    found = KINDS[kind]
    record = _record(found, row)
    data = records.record_json(record)
    parts = (getattr(record, name) for name in found.subject)
    return CloudEvent(
        id=_digest(_json(data, sort_keys=True)),
        source=f"urn:uuid:{row['integration']}",
        subject="/".join([kind, *map(str, parts)]),
        time=getattr(record, found.at),
        partitionkey=_digest(_json([row["integration"], record.project, *row["line"]])),
        data=data,
    )


def _record(kind: Kind, row: Row) -> Record:
    values = {field.name: row[field.name] for field in dataclasses.fields(kind.record)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    made: Record = kind.record(**values | lists)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _json(value: object, *, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
