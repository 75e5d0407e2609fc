"""Suspended tenants: a state of the registry, and the spool in which their deliveries wait."""

from pipewright.store import schema

revision = "p0006"
down_revision = "p0005"


def upgrade() -> None:
    """Let a tenant be suspended, and make the spool."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.registry
    ADD COLUMN resumed_at timestamptz,
    DROP CONSTRAINT registry_state_check,
    ADD CONSTRAINT registry_state_check
        CHECK (state IN ('Active', 'Suspended', 'Restoring', 'Deleting', 'Retained', 'Deleted'));
COMMENT ON COLUMN pipewright.registry.resumed_at IS 'end of the last suspension';
GRANT SELECT (resumed_at) ON pipewright.registry TO pipewright_runner;

CREATE TABLE pipewright.spool (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES pipewright.registry,
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    received_at timestamptz NOT NULL,
    sealed bytea NOT NULL,
    bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(sealed)) STORED,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    error text NOT NULL DEFAULT '',
    UNIQUE (integration, delivery_id)
);
CREATE INDEX spool_tenant ON pipewright.spool (tenant_id, id) INCLUDE (bytes, received_at, due_at);
COMMENT ON TABLE pipewright.spool IS
    'deliveries that were acknowledged and are not yet in their tenant''s database';
COMMENT ON COLUMN pipewright.spool.sealed IS
    'headers and body, compressed and encrypted with the tenant''s data key';

GRANT SELECT, INSERT, DELETE ON pipewright.spool TO pipewright_gateway;
GRANT UPDATE (attempts, due_at, error) ON pipewright.spool TO pipewright_gateway;
GRANT SELECT (tenant_id), DELETE ON pipewright.spool TO pipewright_provisioner;
"""
