"""The journal: runs of workflows step by step, and trainings attempt by attempt. Only the runner writes."""

from pipewright.store import schema

revision = "t0003"
down_revision = "t0002"


def upgrade() -> None:
    """Create the journal's tables."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.workflow_runs (
    run_uid uuid PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    workflow_uid uuid,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    phase text NOT NULL,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX workflow_runs_workflow ON pipewright.workflow_runs (workflow_uid, started_at);

CREATE TABLE pipewright.run_steps (
    run_uid uuid NOT NULL REFERENCES pipewright.workflow_runs,
    step text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    phase text NOT NULL,
    idempotency_key text NOT NULL UNIQUE,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    message text NOT NULL DEFAULT '',
    outputs jsonb NOT NULL DEFAULT '{}',
    not_before timestamptz,
    PRIMARY KEY (run_uid, step, attempt)
);

CREATE TABLE pipewright.trainings (
    submission_id text PRIMARY KEY,
    model_uid uuid NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    phase text NOT NULL,
    window_sha256 text NOT NULL,
    window_uri text NOT NULL,
    rows bigint NOT NULL,
    artifact_uri text NOT NULL,
    report_uri text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    outcome text,
    reason text NOT NULL DEFAULT '',
    report jsonb,
    UNIQUE (model_uid, attempt)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON pipewright.workflow_runs, pipewright.run_steps, pipewright.trainings
    TO pipewright_journal;
GRANT SELECT ON pipewright.workflow_runs, pipewright.run_steps, pipewright.trainings TO pipewright_ingest;
"""
