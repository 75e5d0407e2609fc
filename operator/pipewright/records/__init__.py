"""What one delivery, or one line of an imported history, says: the records.

    provider's payload ──connector──► RunRecord | JobRecord | ArtifactRecord ──store──► Event ──► conditions
                                      StepRecord | TestRecord | CommitRecord | DeploymentRecord ──► views

This is the strict border: whatever comes from outside becomes a record by `parse_record` or is refused with
the field named. `pipewright.events` goes on from here and offers these names too.

The JSON forms are camelCase with RFC 3339 times in UTC; a field without a value is left out.
"""

from pipewright.records.details import CommitRecord, DeploymentRecord, StepRecord, TestRecord
from pipewright.records.kinds import ArtifactRecord, JobRecord, RunRecord
from pipewright.records.parsing import AHEAD, Detail, Record, not_from_the_future, parse_record, record_json
from pipewright.records.values import (
    RecordError,
    camel,
    format_time,
    json_value,
    kind_of,
    parse_time,
    shown,
    word,
)
from pipewright.records.words import (
    ARTIFACT_CHANGES,
    MAX_ATTEMPT,
    MAX_LABEL,
    MAX_LABELS,
    MAX_NUMBER,
    OPERATIONS,
    OUTCOMES,
    PHASES,
    SEVERITIES,
    TEXT_LIMITS,
    TYPES,
    ArtifactChange,
    Band,
    DetailType,
    EventType,
    Operation,
    Outcome,
    Phase,
)

__all__ = [
    "AHEAD", "ARTIFACT_CHANGES", "MAX_ATTEMPT", "MAX_LABEL", "MAX_LABELS", "MAX_NUMBER", "OPERATIONS",
    "OUTCOMES", "PHASES", "SEVERITIES", "TEXT_LIMITS", "TYPES", "ArtifactChange", "ArtifactRecord", "Band",
    "CommitRecord", "DeploymentRecord", "Detail", "DetailType", "EventType", "JobRecord", "Operation",
    "Outcome", "Phase", "Record", "RecordError", "RunRecord", "StepRecord", "TestRecord", "camel",
    "format_time", "json_value", "kind_of", "not_from_the_future", "parse_record", "parse_time",
    "record_json", "shown", "word",
]  # fmt: skip
