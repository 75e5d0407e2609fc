"""Rollups of history: their tables, and the notes by which every change of a run or job reaches them.

A statement that changes runs or jobs notes which, in the same transaction: an append that no other writer
waits for. `refresh_rollups` (t0009) takes the notes and recomputes what they touch from the runs and jobs
themselves, so that what comes late, is corrected or deleted is right afterwards, whoever wrote it.
"""

from pipewright.store import schema

revision = "t0006"
down_revision = "t0005"

LINE = "hashtextextended(project || ' ' || pipeline || ' ' || branch, 0)"
"""What the indexes on a line of work hold: three long names together would not fit a B-tree's row."""


def upgrade() -> None:
    """Create tables, indexes and triggers, and note all that is there."""
    schema.run(_CHANGES)
    schema.run(_INDEXES)
    schema.run(_RUN_TRIGGERS)
    schema.run(_JOB_TRIGGERS)
    schema.run(_ROLLUPS)
    schema.run(_SPELLS)
    schema.run(_BEGIN)


_CHANGES = """
CREATE TABLE pipewright.changes (
    noted_at timestamptz NOT NULL DEFAULT now(),
    day date NOT NULL,
    integration uuid NOT NULL,
    run_id text NOT NULL,
    project text NOT NULL DEFAULT '',
    pipeline text NOT NULL DEFAULT '',
    branch text NOT NULL DEFAULT '',
    sha text NOT NULL DEFAULT '',
    finished_at timestamptz,
    job boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX changes_day ON pipewright.changes (day);
COMMENT ON TABLE pipewright.changes IS 'runs and jobs that changed since the rollups were made current';
COMMENT ON COLUMN pipewright.changes.day IS 'UTC, of the finish; of the change where nothing has finished';
GRANT SELECT ON pipewright.changes TO pipewright_ingest;
"""

_INDEXES = f"""
DROP INDEX pipewright.runs_line;
CREATE INDEX runs_line ON pipewright.runs ({LINE}, finished_at)
    WHERE phase = 'finished' AND outcome IN ('success', 'failure', 'error');
CREATE INDEX runs_finished ON pipewright.runs (finished_at) WHERE phase = 'finished';
CREATE INDEX runs_sha ON pipewright.runs USING hash (sha) WHERE sha <> '';
CREATE INDEX jobs_finished ON pipewright.jobs (finished_at) WHERE phase = 'finished';
CREATE INDEX runs_open ON pipewright.runs (seen_at) WHERE phase <> 'finished';
CREATE INDEX jobs_open ON pipewright.jobs (seen_at) WHERE phase <> 'finished';
"""

_RUN_TRIGGERS = """
CREATE FUNCTION pipewright.note_runs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO pipewright.changes
        (day, integration, run_id, project, pipeline, branch, sha, finished_at, job)
    SELECT (coalesce(finished_at, now()) AT TIME ZONE 'UTC')::date, integration, provider_id, project,
        pipeline, branch, sha, finished_at, false
    FROM told;
    RETURN NULL;
END
$$;

CREATE FUNCTION pipewright.note_changed_runs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The row of before, too: what it was counted in has to be counted again without it.
    INSERT INTO pipewright.changes
        (day, integration, run_id, project, pipeline, branch, sha, finished_at, job)
    SELECT DISTINCT (coalesce(v.finished_at, now()) AT TIME ZONE 'UTC')::date, o.integration, o.provider_id,
        v.project, v.pipeline, v.branch, v.sha, v.finished_at, false
    FROM before o JOIN told n USING (integration, provider_id, attempt)
    CROSS JOIN LATERAL (VALUES
        (n.project, n.pipeline, n.branch, n.sha, n.finished_at, true),
        (o.project, o.pipeline, o.branch, o.sha, o.finished_at, o.finished_at IS NOT NULL OR o.sha <> n.sha)
    ) AS v (project, pipeline, branch, sha, finished_at, counts)
    WHERE v.counts AND (o.project, o.pipeline, o.branch, o.sha, o.actor, o.phase, o.outcome, o.queued_at,
            o.started_at, o.finished_at)
        IS DISTINCT FROM (n.project, n.pipeline, n.branch, n.sha, n.actor, n.phase, n.outcome, n.queued_at,
            n.started_at, n.finished_at);
    RETURN NULL;
END
$$;

CREATE TRIGGER note_new AFTER INSERT ON pipewright.runs
    REFERENCING NEW TABLE AS told FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_runs();
CREATE TRIGGER note_gone AFTER DELETE ON pipewright.runs
    REFERENCING OLD TABLE AS told FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_runs();
CREATE TRIGGER note_changed AFTER UPDATE ON pipewright.runs
    REFERENCING OLD TABLE AS before NEW TABLE AS told
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_changed_runs();
"""

_JOB_TRIGGERS = """
CREATE FUNCTION pipewright.note_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO pipewright.changes (day, integration, run_id, finished_at, job)
    SELECT (finished_at AT TIME ZONE 'UTC')::date, integration, run_id, finished_at, true
    FROM told WHERE phase = 'finished' AND finished_at IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE FUNCTION pipewright.note_changed_jobs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO pipewright.changes (day, integration, run_id, finished_at, job)
    SELECT DISTINCT (v.finished_at AT TIME ZONE 'UTC')::date, o.integration, v.run_id, v.finished_at, true
    FROM before o JOIN told n USING (integration, provider_id)
    CROSS JOIN LATERAL (VALUES (n.run_id, n.finished_at, n.phase), (o.run_id, o.finished_at, o.phase))
        AS v (run_id, finished_at, phase)
    WHERE v.phase = 'finished' AND v.finished_at IS NOT NULL
        AND (o.run_id, o.attempt, o.project, o.pipeline, o.name, o.phase, o.outcome, o.labels, o.queued_at,
            o.started_at, o.finished_at)
        IS DISTINCT FROM (n.run_id, n.attempt, n.project, n.pipeline, n.name, n.phase, n.outcome, n.labels,
            n.queued_at, n.started_at, n.finished_at);
    RETURN NULL;
END
$$;

CREATE TRIGGER note_new AFTER INSERT ON pipewright.jobs
    REFERENCING NEW TABLE AS told FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_jobs();
CREATE TRIGGER note_gone AFTER DELETE ON pipewright.jobs
    REFERENCING OLD TABLE AS told FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_jobs();
CREATE TRIGGER note_changed AFTER UPDATE ON pipewright.jobs
    REFERENCING OLD TABLE AS before NEW TABLE AS told
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.note_changed_jobs();
"""

_OUTCOMES = """
    finished integer NOT NULL,
    succeeded integer NOT NULL,
    failed integer NOT NULL,
    broken integer NOT NULL,
    cancelled integer NOT NULL,
    skipped integer NOT NULL,
    ran integer NOT NULL,
    ran_ms bigint NOT NULL,
    longest_ms bigint NOT NULL,
    queued integer NOT NULL,
    queued_ms bigint NOT NULL
"""
"""Counts by outcome; then how many told how long they ran, or waited, and how long that was together."""

_KEPT = "WITH (autovacuum_vacuum_scale_factor = 0.02)"
"""Rows of the present hour and day are replaced all the time, those of before hardly ever."""

_ROLLUPS = f"""
CREATE TABLE pipewright.hourly_runs (
    hour timestamptz NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    reruns integer NOT NULL,
    {_OUTCOMES}
) {_KEPT};
CREATE INDEX hourly_runs_hour ON pipewright.hourly_runs (hour);

CREATE TABLE pipewright.daily_runs (
    day date NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    reruns integer NOT NULL,
    {_OUTCOMES}
) {_KEPT};
CREATE INDEX daily_runs_day ON pipewright.daily_runs (day);

CREATE TABLE pipewright.hourly_jobs (
    hour timestamptz NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    name text NOT NULL,
    runner text NOT NULL,
    {_OUTCOMES}
) {_KEPT};
CREATE INDEX hourly_jobs_hour ON pipewright.hourly_jobs (hour);
COMMENT ON COLUMN pipewright.hourly_jobs.runner IS 'the labels that were asked for, sorted: what has a price';

CREATE TABLE pipewright.daily_jobs (
    day date NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    name text NOT NULL,
    {_OUTCOMES}
) {_KEPT};
CREATE INDEX daily_jobs_day ON pipewright.daily_jobs (day);

CREATE TABLE pipewright.daily_runners (
    day date NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    runner text NOT NULL,
    finished integer NOT NULL,
    ran_ms bigint NOT NULL
) {_KEPT};
CREATE INDEX daily_runners_day ON pipewright.daily_runners (day);

CREATE TABLE pipewright.daily_projects (
    day date NOT NULL,
    integration uuid NOT NULL,
    project text NOT NULL,
    people integer NOT NULL,
    commits integer NOT NULL
) {_KEPT};
CREATE INDEX daily_projects_day ON pipewright.daily_projects (day);
COMMENT ON COLUMN pipewright.daily_projects.people IS 'how many, never who: rollups hold nothing of a person';
"""

_SPELLS = f"""
CREATE TABLE pipewright.red_spells (
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    branch text NOT NULL,
    red_at timestamptz NOT NULL,
    green_at timestamptz,
    failures integer NOT NULL
) {_KEPT};
COMMENT ON TABLE pipewright.red_spells IS 'from a line''s first failure after a success to its next success';
CREATE INDEX red_spells_line ON pipewright.red_spells ({LINE}, red_at);
CREATE INDEX red_spells_green ON pipewright.red_spells (((green_at AT TIME ZONE 'UTC')::date));

CREATE TABLE pipewright.red_commits (
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    sha text NOT NULL,
    red_at timestamptz NOT NULL,
    green_at timestamptz,
    failures integer NOT NULL,
    successes integer NOT NULL
) {_KEPT};
COMMENT ON TABLE pipewright.red_commits IS 'commits on which a pipeline failed, and its next success';
CREATE INDEX red_commits_sha ON pipewright.red_commits (sha);
CREATE INDEX red_commits_green ON pipewright.red_commits (((green_at AT TIME ZONE 'UTC')::date));

CREATE TABLE pipewright.flaky_jobs (
    integration uuid NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    name text NOT NULL,
    sha text NOT NULL,
    failures integer NOT NULL,
    successes integer NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL
) {_KEPT};
COMMENT ON TABLE pipewright.flaky_jobs IS 'jobs that both failed and succeeded on the same commit';
CREATE INDEX flaky_jobs_sha ON pipewright.flaky_jobs (sha);
CREATE INDEX flaky_jobs_last ON pipewright.flaky_jobs (((last_at AT TIME ZONE 'UTC')::date));
"""

_BEGIN = """
INSERT INTO pipewright.changes (day, integration, run_id, project, pipeline, branch, sha, finished_at, job)
SELECT (finished_at AT TIME ZONE 'UTC')::date, integration, provider_id, project, pipeline, branch, sha,
    finished_at, false
FROM pipewright.runs WHERE phase = 'finished' AND finished_at IS NOT NULL;

INSERT INTO pipewright.changes (day, integration, run_id, finished_at, job)
SELECT (finished_at AT TIME ZONE 'UTC')::date, integration, run_id, finished_at, true
FROM pipewright.jobs WHERE phase = 'finished' AND finished_at IS NOT NULL;
"""
