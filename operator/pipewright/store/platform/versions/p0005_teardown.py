"""What a teardown leaves for later: the final dump, and what a retained tenant needs to be restored."""

from pipewright.store import schema

revision = "p0005"
down_revision = "p0004"


def upgrade() -> None:
    """Let a tenant be bound to a new owner, and note where its last dump lies."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.registry
    ADD COLUMN previous_uids text[] NOT NULL DEFAULT '{}',
    ADD COLUMN retained_namespaces jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN dump jsonb,
    DROP CONSTRAINT registry_state_check,
    ADD CONSTRAINT registry_state_check
        CHECK (state IN ('Active', 'Restoring', 'Deleting', 'Retained', 'Deleted'));
COMMENT ON COLUMN pipewright.registry.previous_uids IS
    'Tenants whose marks may still be on what is being restored';
COMMENT ON COLUMN pipewright.registry.retained_namespaces IS
    'name to UID of the namespaces that a retained tenant had';
COMMENT ON COLUMN pipewright.registry.dump IS
    'path in the artifact store, sha256, bytes and time of the last dump';
"""
