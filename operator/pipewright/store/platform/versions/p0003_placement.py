"""How many tenants a server has is counted whenever one is placed."""

from pipewright.store import schema

revision = "p0003"
down_revision = "p0002"


def upgrade() -> None:
    """Index what is counted."""
    schema.run(_SQL)


_SQL = """
CREATE INDEX registry_server ON pipewright.registry (server) WHERE state <> 'Deleted';
"""
