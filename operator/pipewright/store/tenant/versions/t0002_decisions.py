"""Decisions: for each event and workflow, whether it fired and why; and the outbox of runs to create."""

from pipewright.store import schema

revision = "t0002"
down_revision = "t0001"


def upgrade() -> None:
    """Create decisions and outbox."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.decisions (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    workflow_uid uuid NOT NULL,
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    revision text NOT NULL,
    namespace text NOT NULL,
    workflow text NOT NULL,
    fired boolean NOT NULL,
    reason text NOT NULL,
    event jsonb NOT NULL,
    prediction jsonb,
    run_name text,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (workflow_uid, integration, delivery_id, revision)
);
CREATE UNIQUE INDEX decisions_fired_once ON pipewright.decisions (workflow_uid, integration,
    (event ->> 'type'), (event -> 'run' ->> 'id'), (event -> 'run' ->> 'attempt'),
    coalesce(event -> 'job' ->> 'id', '')) WHERE fired;
COMMENT ON INDEX pipewright.decisions_fired_once IS
    'delivery ids are not signed: the same event under another id must not fire again';
CREATE INDEX decisions_workflow ON pipewright.decisions (workflow_uid, decided_at);
CREATE INDEX decisions_delivery ON pipewright.decisions (delivery_id);
CREATE INDEX decisions_name ON pipewright.decisions (namespace, workflow, id);
COMMENT ON COLUMN pipewright.decisions.event IS 'as the condition saw it: people as surrogates';

CREATE TABLE pipewright.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_uid uuid NOT NULL,
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    revision text NOT NULL,
    namespace text NOT NULL,
    run_name text NOT NULL,
    manifest jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    dispatched_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    UNIQUE (workflow_uid, integration, delivery_id, revision)
);
CREATE INDEX outbox_waiting ON pipewright.outbox (due_at) WHERE dispatched_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON pipewright.decisions, pipewright.outbox TO pipewright_ingest;
GRANT SELECT ON pipewright.decisions, pipewright.outbox TO pipewright_journal;
"""
