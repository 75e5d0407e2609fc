"""Steps, tests, commits and deployments in a tenant's database, merged whatever order they are told in.

A step or test stays in the partition of the day under which it was told first: providers round, and what
finished about midnight may be told with the other day, but is one row all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from pipewright.records import CommitRecord, DeploymentRecord, Detail, DetailType, StepRecord, TestRecord
from pipewright.store import history, merge

Rows = Mapping[DetailType, Sequence[Mapping[str, Any]]]
"""Rows of each kind, in JSON's types."""

LONGEST: Final = timedelta(days=400)
"""Steps and tests that finished longer ago are not kept: so their partitions are not without number."""

_STEP: Final = {
    "day": "date", "integration": "uuid", "job_id": "text", "number": "integer", "run_id": "text",
    "attempt": "integer", "project": "text", "name": "text", "outcome": "text", "started_at": "timestamptz",
    "finished_at": "timestamptz", "seen_at": "timestamptz",
}  # fmt: skip
_TEST: Final = {
    "day": "date", "integration": "uuid", "provider_id": "text", "project": "text", "pipeline": "text",
    "run_id": "text", "attempt": "integer", "job_id": "text", "suite": "text", "name": "text",
    "branch": "text", "sha": "text", "outcome": "text", "started_at": "timestamptz",
    "finished_at": "timestamptz", "url": "text", "seen_at": "timestamptz",
}  # fmt: skip
_COMMIT: Final = {
    "integration": "uuid", "project": "text", "sha": "text", "branch": "text", "change": "text",
    "actor": "bigint", "parents": "text[]", "at": "timestamptz", "url": "text", "seen_at": "timestamptz",
}  # fmt: skip
_DEPLOYMENT: Final = {
    "integration": "uuid", "provider_id": "text", "operation": "text", "project": "text",
    "environment": "text", "service": "text", "pipeline": "text", "run_id": "text", "branch": "text",
    "sha": "text", "actor": "bigint", "phase": "text", "outcome": "text", "queued_at": "timestamptz",
    "started_at": "timestamptz", "finished_at": "timestamptz", "url": "text", "seen_at": "timestamptz",
}  # fmt: skip
_KEYS: Final[Mapping[DetailType, tuple[str, ...]]] = {
    "step": ("integration", "job_id", "number"),
    "test": ("integration", "provider_id"),
    "commit": ("integration", "sha", "project", "branch"),
    "deployment": ("integration", "provider_id"),
}


def rows(
    records: Iterable[Detail], *, integration: str, seen_at: datetime, actors: Mapping[str, str]
) -> Rows:
    """What is stored of these records; `actors` is what `history.surrogates` returned for their logins."""
    found: dict[DetailType, list[Mapping[str, Any]]] = {kind: [] for kind in _KEYS}
    common = {"integration": integration, "seen_at": seen_at.isoformat()}
    for record in records:
        row = _row(record, seen_at=seen_at, actors=actors)
        if row is not None:
            found[record.type].append({**common, **row})
    return found


def together(parts: Iterable[Rows]) -> Rows:
    """The rows of several deliveries, in their order."""
    told = list(parts)
    return {kind: [row for part in told for row in part[kind]] for kind in _KEYS}


def runs(found: Rows) -> set[tuple[str, str]]:
    """The runs that the rows name, for `history.lock_runs`: who holds them merges steps and tests alone."""
    told = [*found["step"], *found["test"]]
    return {(row["integration"], row["run_id"]) for row in told if row["run_id"]}


async def merge_rows(conn: psycopg.AsyncConnection, found: Rows) -> None:
    """Merge the rows into what is known; in the caller's transaction, with their runs locked."""
    await _by_day(conn, "step", "steps", found)
    await _by_day(conn, "test", "tests", found)
    for wave in history.waves(found["commit"], key=itemgetter(*_KEYS["commit"])):
        await conn.execute(_COMMITS, [Jsonb(wave)])
    for wave in history.waves(found["deployment"], key=itemgetter(*_KEYS["deployment"])):
        await conn.execute(_DEPLOYMENTS, [Jsonb(wave)])


async def partitions_ahead(conn: psycopg.AsyncConnection, *, today: date) -> None:
    """Make tomorrow's partitions (UTC) of tables that have one for today."""
    await conn.execute("SELECT pipewright.partitions_ahead(%s)", [today])


async def _by_day(conn: psycopg.AsyncConnection, kind: DetailType, table: str, found: Rows) -> None:
    if not found[kind]:
        return
    days = sorted({date.fromisoformat(row["day"]) for row in found[kind]})
    await conn.execute("SELECT pipewright.ensure_partitions(%s, %s)", [table, days])
    around = sorted({day + timedelta(days=by) for day in days for by in (-1, 0, 1)})
    for wave in history.waves(found[kind], key=itemgetter(*_KEYS[kind])):
        await conn.execute(_UPSERTS[kind], {"rows": Jsonb(wave), "around": around})


def _row(record: Detail, *, seen_at: datetime, actors: Mapping[str, str]) -> dict[str, Any] | None:
    """A record's own columns; None of what finished too long ago."""
    match record:
        case StepRecord() | TestRecord() if record.finished_at < seen_at - LONGEST:
            return None
        case StepRecord():
            return {
                **_of_a_job(record),
                "number": record.number,
            }
        case TestRecord():
            return {
                **_of_a_job(record),
                **{name: getattr(record, name) for name in ("pipeline", "suite", "branch", "sha", "url")},
                "provider_id": record.id,
            }
        case CommitRecord():
            return {
                **{name: getattr(record, name) for name in ("project", "sha", "branch", "change", "url")},
                "actor": actors.get(record.actor),
                "parents": list(record.parents),
                "at": min(record.at, seen_at).isoformat(),
            }
        case DeploymentRecord():
            texts = ("operation", "project", "environment", "service", "pipeline", "branch", "sha", "url")
            return {
                **{name: getattr(record, name) for name in (*texts, "phase", "outcome")},
                "provider_id": record.id,
                "run_id": record.run,
                "actor": actors.get(record.actor),
                "queued_at": history.moment(record.queued_at),
                "started_at": history.moment(record.started_at),
                "finished_at": history.moment(record.finished_at),
            }


def _of_a_job(record: StepRecord | TestRecord) -> dict[str, Any]:
    return {
        "day": record.finished_at.astimezone(UTC).date().isoformat(),
        "run_id": record.run,
        "attempt": record.attempt,
        "job_id": record.job,
        "project": record.project,
        "name": record.name,
        "outcome": record.outcome,
        "started_at": history.moment(record.started_at),
        "finished_at": history.moment(record.finished_at),
    }


def _upsert_by_day(table: str, columns: Mapping[str, str], key: tuple[str, ...]) -> str:
    # %(around)s prunes partitions when the statement is planned, new.day when it runs
    own = ", ".join(f"new.{name}" for name in columns if name != "day")
    source = (
        f"(SELECT coalesce(kept.day, new.day) AS day, {own}"  # noqa: S608 - names are ours
        f" FROM jsonb_to_recordset(%(rows)s) AS new ({history.recordset(columns)}) LEFT JOIN LATERAL ("
        f"SELECT there.day FROM pipewright.{table} there WHERE there.day = ANY(%(around)s::date[])"
        " AND there.day >= new.day - 1 AND there.day <= new.day + 1 AND "
        + " AND ".join(f"there.{name} = new.{name}" for name in key)
        + " ORDER BY there.day LIMIT 1) AS kept ON true) AS new"
    )
    return merge.upsert(table, columns, (*key, "day"), source=source, finished=True)


_UPSERTS: Final[Mapping[DetailType, str]] = {
    "step": _upsert_by_day("steps", _STEP, _KEYS["step"]),
    "test": _upsert_by_day("tests", _TEST, _KEYS["test"]),
}
_DEPLOYMENTS = merge.upsert(
    "deployments",
    _DEPLOYMENT,
    _KEYS["deployment"],
    source=merge.with_actors(
        f"jsonb_to_recordset(%s) AS new ({history.recordset({**_DEPLOYMENT, 'actor': 'text'})})", _DEPLOYMENT
    ),
)
# A commit does not change: what one telling leaves out another may say, and no order of them matters.
_COMMITS = f"""
INSERT INTO pipewright.commits AS old ({", ".join(_COMMIT)})
SELECT {", ".join(_COMMIT)} FROM {
    merge.with_actors(
        f"jsonb_to_recordset(%s) AS new ({history.recordset({**_COMMIT, 'actor': 'text'})})", _COMMIT
    )
}
ORDER BY {", ".join(_KEYS["commit"])} ON CONFLICT ({", ".join(_KEYS["commit"])}) DO UPDATE
SET change = greatest(old.change, excluded.change), actor = greatest(old.actor, excluded.actor),
    parents = greatest(old.parents, excluded.parents), at = least(old.at, excluded.at),
    url = greatest(old.url, excluded.url), seen_at = greatest(old.seen_at, excluded.seen_at)
"""  # noqa: S608 - names are ours
