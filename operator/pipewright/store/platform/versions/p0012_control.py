"""How many runs a model leaves alone; those that are there leave none until their Model says so."""

from pipewright.store import schema

revision = "p0012"
down_revision = "p0011"


def upgrade() -> None:
    """Note it with the pointer: the gateway asks nobody else."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.model_pointers ADD COLUMN control_share double precision NOT NULL DEFAULT 0
    CHECK (control_share BETWEEN 0 AND 0.5);
COMMENT ON COLUMN pipewright.model_pointers.control_share IS
    'the share of runs on which nothing is done by their prediction';
"""
