"""Whether an Integration takes deliveries that nobody signed; no route that is there does."""

from pipewright.store import schema

revision = "p0010"
down_revision = "p0009"


def upgrade() -> None:
    """Note it with the route: the gateway asks nobody else."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.routes ADD COLUMN allow_unsigned boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN pipewright.routes.allow_unsigned IS
    'deliveries that nobody signed are taken, where the connector has no signatures';
"""
