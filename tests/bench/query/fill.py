"""Runs and jobs of one tenant, made by the server itself: projects, pipelines and branches of unequal size.

The triggers are off meanwhile and the notes that they would have made are written afterwards: what a note
costs its writer is a figure of its own.
"""

from __future__ import annotations

import psycopg

INTEGRATION = "00000000-0000-0000-0000-0000000000b1"
DAYS = 400
PROJECTS, PIPELINES, BRANCHES, PEOPLE = 50, 4, 6, 300
JOBS = 2
"""Jobs of a run."""

_PEOPLE = f"""
INSERT INTO pipewright.actors (provider, login)
SELECT 'github', 'person-' || n FROM generate_series(1, {PEOPLE}) AS n ON CONFLICT DO NOTHING
"""

# A tenth fails, a hundredth breaks; each eleventh run is another attempt at the commit of the one before it.
# hashint4 is chance that is the same each time. The square makes the first projects large.
_RUNS = f"""
INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, number, trigger, branch,
    sha, actor, phase, outcome, queued_at, started_at, finished_at, failed_jobs, jobs, seen_at)
SELECT '{INTEGRATION}', lpad(n::text, 9, '0'), 1 + again,
    'acme/project-' || ({PROJECTS} * power(mod(abs(hashint4(origin + 1)), 1000) / 1000.0, 2))::integer,
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
        mod(abs(hashint4(n + 2)), 100) AS chance, %(until)s::timestamptz
        - interval '1 day' * {DAYS} * ((n - %(first)s) / (%(last)s - %(first)s + 1)::float8) AS at
    FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
) AS made
"""

_JOBS = f"""
INSERT INTO pipewright.jobs (integration, provider_id, run_id, attempt, project, name, branch, sha, phase,
    outcome, runner, labels, queued_at, started_at, finished_at, seen_at)
SELECT r.integration, r.provider_id || '-' || k, r.provider_id, r.attempt, r.project, 'job-' || k, r.branch,
    r.sha, 'finished', CASE WHEN k = 1 + mod(r.number, {JOBS}) THEN r.outcome ELSE 'success' END,
    'runner-' || r.number,
    CASE mod(r.number, 5) WHEN 0 THEN '{{self-hosted,linux,x64}}' ELSE '{{ubuntu-latest}}' END::text[],
    r.queued_at, r.started_at, r.finished_at - interval '1 second' * k, r.seen_at
FROM pipewright.runs r CROSS JOIN generate_series(1, {JOBS}) AS k
WHERE r.integration = '{INTEGRATION}' AND r.number BETWEEN %(first)s AND %(last)s
"""

_NOTES = """
INSERT INTO pipewright.changes (day, integration, run_id, project, pipeline, branch, sha, finished_at, job)
SELECT (finished_at AT TIME ZONE 'UTC')::date, integration, provider_id, project, pipeline, branch, sha,
    finished_at, false
FROM pipewright.runs WHERE number BETWEEN %(first)s AND %(last)s;
INSERT INTO pipewright.changes (day, integration, run_id, finished_at, job)
SELECT (j.finished_at AT TIME ZONE 'UTC')::date, j.integration, j.run_id, j.finished_at, true
FROM pipewright.jobs j JOIN pipewright.runs r ON r.integration = j.integration AND r.provider_id = j.run_id
    AND r.attempt = j.attempt
WHERE r.number BETWEEN %(first)s AND %(last)s;
"""

_PRICES = f"""
INSERT INTO pipewright.runner_prices (integration, runner, valid_from, currency, per_minute)
VALUES ('{INTEGRATION}', 'ubuntu-latest', '2000-01-01', 'USD', 0.008),
    ('{INTEGRATION}', 'linux, self-hosted, x64', '2000-01-01', 'USD', 0.002) ON CONFLICT DO NOTHING
"""

_SECONDARY = """
SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid IN ('pipewright.runs'::regclass, 'pipewright.jobs'::regclass) AND NOT i.indisprimary
"""


def fill(owner: psycopg.Connection, *, first: int, last: int, until: str) -> None:
    """Make the runs `first` to `last`, spread over the days before `until`, and note them as changed.

    `owner` acts as the owner of the tables, without limits of time.
    """
    values = {"first": first, "last": last, "until": until}
    tables = ("pipewright.runs", "pipewright.jobs")
    secondary = owner.execute(_SECONDARY).fetchall()
    for table in tables:
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for name, _ in secondary:
        owner.execute(f"DROP INDEX pipewright.{name}")
    owner.execute(_PEOPLE)
    owner.execute(_RUNS, values)
    owner.execute("ANALYZE pipewright.runs")
    owner.execute(_JOBS, values)
    for _, definition in secondary:
        owner.execute(definition)
    for table in tables:
        owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        owner.execute(f"VACUUM (ANALYZE) {table}")
    psycopg.ClientCursor(owner).execute(_NOTES, values)
    owner.execute("ANALYZE pipewright.changes")
    owner.execute(_PRICES)
