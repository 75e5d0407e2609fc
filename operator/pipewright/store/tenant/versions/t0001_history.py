"""History: people under surrogates, runs and jobs, raw events by day, lines of work, predictions."""

from pipewright.store import schema

revision = "t0001"
down_revision = None


def upgrade() -> None:
    """Create the tables that the ingest login writes."""
    schema.run(_TABLES)
    schema.run(_EVENTS)
    schema.run(_GRANTS)


_TABLES = """
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT USAGE ON SCHEMA pipewright TO pipewright_ingest, pipewright_journal;

CREATE TABLE pipewright.actors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    surrogate text NOT NULL UNIQUE DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 16),
    provider text NOT NULL,
    login text NOT NULL,
    UNIQUE (provider, login)
);

CREATE TABLE pipewright.runs (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    attempt integer NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL,
    number bigint NOT NULL DEFAULT 0,
    trigger text NOT NULL DEFAULT '',
    branch text NOT NULL DEFAULT '',
    sha text NOT NULL DEFAULT '',
    actor bigint REFERENCES pipewright.actors ON DELETE SET NULL,
    phase text NOT NULL CHECK (phase IN ('queued', 'started', 'finished')),
    outcome text NOT NULL DEFAULT '',
    queued_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    url text NOT NULL DEFAULT '',
    failed_jobs text[] NOT NULL DEFAULT '{}',
    jobs integer NOT NULL DEFAULT 0,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id, attempt)
);
CREATE INDEX runs_started ON pipewright.runs (started_at);
-- Without the project: three long names together would not fit a B-tree's row.
CREATE INDEX runs_line ON pipewright.runs (pipeline, branch, finished_at);
CREATE INDEX runs_actor ON pipewright.runs (actor);

CREATE TABLE pipewright.jobs (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    run_id text NOT NULL,
    attempt integer NOT NULL,
    project text NOT NULL,
    pipeline text NOT NULL DEFAULT '',
    name text NOT NULL,
    branch text NOT NULL DEFAULT '',
    sha text NOT NULL DEFAULT '',
    phase text NOT NULL CHECK (phase IN ('queued', 'started', 'finished')),
    outcome text NOT NULL DEFAULT '',
    runner text NOT NULL DEFAULT '',
    labels text[] NOT NULL DEFAULT '{}',
    queued_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id)
);
CREATE INDEX jobs_run ON pipewright.jobs (integration, run_id, attempt);

CREATE TABLE pipewright.deliveries (
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    received_at timestamptz NOT NULL,
    event text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('stored', 'ignored')),
    reason text NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    PRIMARY KEY (integration, delivery_id)
);
CREATE INDEX deliveries_received ON pipewright.deliveries (integration, received_at);
COMMENT ON TABLE pipewright.deliveries IS 'what was received once; kept longer than the raw events';
COMMENT ON COLUMN pipewright.deliveries.reason IS 'why it was ignored; never a value from its body';

CREATE TABLE pipewright.lines (
    scope text NOT NULL,
    key text NOT NULL,
    outcomes jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (scope, key)
);
COMMENT ON TABLE pipewright.lines IS 'lines of work: the last outcomes of each, as prediction reads them';

CREATE TABLE pipewright.predictions (
    integration uuid NOT NULL,
    provider_id text NOT NULL,
    attempt integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('run', 'retry')),
    probability double precision NOT NULL CHECK (probability BETWEEN 0 AND 1),
    band text NOT NULL,
    reasons jsonb NOT NULL DEFAULT '[]',
    model_version text NOT NULL,
    scored_at timestamptz NOT NULL,
    PRIMARY KEY (integration, provider_id, attempt, kind)
);
CREATE INDEX predictions_scored ON pipewright.predictions (scored_at);
"""

_EVENTS = """
CREATE TABLE pipewright.events (
    integration uuid NOT NULL,
    delivery_id text NOT NULL,
    received_at timestamptz NOT NULL,
    event_name text NOT NULL,
    body bytea NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (integration, delivery_id, received_at)
) PARTITION BY RANGE (received_at);
COMMENT ON COLUMN pipewright.events.body IS 'compressed, then encrypted with the tenant''s data key';
ALTER TABLE pipewright.events ALTER body SET STORAGE EXTERNAL;

-- Made apart and then attached: ATTACH lets inserts into other days go on, CREATE … PARTITION OF does not.
CREATE FUNCTION pipewright.ensure_events_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text := 'events_' || to_char(day, 'YYYYMMDD');
    least timestamptz := day::timestamp AT TIME ZONE 'UTC';
    below timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('pipewright.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    -- What ATTACH will take: whoever was first has committed after it. Then the catalog is asked by a
    -- statement with a snapshot of its own, because to_regclass may answer from this session's cache.
    LOCK TABLE pipewright.events IN SHARE UPDATE EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM pg_class WHERE relname = part AND relnamespace = 'pipewright'::regnamespace) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE pipewright.%I'
                   ' (LIKE pipewright.events INCLUDING ALL EXCLUDING INDEXES)', part);
    EXECUTE format('ALTER TABLE pipewright.events ATTACH PARTITION pipewright.%I'
                   ' FOR VALUES FROM (%L) TO (%L)', part, least, below);
END
$$;
"""

_GRANTS = """
GRANT SELECT, INSERT, UPDATE ON pipewright.actors, pipewright.runs, pipewright.jobs, pipewright.deliveries,
    pipewright.events, pipewright.lines, pipewright.predictions TO pipewright_ingest;
GRANT EXECUTE ON FUNCTION pipewright.ensure_events_partition(date) TO pipewright_ingest;

-- The runner reads history; of people it sees the surrogate only, and raw bodies not at all.
GRANT SELECT ON pipewright.runs, pipewright.jobs, pipewright.deliveries, pipewright.lines,
    pipewright.predictions TO pipewright_journal;
GRANT SELECT (id, surrogate, provider) ON pipewright.actors TO pipewright_journal;
"""
