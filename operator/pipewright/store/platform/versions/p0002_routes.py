"""What the runner tells the gateway: routes of webhooks, triggers of workflows, active models."""

from pipewright.store import schema

revision = "p0002"
down_revision = "p0001"


def upgrade() -> None:
    """Create routes, triggers and model pointers."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.routes (
    hook_id text PRIMARY KEY CHECK (hook_id ~ '^[A-Za-z0-9_-]{32}$'),
    tenant_id text NOT NULL REFERENCES pipewright.registry,
    namespace text NOT NULL,
    integration text NOT NULL,
    integration_uid uuid NOT NULL UNIQUE,
    connector text NOT NULL,
    projects text[] NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    sealed_secret bytea,
    secret_key text,
    enabled boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON pipewright.routes (tenant_id, namespace);
COMMENT ON COLUMN pipewright.routes.sealed_secret IS 'the webhook secret, sealed to the gateway''s key';
COMMENT ON COLUMN pipewright.routes.secret_key IS 'fingerprint of the key that the secret is sealed to';

CREATE TABLE pipewright.triggers (
    workflow_uid uuid NOT NULL,
    position integer NOT NULL,
    tenant_id text NOT NULL REFERENCES pipewright.registry,
    namespace text NOT NULL,
    workflow text NOT NULL,
    revision text NOT NULL,
    event text NOT NULL,
    integration text,
    condition text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (workflow_uid, position)
);
CREATE INDEX ON pipewright.triggers (tenant_id, namespace);

CREATE TABLE pipewright.model_pointers (
    model_uid uuid PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES pipewright.registry,
    namespace text NOT NULL,
    model text NOT NULL,
    task text NOT NULL,
    is_default boolean NOT NULL DEFAULT false,
    version text NOT NULL,
    artifact_uri text NOT NULL,
    artifact_sha256 text NOT NULL CHECK (artifact_sha256 ~ '^[0-9a-f]{64}$'),
    metrics jsonb NOT NULL DEFAULT '{}',
    promoted_at timestamptz NOT NULL DEFAULT now(),
    generation bigint NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX one_default_model ON pipewright.model_pointers (tenant_id, namespace, task)
    WHERE is_default;

CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON pipewright.routes
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.notify_change();
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON pipewright.triggers
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.notify_change();
CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON pipewright.model_pointers
    FOR EACH STATEMENT EXECUTE FUNCTION pipewright.notify_change();

GRANT SELECT, INSERT, UPDATE, DELETE ON pipewright.routes, pipewright.triggers, pipewright.model_pointers
    TO pipewright_runner;
GRANT SELECT ON pipewright.routes, pipewright.triggers, pipewright.model_pointers TO pipewright_gateway;
"""
