"""Steps and tests by day, commits and deployments: what is told beside runs and jobs.

Steps and tests are many and finished when they are told: a partition holds those of a day (UTC), is made when
it is needed or the evening before, and is dropped whole by retention (ADR 21).
"""

from pipewright.store import schema

revision = "t0012"
down_revision = "t0011"

CASE = "hashtextextended({0}sha || ' ' || {0}name, 0)"
"""What the index on a test on a commit holds: long names would not fit a B-tree's row."""
RED = "outcome IN ('failure', 'error') AND sha <> '' AND name <> ''"


def upgrade() -> None:
    """Create tables, partitions' functions and the readers' views."""
    schema.run(_LEAVES)
    schema.run(_PARTITIONS)
    schema.run(_OTHERS)
    schema.run(_VIEWS)
    schema.run(_FLAKY)


_LEAVES = f"""
CREATE TABLE pipewright.steps (
    day date NOT NULL,
    integration uuid NOT NULL,
    job_id text NOT NULL,
    number integer NOT NULL,
    run_id text NOT NULL,
    attempt integer NOT NULL,
    project text NOT NULL,
    name text NOT NULL,
    outcome text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, job_id, number, day)
) PARTITION BY RANGE (day);
CREATE INDEX steps_run ON pipewright.steps (run_id);
CREATE INDEX steps_finished ON pipewright.steps (finished_at);
COMMENT ON COLUMN pipewright.steps.day IS
    'UTC, of the finish as it was told first: a later telling of another day changes the row, not its place';

CREATE TABLE pipewright.tests (
    day date NOT NULL,
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL DEFAULT '',
    run_id text NOT NULL DEFAULT '',
    attempt integer NOT NULL DEFAULT 1,
    job_id text NOT NULL DEFAULT '',
    suite text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT '',
    branch text NOT NULL DEFAULT '',
    sha text NOT NULL DEFAULT '',
    outcome text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    url text NOT NULL DEFAULT '',
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX tests_run ON pipewright.tests (run_id) WHERE run_id <> '';
CREATE INDEX tests_finished ON pipewright.tests (finished_at);
CREATE INDEX tests_case ON pipewright.tests ({CASE.format("")}) WHERE sha <> '';
CREATE INDEX tests_red ON pipewright.tests (day) WHERE {RED};
COMMENT ON COLUMN pipewright.tests.day IS 'as of steps';
COMMENT ON COLUMN pipewright.tests.name IS 'empty: the whole suite';

GRANT SELECT, INSERT, UPDATE ON pipewright.steps, pipewright.tests TO pipewright_ingest;
GRANT SELECT ON pipewright.steps, pipewright.tests TO pipewright_journal;
"""

# Made apart and then attached, and asked twice, as `ensure_events_partition` (t0001) says.
_PARTITIONS = """
CREATE FUNCTION pipewright.ensure_partitions(parent text, days date[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted date;
    part text;
BEGIN
    IF parent NOT IN ('steps', 'tests') THEN
        RAISE EXCEPTION 'no table % has partitions by day here', parent;
    END IF;
    FOREACH wanted IN ARRAY days LOOP
        part := parent || '_' || to_char(wanted, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('pipewright.' || part) IS NOT NULL;
        EXECUTE format('LOCK TABLE pipewright.%I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        CONTINUE WHEN EXISTS (SELECT FROM pg_class
            WHERE relname = part AND relnamespace = 'pipewright'::regnamespace);
        EXECUTE format('CREATE TABLE pipewright.%I'
                       ' (LIKE pipewright.%I INCLUDING ALL EXCLUDING INDEXES)', part, parent);
        EXECUTE format('ALTER TABLE pipewright.%I ATTACH PARTITION pipewright.%I'
                       ' FOR VALUES FROM (%L) TO (%L)', parent, part, wanted, wanted + 1);
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION pipewright.ensure_partitions(text, date[]) TO pipewright_ingest;

-- Only of tables that are written to today: a tenant at rest has no partitions that nobody fills.
CREATE FUNCTION pipewright.partitions_ahead(today date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
BEGIN
    IF to_regclass('pipewright.events_' || to_char(today, 'YYYYMMDD')) IS NOT NULL THEN
        PERFORM pipewright.ensure_events_partition(today + 1);
    END IF;
    FOREACH parent IN ARRAY ARRAY['steps', 'tests'] LOOP
        IF to_regclass('pipewright.' || parent || '_' || to_char(today, 'YYYYMMDD')) IS NOT NULL THEN
            PERFORM pipewright.ensure_partitions(parent, ARRAY[today + 1]);
        END IF;
    END LOOP;
END
$$;
GRANT EXECUTE ON FUNCTION pipewright.partitions_ahead(date) TO pipewright_ingest;
"""

_OTHERS = """
CREATE TABLE pipewright.commits (
    integration uuid NOT NULL,
    project text NOT NULL,
    sha text NOT NULL,
    branch text NOT NULL DEFAULT '',
    change text NOT NULL DEFAULT '',
    actor bigint REFERENCES pipewright.actors ON DELETE SET NULL,
    parents text[] NOT NULL DEFAULT '{}',
    at timestamptz NOT NULL,
    url text NOT NULL DEFAULT '',
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, sha, project, branch)
);
CREATE INDEX commits_at ON pipewright.commits (at);
CREATE INDEX commits_actor ON pipewright.commits (actor);
COMMENT ON TABLE pipewright.commits IS 'a row for each branch that a commit was told to be on';

CREATE TABLE pipewright.deployments (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    operation text NOT NULL,
    project text NOT NULL,
    environment text NOT NULL,
    service text NOT NULL DEFAULT '',
    pipeline text NOT NULL DEFAULT '',
    run_id text NOT NULL DEFAULT '',
    branch text NOT NULL DEFAULT '',
    sha text NOT NULL DEFAULT '',
    actor bigint REFERENCES pipewright.actors ON DELETE SET NULL,
    phase text NOT NULL CHECK (phase IN ('queued', 'started', 'finished')),
    outcome text NOT NULL DEFAULT '',
    queued_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    url text NOT NULL DEFAULT '',
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id)
);
CREATE INDEX deployments_finished ON pipewright.deployments (finished_at) WHERE phase = 'finished';
CREATE INDEX deployments_open ON pipewright.deployments (seen_at) WHERE phase <> 'finished';
CREATE INDEX deployments_actor ON pipewright.deployments (actor);

GRANT SELECT, INSERT, UPDATE ON pipewright.commits, pipewright.deployments TO pipewright_ingest;
GRANT SELECT ON pipewright.commits, pipewright.deployments TO pipewright_journal;
"""

_VIEWS = """
CREATE VIEW history.steps AS
SELECT day, integration, run_id, attempt, job_id, number, project, name, outcome, started_at, finished_at
FROM pipewright.steps;

CREATE VIEW history.tests AS
SELECT day, integration, provider_id, project, pipeline, run_id, attempt, job_id, suite, name, branch, sha,
    outcome, started_at, finished_at, url
FROM pipewright.tests;

CREATE VIEW history.commits AS
SELECT c.integration, c.project, c.sha, c.branch, c.change, coalesce(a.surrogate, '') AS actor, c.parents,
    c.at, c.url
FROM pipewright.commits c LEFT JOIN pipewright.actors a ON a.id = c.actor;

CREATE VIEW history.deployments AS
SELECT d.integration, d.provider_id, d.operation, d.project, d.environment, d.service, d.pipeline, d.run_id,
    d.branch, d.sha, coalesce(a.surrogate, '') AS actor, d.phase, d.outcome, d.queued_at, d.started_at,
    d.finished_at, d.url
FROM pipewright.deployments d LEFT JOIN pipewright.actors a ON a.id = d.actor;
"""

_KEY = ("integration", "project", "pipeline", "suite", "name", "sha")
_FLAKY = f"""
CREATE VIEW history.flaky_test_commits AS
SELECT r.day, {", ".join(f"r.{name}" for name in _KEY)}, r.failures, g.successes,
    least(r.first_at, g.first_at) AS first_at, greatest(r.last_at, g.last_at) AS last_at
FROM (
    SELECT day, {", ".join(_KEY)}, count(*) AS failures, min(finished_at) AS first_at,
        max(finished_at) AS last_at
    FROM pipewright.tests WHERE {RED} GROUP BY day, {", ".join(_KEY)}
) AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS successes, min(t.finished_at) AS first_at, max(t.finished_at) AS last_at
    FROM pipewright.tests t WHERE t.day >= r.day - 7 AND t.day <= r.day + 7 AND t.outcome = 'success'
        AND t.sha <> '' AND {CASE.format("t.")} = {CASE.format("r.")}
        AND {" AND ".join(f"t.{name} = r.{name}" for name in _KEY)}
) AS g
WHERE g.successes > 0;

CREATE VIEW history.flaky_tests AS
SELECT day, integration, project, pipeline, suite, name, count(*) AS commits, sum(failures) AS failures,
    sum(successes) AS successes, max(last_at) AS last_at
FROM history.flaky_test_commits GROUP BY day, integration, project, pipeline, suite, name;

GRANT SELECT ON history.steps, history.tests, history.commits, history.deployments,
    history.flaky_test_commits, history.flaky_tests TO pipewright_reader;
GRANT SELECT ON history.flaky_tests TO pipewright_ingest;
"""  # noqa: S608 - names are ours
