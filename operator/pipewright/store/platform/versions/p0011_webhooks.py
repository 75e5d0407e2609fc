"""Which of a webhook's secrets are sealed with its route, and what is registered at providers for it."""

from pipewright.store import schema

revision = "p0011"
down_revision = "p0010"


def upgrade() -> None:
    """Note the secrets' numbers (a route without any is sealed once more), and make the notes' table."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.routes ADD COLUMN webhook_keys integer[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN pipewright.routes.webhook_keys IS
    'numbers of the webhook secrets that are sealed, the one that counts first';

CREATE TABLE pipewright.webhook_registrations (
    integration_uid uuid NOT NULL
        REFERENCES pipewright.routes (integration_uid) ON DELETE CASCADE,
    project text NOT NULL,
    tried boolean NOT NULL DEFAULT false,
    provider_id text NOT NULL DEFAULT '',
    url text NOT NULL DEFAULT '',
    webhook_key integer NOT NULL DEFAULT 0,
    asked text NOT NULL DEFAULT '',
    next_look timestamptz NOT NULL,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    arrived_until timestamptz,
    next_deliveries timestamptz,
    missed integer NOT NULL DEFAULT 0,
    missed_since timestamptz,
    filled_at timestamptz,
    PRIMARY KEY (integration_uid, project)
);
COMMENT ON TABLE pipewright.webhook_registrations IS
    'webhooks at providers that are ours, or may be: noted before the first request';
COMMENT ON COLUMN pipewright.webhook_registrations.tried IS 'it was seen there, or was to be made';
COMMENT ON COLUMN pipewright.webhook_registrations.webhook_key IS 'number of the secret that it surely has';
COMMENT ON COLUMN pipewright.webhook_registrations.arrived_until IS
    'what the provider sent before then has arrived, or is given up';
COMMENT ON COLUMN pipewright.webhook_registrations.missed IS
    'deliveries that had not arrived at the last look';
COMMENT ON COLUMN pipewright.webhook_registrations.asked IS 'what it was to be when it was looked at last';

GRANT SELECT, INSERT, UPDATE, DELETE ON pipewright.webhook_registrations TO pipewright_runner;
"""
