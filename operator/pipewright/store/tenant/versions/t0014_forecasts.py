"""How long models said that attempts would take, and why they failed: once for each, as it was said first."""

from pipewright.store import schema

revision = "t0014"
down_revision = "t0013"


def upgrade() -> None:
    """Create the tables, and the views that the tenant reads them by."""
    schema.run(_DURATIONS)
    schema.run(_CAUSES)


_DURATIONS = """
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

_CAUSES = """
CREATE TABLE pipewright.failure_causes (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    attempt integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('infra', 'flaky', 'code', 'config', 'unsure')),
    category text NOT NULL DEFAULT '',
    owner text NOT NULL DEFAULT '',
    recipe text NOT NULL DEFAULT '',
    transient double precision NOT NULL CHECK (transient BETWEEN 0 AND 1),
    reasons jsonb NOT NULL DEFAULT '[]',
    model_version text NOT NULL,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id, attempt)
);
CREATE INDEX failure_causes_made ON pipewright.failure_causes (made_at);
COMMENT ON COLUMN pipewright.failure_causes.transient IS 'the probability that another attempt passes';

GRANT SELECT, INSERT ON pipewright.failure_causes TO pipewright_ingest;
GRANT SELECT ON pipewright.failure_causes TO pipewright_journal;

CREATE VIEW history.failure_causes AS
SELECT integration, provider_id, attempt, kind, category, owner, recipe, transient, reasons, model_version,
    made_at
FROM pipewright.failure_causes;
GRANT SELECT ON history.failure_causes TO pipewright_reader;
"""
