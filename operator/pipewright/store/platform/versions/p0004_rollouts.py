"""Roll-outs of a schema's revision to the tenants of a server: one tenant goes first, a failure stops all."""

from pipewright.store import schema

revision = "p0004"
down_revision = "p0003"


def upgrade() -> None:
    """Create the table of roll-outs."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.rollouts (
    server text NOT NULL,
    revision text NOT NULL,
    state text NOT NULL CHECK (state IN ('Canary', 'Rolling', 'Failed')),
    holder text NOT NULL REFERENCES pipewright.registry,
    reason text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (server, revision)
);
COMMENT ON COLUMN pipewright.rollouts.holder IS 'the tenant that goes first, or that failed';

GRANT SELECT, INSERT, UPDATE ON pipewright.rollouts TO pipewright_provisioner;
"""
