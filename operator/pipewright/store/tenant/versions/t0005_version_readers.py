"""The provisioner may read which revision a database has, and nothing else in there."""

from pipewright.store import schema

revision = "t0005"
down_revision = "t0004"


def upgrade() -> None:
    """Let it read the version: it is inside to hand over what it cloned, and need not come back to look."""
    schema.run(_SQL)


_SQL = """
GRANT USAGE ON SCHEMA pipewright TO pipewright_provisioner;
GRANT SELECT ON pipewright.schema_version TO pipewright_provisioner;
"""
