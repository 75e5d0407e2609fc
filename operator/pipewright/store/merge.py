"""How two sayings about the same run or job become one row, whatever their order and however often they come.

The later phase wins; within a phase the later moment by the provider's clock, then by ours. The winner's
values stand, and where it says nothing the loser's do. Written once here, as SQL, for rows from a webhook
(JSON) and rows of an import (a staging table).
"""

from __future__ import annotations

from collections.abc import Mapping

RUN_KEY = ("integration", "provider_id", "attempt")
JOB_KEY = ("integration", "provider_id")

RUN_COLUMNS: Mapping[str, str] = {
    "integration": "uuid",
    "provider_id": "text",
    "attempt": "integer",
    "project": "text",
    "pipeline": "text",
    "number": "bigint",
    "trigger": "text",
    "branch": "text",
    "sha": "text",
    "actor": "bigint",
    "phase": "text",
    "outcome": "text",
    "queued_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "url": "text",
    "seen_at": "timestamptz",
}
JOB_COLUMNS: Mapping[str, str] = {
    "integration": "uuid",
    "provider_id": "text",
    "run_id": "text",
    "attempt": "integer",
    "project": "text",
    "pipeline": "text",
    "name": "text",
    "branch": "text",
    "sha": "text",
    "phase": "text",
    "outcome": "text",
    "runner": "text",
    "labels": "text[]",
    "queued_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "seen_at": "timestamptz",
}
"""Column → type, of what a delivery tells; the table may have more that is derived."""

_WINNER_ONLY = frozenset({"phase", "outcome", "seen_at"})
"""What only the winner says: a started run has no outcome, even where an older saying had one."""

_NOTHING = {"text": "''", "bigint": "0", "integer": "0", "text[]": "'{}'::text[]"}


def upsert(
    table: str, columns: Mapping[str, str], key: tuple[str, ...], *, source: str, finished: bool = False
) -> str:
    """The INSERT … ON CONFLICT of `table` from `source`, which holds each key at most once.

    `finished`: its rows are told when they have finished only, and have no phase.
    """
    names = ", ".join(columns)
    rank = _finish if finished else _rank
    wins = f"{rank('excluded')} >= {rank('old')}"
    # Rows are locked in the key's order, so that two batches never wait for each other crosswise.
    return (
        f"INSERT INTO pipewright.{table} AS old ({names}) SELECT {names} FROM {source}"  # noqa: S608 - names are ours
        f" ORDER BY {', '.join(key)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET "
        + ", ".join(
            f"{name} = {_merged(name, kind, wins)}" for name, kind in columns.items() if name not in key
        )
    )


def with_actors(source: str, columns: Mapping[str, str] = RUN_COLUMNS) -> str:
    """`source`, a relation named `new` whose actors are surrogates, with their ids instead."""
    names = ", ".join("a.id AS actor" if name == "actor" else f"new.{name}" for name in columns)
    return (
        f"(SELECT {names} FROM {source}"  # noqa: S608 - names are ours
        " LEFT JOIN pipewright.actors a ON a.surrogate = new.actor) AS new"
    )


def derive_jobs(*, attempts: str) -> str:
    """The UPDATE of runs whose jobs are known: their number, and the names of those that failed or broke.

    `attempts` is a relation named `wanted` with integration, run_id and attempt.
    """
    return (
        "UPDATE pipewright.runs AS r SET failed_jobs = d.failed, jobs = d.jobs"  # noqa: S608 - names are ours
        " FROM (SELECT j.integration, j.run_id, j.attempt, count(*)::integer AS jobs,"
        " coalesce(array_agg(j.name ORDER BY j.name)"
        " FILTER (WHERE j.outcome IN ('failure', 'error')), '{}') AS failed"
        f" FROM {attempts} JOIN pipewright.jobs j ON j.integration = wanted.integration"
        " AND j.run_id = wanted.run_id AND j.attempt = wanted.attempt"
        " GROUP BY j.integration, j.run_id, j.attempt) AS d"
        " WHERE r.integration = d.integration AND r.provider_id = d.run_id AND r.attempt = d.attempt"
        " AND (r.failed_jobs, r.jobs) IS DISTINCT FROM (d.failed, d.jobs)"
    )


def _merged(name: str, kind: str, wins: str) -> str:
    new, old = f"excluded.{name}", f"old.{name}"
    if name in _WINNER_ONLY:
        return f"CASE WHEN {wins} THEN {new} ELSE {old} END"
    nothing = _NOTHING.get(kind)
    said_new, said_old = (f"nullif({new}, {nothing})", f"nullif({old}, {nothing})") if nothing else (new, old)
    return f"CASE WHEN {wins} THEN coalesce({said_new}, {old}) ELSE coalesce({said_old}, {new}) END"


def _rank(row: str) -> str:
    """What is compared: phase, moment, time of receipt."""
    moment = f"coalesce({row}.finished_at, {row}.started_at, {row}.queued_at, '-infinity')"
    phases = "ARRAY['queued', 'started', 'finished']"
    return f"(array_position({phases}, {row}.phase), {moment}, {row}.seen_at)"


def _finish(row: str) -> str:
    return f"({row}.finished_at, {row}.seen_at)"
