"""What other tenants lent to a training: digests and addresses, nothing that says whose they are."""

from pipewright.store import schema

revision = "t0015"
down_revision = "t0014"


def upgrade() -> None:
    """Note it with the attempt; those that are there learned from their own tenant's runs alone."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.trainings ADD COLUMN pool jsonb;
COMMENT ON COLUMN pipewright.trainings.pool IS
    'windows that other members of its pool lent to it, members as keys that name them to this model alone';
"""
