"""Reports: views of the rollups for tenants and for the REST API, and what a runner costs a minute.

Times are UTC. Who reads one names a range of `day` or `hour`: it is what the indexes are by.
"""

from pipewright.store import schema

revision = "t0010"
down_revision = "t0009"


def upgrade() -> None:
    """Create the prices and the views, and open the views to the readers' group and the gateway."""
    schema.run(_PRICES)
    schema.run(_TRENDS)
    schema.run(_REPAIRS)
    schema.run(_COST)
    schema.run(_GRANTS)


_PRICES = """
CREATE TABLE pipewright.runner_prices (
    integration uuid NOT NULL,
    runner text NOT NULL CHECK (length(runner) <= 400),
    valid_from date NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    per_minute numeric(12, 6) NOT NULL CHECK (per_minute >= 0),
    PRIMARY KEY (integration, runner, valid_from)
);
COMMENT ON TABLE pipewright.runner_prices IS 'set by the tenant over REST; the newest that is valid counts';
GRANT SELECT, INSERT, UPDATE ON pipewright.runner_prices TO pipewright_ingest;
"""

_FIGURES = """
    finished, succeeded, failed, broken, cancelled, skipped,
    (failed + broken)::double precision / nullif(succeeded + failed + broken, 0) AS failure_rate,
    ran, ran_ms::double precision / 1000 AS seconds,
    ran_ms::double precision / 1000 / nullif(ran, 0) AS mean_seconds,
    longest_ms::double precision / 1000 AS longest_seconds,
    queued, queued_ms::double precision / 1000 AS queue_seconds,
    queued_ms::double precision / 1000 / nullif(queued, 0) AS mean_queue_seconds
"""
"""Of one row. Who adds rows up takes the sums: the mean of several is sum(seconds) / sum(ran)."""

_TRENDS = f"""
CREATE VIEW history.hourly_runs AS
SELECT hour, integration, project, pipeline, reruns, {_FIGURES} FROM pipewright.hourly_runs;

CREATE VIEW history.failure_trend AS
SELECT day, integration, project, pipeline, reruns, {_FIGURES} FROM pipewright.daily_runs;

CREATE VIEW history.failing_jobs AS
SELECT day, integration, project, pipeline, name, {_FIGURES} FROM pipewright.daily_jobs;

CREATE VIEW history.team_productivity AS
SELECT r.day, r.integration, r.project, p.people, p.commits, r.finished, r.succeeded, r.failed, r.reruns,
    r.ran_ms::double precision / 1000 AS seconds, r.queued_ms::double precision / 1000 AS queue_seconds
FROM (
    SELECT day, integration, project, sum(finished) AS finished, sum(succeeded) AS succeeded,
        sum(failed + broken) AS failed, sum(reruns) AS reruns, sum(ran_ms) AS ran_ms,
        sum(queued_ms) AS queued_ms
    FROM pipewright.daily_runs GROUP BY day, integration, project
) AS r
LEFT JOIN pipewright.daily_projects p
    ON p.day = r.day AND p.integration = r.integration AND p.project = r.project;
"""  # noqa: S608 - names are ours

_LASTED = """
    sum(extract(epoch FROM green_at - red_at)::double precision) AS seconds,
    avg(extract(epoch FROM green_at - red_at)::double precision) AS mean_seconds,
    max(extract(epoch FROM green_at - red_at)::double precision) AS longest_seconds
"""
_GREEN_DAY = "(green_at AT TIME ZONE 'UTC')::date"

_REPAIRS = f"""
CREATE VIEW history.red_spells AS
SELECT integration, project, pipeline, branch, red_at, green_at, failures,
    extract(epoch FROM green_at - red_at)::double precision AS seconds
FROM pipewright.red_spells;

CREATE VIEW history.mttr AS
SELECT {_GREEN_DAY} AS day, integration, project, pipeline, branch, count(*) AS repairs,{_LASTED}
FROM pipewright.red_spells WHERE green_at IS NOT NULL
GROUP BY {_GREEN_DAY}, integration, project, pipeline, branch;

CREATE VIEW history.red_commits AS
SELECT integration, project, pipeline, sha, red_at, green_at, failures, successes,
    extract(epoch FROM green_at - red_at)::double precision AS seconds
FROM pipewright.red_commits;

CREATE VIEW history.time_to_green AS
SELECT {_GREEN_DAY} AS day, integration, project, pipeline, count(*) AS commits,{_LASTED}
FROM pipewright.red_commits WHERE green_at IS NOT NULL
GROUP BY {_GREEN_DAY}, integration, project, pipeline;

CREATE VIEW history.flaky_commits AS
SELECT integration, project, pipeline, name, sha, failures, successes, first_at, last_at
FROM pipewright.flaky_jobs;

CREATE VIEW history.flaky_jobs AS
SELECT (last_at AT TIME ZONE 'UTC')::date AS day, integration, project, pipeline, name, count(*) AS commits,
    sum(failures) AS failures, sum(successes) AS successes, max(last_at) AS last_at
FROM pipewright.flaky_jobs
GROUP BY (last_at AT TIME ZONE 'UTC')::date, integration, project, pipeline, name;
"""  # noqa: S608 - names are ours

_COST = """
CREATE VIEW history.runner_prices AS
SELECT integration, runner, currency, per_minute, valid_from,
    lead(valid_from) OVER (PARTITION BY integration, runner ORDER BY valid_from) AS valid_until
FROM pipewright.runner_prices;

CREATE VIEW history.runner_cost AS
SELECT d.day, d.integration, d.project, d.pipeline, d.runner, d.finished AS jobs,
    d.ran_ms / 60000::numeric AS minutes, p.currency,
    (d.ran_ms / 60000::numeric * p.per_minute)::numeric(18, 4) AS cost
FROM pipewright.daily_runners d
LEFT JOIN history.runner_prices p ON p.integration = d.integration AND p.runner = d.runner
    AND d.day >= p.valid_from AND d.day < coalesce(p.valid_until, 'infinity');

CREATE VIEW history.rollup_lag AS
SELECT count(*) AS waiting, min(noted_at) AS since FROM pipewright.changes;
"""

_GRANTS = """
GRANT SELECT ON history.hourly_runs, history.failure_trend, history.failing_jobs, history.team_productivity,
    history.red_spells, history.mttr, history.red_commits, history.time_to_green, history.flaky_commits,
    history.flaky_jobs, history.runner_prices, history.runner_cost, history.rollup_lag
    TO pipewright_reader, pipewright_ingest;
GRANT USAGE ON SCHEMA history TO pipewright_ingest;
"""
