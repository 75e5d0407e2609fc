"""Runs and jobs of one tenant, made by the server itself: projects, pipelines and branches of unequal size.

Made in parts, on as many connections as there are cores, without triggers, and of many the indexes are made
anew at the end: how fast it is is no figure. What is then in no rollup `recount` brings there, or `note`
leaves it to the product, as its triggers would have.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import psycopg

INTEGRATION = "00000000-0000-0000-0000-0000000000b1"
DAYS = 400
PROJECTS, PIPELINES, BRANCHES, PEOPLE = 50, 4, 6, 300
JOBS = 2
"""Jobs of a run."""
CHUNK = 100_000
"""Runs that are made by one statement, with their jobs."""
WORKERS = min(4, os.cpu_count() or 1)
TABLES = ("pipewright.runs", "pipewright.jobs")

_SESSION = """
SET session_replication_role = replica; -- no trigger: neither a note nor a look at each run's actor
SET synchronous_commit = off;
SET work_mem = '256MB';
SET maintenance_work_mem = '512MB';
SET statement_timeout = 0;
"""
_SERVER = {"max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}
"""While it is filled."""

_PEOPLE = f"""
INSERT INTO pipewright.actors (provider, login)
SELECT 'github', 'person-' || n FROM generate_series(1, {PEOPLE}) AS n ON CONFLICT DO NOTHING
"""

# A tenth fails, a hundredth breaks; each eleventh run is another attempt at the commit of the one before it.
# hashint4 is chance that is the same each time. The square makes the first projects large.
_CHUNK = f"""
WITH made AS (INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, number,
    trigger, branch, sha, actor, phase, outcome, queued_at, started_at, finished_at, failed_jobs, jobs,
    seen_at)
SELECT '{INTEGRATION}', lpad(n::text, 9, '0'), 1 + again,
    'acme/project-' || ({PROJECTS} * power(mod(abs(hashint4(origin + 1)), 1000) / 1e3::float8, 2))::integer,
    '.github/workflows/pipeline-' || mod(origin, {PIPELINES}) || '.yml', n, 'push',
    CASE WHEN mod(origin, {BRANCHES}) < 3 THEN 'main' ELSE 'feature-' || mod(origin, 977) END,
    md5(origin::text) || 'abcdef12',
    (SELECT min(id) FROM pipewright.actors) + mod(abs(hashint4(n)), {PEOPLE}), 'finished',
    CASE WHEN chance < 10 THEN 'failure' WHEN chance = 10 THEN 'error' WHEN chance = 11 THEN 'cancel'
        ELSE 'success' END,
    at - interval '1 minute', at, at + interval '1 second' * (60 + mod(abs(hashint4(n + 7)), 1200)), '{{}}',
    {JOBS}, at
FROM (
    SELECT n, mod(n, 11) / 10 AS again, n - mod(n, 11) / 10 AS origin,
        mod(abs(hashint4(n + 2)), 100) AS chance, %(until)s::timestamptz - interval '1 day' * %(days)s::float8
        * ((n - %(first)s) / (%(last)s - %(first)s + 1)::float8) AS at
    FROM generate_series(%(low)s::integer, %(high)s::integer) AS n
) AS numbers
RETURNING integration, provider_id, attempt, project, branch, sha, outcome, number, queued_at, started_at,
    finished_at, seen_at)
INSERT INTO pipewright.jobs (integration, provider_id, run_id, attempt, project, name, branch, sha, phase,
    outcome, runner, labels, queued_at, started_at, finished_at, seen_at)
SELECT r.integration, r.provider_id || '-' || k, r.provider_id, r.attempt, r.project, 'job-' || k, r.branch,
    r.sha, 'finished', CASE WHEN k = 1 + mod(r.number, {JOBS}) THEN r.outcome ELSE 'success' END,
    'runner-' || r.number,
    CASE mod(r.number, 5) WHEN 0 THEN '{{self-hosted,linux,x64}}' ELSE '{{ubuntu-latest}}' END::text[],
    r.queued_at, r.started_at, r.finished_at - interval '1 second' * k, r.seen_at
FROM made r CROSS JOIN generate_series(1, {JOBS}) AS k
"""

_NOTES = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM pipewright.runs WHERE integration = '{INTEGRATION}'
        AND provider_id BETWEEN lpad(%(first)s::text, 9, '0') AND lpad(%(last)s::text, 9, '0')
), of_runs AS (
    INSERT INTO pipewright.changes (day, integration, run_id, project, pipeline, branch, sha,
        finished_at, job)
    SELECT (finished_at AT TIME ZONE 'UTC')::date, integration, provider_id, project, pipeline, branch, sha,
        finished_at, false
    FROM new
)
INSERT INTO pipewright.changes (day, integration, run_id, finished_at, job)
SELECT (j.finished_at AT TIME ZONE 'UTC')::date, j.integration, j.run_id, j.finished_at, true
FROM pipewright.jobs j JOIN new ON new.integration = j.integration AND new.provider_id = j.run_id
    AND new.attempt = j.attempt
"""

_PRICES = f"""
INSERT INTO pipewright.runner_prices (integration, runner, valid_from, currency, per_minute)
VALUES ('{INTEGRATION}', 'ubuntu-latest', '2000-01-01', 'USD', 0.008),
    ('{INTEGRATION}', 'linux, self-hosted, x64', '2000-01-01', 'USD', 0.002) ON CONFLICT DO NOTHING
"""

_INDEXES = """
SELECT i.indrelid::regclass::text, c.relname, pg_get_indexdef(i.indexrelid), i.indisprimary
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY(%s::regclass[]) ORDER BY pg_relation_size(i.indexrelid) DESC
"""
Statement = tuple[str, Mapping[str, Any]]


class Index(NamedTuple):
    """Of runs or jobs."""

    table: str
    name: str
    definition: str
    primary: bool


def connection(dsn: str) -> psycopg.Connection:
    """A superuser's, with the settings of the filling."""
    conn = psycopg.connect(dsn, autocommit=True)
    conn.execute(_SESSION)
    return conn


@contextlib.contextmanager
def quiet(dsn: str) -> Iterator[None]:
    """The server writes checkpoints rarely, and vacuums only when it is told to, until the block ends."""
    with connection(dsn) as conn:
        for name, value in _SERVER.items():
            conn.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        conn.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            for name in _SERVER:
                conn.execute(f"ALTER SYSTEM RESET {name}")
            conn.execute("SELECT pg_reload_conf()")
            conn.execute("CHECKPOINT")  # not while something is measured


def side_by_side(dsn: str, statements: Iterable[Statement]) -> None:
    """Run the statements, each in a transaction of its own, on `WORKERS` connections."""
    waiting: SimpleQueue[Statement] = SimpleQueue()
    for statement in statements:
        waiting.put(statement)

    def work() -> None:
        with connection(dsn) as conn, contextlib.suppress(Empty):
            while True:
                text, values = waiting.get_nowait()
                conn.execute(text, values or None)

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for future in [pool.submit(work) for _ in range(WORKERS)]:
            future.result()


def people_and_prices(dsn: str) -> None:
    """Whose runs they are, and what a minute of their jobs costs."""
    with connection(dsn) as conn:
        conn.execute(_PEOPLE)
        conn.execute(_PRICES)


def rows(dsn: str, *, first: int, last: int, until: str, days: float = DAYS) -> None:
    """Make the runs `first` to `last` and their jobs, spread evenly over the `days` before `until`.

    `dsn` is a superuser's, of the tenant's database.
    """
    span = {"first": first, "last": last, "until": until, "days": days}
    side_by_side(
        dsn,
        (
            (_CHUNK, {**span, "low": low, "high": min(low + CHUNK - 1, last)})
            for low in range(first, last + 1, CHUNK)
        ),
    )


def indexes(dsn: str) -> list[Index]:
    """Those of runs and jobs, the largest first."""
    with connection(dsn) as conn:
        found = conn.execute(_INDEXES, [list(TABLES)]).fetchall()
    return [Index(*index) for index in found]


def drop(dsn: str, gone: Sequence[Index]) -> None:
    """To make them anew afterwards is faster than to keep them."""
    with connection(dsn) as conn:
        for index in gone:
            if index.primary:
                conn.execute(f"ALTER TABLE {index.table} DROP CONSTRAINT IF EXISTS {index.name}")
            conn.execute(f"DROP INDEX IF EXISTS pipewright.{index.name}")


def make(dsn: str, missing: Sequence[Index]) -> None:
    """Make these, side by side; a primary key takes over its index."""
    side_by_side(dsn, ((index.definition, {}) for index in missing))
    with connection(dsn) as conn:
        for table, name, _, primary in missing:
            if primary:
                conn.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {name}")


def vacuum(dsn: str, *, how: str) -> None:
    """Both tables: `VACUUM` before the indexes are there, `ANALYZE` when they are."""
    side_by_side(dsn, ((f"{how} {table}", {}) for table in reversed(TABLES)))


def note(dsn: str, *, first: int, last: int) -> None:
    """Note these runs and their jobs as changed, as the triggers would have."""
    with connection(dsn) as conn:
        psycopg.ClientCursor(conn).execute(_NOTES, {"first": first, "last": last})
        conn.execute("VACUUM (ANALYZE) pipewright.changes")
