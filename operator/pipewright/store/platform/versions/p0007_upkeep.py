"""What the provisioner remembers of its periodic work for each tenant: the last proof of isolation."""

from pipewright.store import schema

revision = "p0007"
down_revision = "p0006"


def upgrade() -> None:
    """Create the table of upkeep, which notifies nobody."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.upkeep (
    tenant_id text PRIMARY KEY REFERENCES pipewright.registry,
    proof jsonb
);
COMMENT ON COLUMN pipewright.upkeep.proof IS
    'the last proof of isolation: time, whose doors were tried, which opened, of which nothing is known';

GRANT SELECT, INSERT, UPDATE ON pipewright.upkeep TO pipewright_provisioner;
"""
