"""The rollups of a history that was filled, by the product's own functions, which are told each thing once.

A refresh takes a note for each run and job that changed. Of millions at once most say the same again: here
each hour, each line of work and each commit that was ever red is told once. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

import psycopg

from tests.bench.query import fill

DAYS_AT_ONCE = 10
LINES_AT_ONCE = 2_000
COMMITS_AT_ONCE = 50_000
_OF = "number BETWEEN %(first)s AND %(last)s"

# What has no red run is in neither table: no rollup of commits has a row for it.
_TOLD = f"""
CREATE SCHEMA IF NOT EXISTS bench;
DROP TABLE IF EXISTS bench.lines, bench.commits;
CREATE UNLOGGED TABLE bench.lines AS
SELECT *, (row_number() OVER () - 1) / {LINES_AT_ONCE} AS part FROM (
    SELECT integration, project, pipeline, branch, min(finished_at) AS earliest, max(finished_at) AS latest
    FROM pipewright.runs WHERE {_OF} GROUP BY integration, project, pipeline, branch) AS found;
CREATE UNLOGGED TABLE bench.commits AS
SELECT *, (row_number() OVER () - 1) / {COMMITS_AT_ONCE} AS part FROM (
    SELECT DISTINCT integration, sha FROM pipewright.runs
    WHERE {_OF} AND outcome IN ('failure', 'error')) AS found;
"""
_NOTE = "ROW(now(), '2000-01-01', {integration}, '', {line}, {sha}, {at}, {job})::pipewright.changes"
_NO_LINE = "'', '', ''"
_HOURS = (
    " FROM generate_series(%(since)s::timestamptz, %(until)s::timestamptz - interval '1 hour',"
    " interval '1 hour') AS at"
)
_LINES = (
    " FROM bench.lines CROSS JOIN LATERAL (VALUES (earliest), (latest)) AS ends (at) WHERE part = %(part)s"
)
_COMMITS = " FROM bench.commits WHERE part = %(part)s"


def tell(dsn: str, *, first: int, last: int) -> None:
    """Find the lines and commits of the runs `first` to `last`."""
    with fill.connection(dsn) as conn:
        psycopg.ClientCursor(conn).execute(_TOLD, {"first": first, "last": last})


def parts(dsn: str) -> list[list[fill.Statement]]:
    """What brings the runs that `tell` found, and their jobs, into all rollups, while nobody writes.

    Of each list any number may be done at once; what is done twice is as if once.
    """
    with fill.connection(dsn) as conn:
        earliest, latest, lines, commits = conn.execute(
            "SELECT (SELECT min(earliest) FROM bench.lines), (SELECT max(latest) FROM bench.lines),"
            " (SELECT max(part) FROM bench.lines), (SELECT coalesce(max(part), -1) FROM bench.commits)"
        ).fetchone() or (None, None, 0, 0)
    days = list(_days(earliest - timedelta(hours=1), latest))  # a job ends before its run
    spells = _parts("refresh_spells", _line_note(), _LINES, lines)
    of_commits = (
        _parts(function, _commit_note(), _COMMITS, commits)
        for function in ("refresh_commits", "refresh_flaky")
    )
    return [*map(list, (spells, *of_commits)), days[::-1]]


def _days(since: datetime, until: datetime) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Whole days (UTC): what two connections recount at the same time has no row in common."""
    begin = datetime.combine(since.astimezone(UTC).date(), time(), UTC)
    while begin <= until:
        end = begin + timedelta(days=DAYS_AT_ONCE)
        for function, job in (("refresh_runs", "false"), ("refresh_jobs", "true")):
            note = _NOTE.format(
                integration=f"'{fill.INTEGRATION}'", line=_NO_LINE, sha="''", at="at", job=job
            )
            yield _call(function, note, _HOURS), {"since": begin, "until": end}
        begin = end


def _parts(function: str, note: str, source: str, last: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for part in range(last + 1):
        yield _call(function, note, source), {"part": part}


def _call(function: str, note: str, source: str) -> str:
    return f"SELECT pipewright.{function}(ARRAY(SELECT {note}{source}))"


def _line_note() -> str:
    line = "project, pipeline, branch"
    return _NOTE.format(integration="integration", line=line, sha="''", at="at", job="false")


def _commit_note() -> str:
    return _NOTE.format(
        integration="integration", line=_NO_LINE, sha="sha", at="NULL::timestamptz", job="false"
    )
