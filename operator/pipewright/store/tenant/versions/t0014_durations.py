"""How long a model said that attempts would take: once for each, as it was said first."""

from pipewright.store import schema

revision = "t0014"
down_revision = "t0013"


def upgrade() -> None:
    """Create the table, and the view that the tenant reads it by."""
    schema.run(_SQL)


_SQL = """
CREATE TABLE pipewright.duration_forecasts (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    attempt integer NOT NULL,
    p50 double precision NOT NULL CHECK (p50 > 0),
    p90 double precision NOT NULL CHECK (p90 >= p50),
    p95 double precision NOT NULL CHECK (p95 >= p90),
    reasons jsonb NOT NULL DEFAULT '[]',
    model_version text NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id, attempt)
);
CREATE INDEX duration_forecasts_made ON pipewright.duration_forecasts (made_at);
COMMENT ON COLUMN pipewright.duration_forecasts.p50 IS 'seconds from the start, that half of such runs take';

GRANT SELECT, INSERT ON pipewright.duration_forecasts TO pipewright_ingest;
GRANT SELECT ON pipewright.duration_forecasts TO pipewright_journal;

CREATE VIEW history.duration_forecasts AS
SELECT integration, provider_id, attempt, p50, p90, p95, reasons, model_version, made_at
FROM pipewright.duration_forecasts;
GRANT SELECT ON history.duration_forecasts TO pipewright_reader;
"""
