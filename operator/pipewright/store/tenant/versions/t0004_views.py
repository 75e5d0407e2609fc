"""What a tenant may read of its own: views in schema `history`, people as surrogates only."""

from pipewright.store import schema

revision = "t0004"
down_revision = "t0003"


def upgrade() -> None:
    """Create the views and open them to the readers' group."""
    schema.run(_SQL)


_SQL = """
CREATE VIEW history.runs AS
SELECT r.integration, r.provider_id, r.attempt, r.project, r.pipeline, r.number, r.trigger, r.branch, r.sha,
    coalesce(a.surrogate, '') AS actor, r.phase, r.outcome, r.queued_at, r.started_at, r.finished_at, r.url,
    r.failed_jobs, r.jobs
FROM pipewright.runs r LEFT JOIN pipewright.actors a ON a.id = r.actor;

CREATE VIEW history.jobs AS
SELECT integration, provider_id, run_id, attempt, project, name, branch, sha, phase, outcome, runner, labels,
    queued_at, started_at, finished_at
FROM pipewright.jobs;

CREATE VIEW history.predictions AS
SELECT integration, provider_id, attempt, kind, probability, band, reasons, model_version, scored_at
FROM pipewright.predictions;

CREATE VIEW history.decisions AS
SELECT workflow_uid, namespace, workflow, revision, integration, delivery_id, fired, reason, event,
    prediction, run_name, decided_at
FROM pipewright.decisions;

CREATE VIEW history.workflow_runs AS
SELECT run_uid, namespace, name, workflow_uid, started_at, finished_at, phase, reason
FROM pipewright.workflow_runs;

CREATE VIEW history.run_steps AS
SELECT run_uid, step, attempt, phase, started_at, finished_at, message, outputs
FROM pipewright.run_steps;

GRANT USAGE ON SCHEMA history TO pipewright_reader;
GRANT SELECT ON history.runs, history.jobs, history.predictions, history.decisions, history.workflow_runs,
    history.run_steps TO pipewright_reader;
"""
