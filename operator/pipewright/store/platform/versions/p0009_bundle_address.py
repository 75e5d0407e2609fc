"""Which address the gateway's sealed bundle holds, so that a server that moves is sealed anew."""

from pipewright.store import schema

revision = "p0009"
down_revision = "p0008"


def upgrade() -> None:
    """Note the address beside version and key; a bundle without one is sealed once more."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.registry ADD COLUMN bundle_address text;
COMMENT ON COLUMN pipewright.registry.bundle_address IS
    'host:port/database that the bundle leads to';
"""
