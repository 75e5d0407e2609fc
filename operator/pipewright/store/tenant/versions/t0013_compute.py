"""Where the job of a training runs: the Model may say another place while it does."""

from pipewright.store import schema

revision = "t0013"
down_revision = "t0012"


def upgrade() -> None:
    """Note it with the attempt; those that are there ran on the first cluster of the settings."""
    schema.run(_SQL)


_SQL = """
ALTER TABLE pipewright.trainings ADD COLUMN compute text NOT NULL DEFAULT '';
COMMENT ON COLUMN pipewright.trainings.compute IS
    'name of a Ray cluster in the settings, or kubeRay; empty: the first cluster';
"""
