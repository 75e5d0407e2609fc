"""`refresh_rollups`: takes notes of what changed, and recomputes what they touch, in one transaction.

Every step replaces rows by what the runs and jobs say now, and writes only those that differ: it may be done
again, in any order, beside writers. Whatever is committed after the notes were taken has notes of its own.
"""

from collections.abc import Sequence

from pipewright.store import schema

revision = "t0009"
down_revision = "t0008"

_FUNCTION = """
CREATE FUNCTION pipewright.{name}(taken pipewright.changes[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET random_page_cost = 1.1 AS $$
{body}
$$;
"""
# How many rows a note leads to is not known when a statement is planned: what is looked for by an index here
# must not become a scan of the whole history.
LINE = "hashtextextended({0}.project || ' ' || {0}.pipeline || ' ' || {0}.branch, 0)"
LABELLED = "r.phase = 'finished' AND r.outcome IN ('success', 'failure', 'error')"
"""The outcomes that say whether a line is red or green, as the index `runs_line` has them."""


def upgrade() -> None:
    """Create the functions; only the first of them may be called by the gateway."""
    for name, body in (
        ("refresh_runs", _runs()),
        ("refresh_jobs", _jobs()),
        ("refresh_spells", _spells()),
        ("refresh_commits", _commits()),
        ("refresh_flaky", _flaky()),
    ):
        schema.run(_FUNCTION.format(name=name, body=body))
    schema.run(_REFRESH)


def replace(
    table: str,
    *,
    columns: Sequence[str],
    key: Sequence[str],
    scope: str,
    fresh: str,
    lead: str = "",
    using: str = "",
    probe: str = "",
) -> str:
    """The statement that makes the rows `old` of `table` within `scope` what `fresh` selects.

    `lead` is WITH queries before it, `using` one of them that `scope` names; `probe` leads to the old row of
    a `new` one by an index. Rows that are as they should be are left alone: no dead tuples.
    """
    same = " AND ".join(f"old.{name} IS NOT DISTINCT FROM new.{name}" for name in columns if name not in key)
    same = f"{' AND '.join(f'old.{name} = new.{name}' for name in key)} AND {same}"
    names = ", ".join(columns)
    return f"""
    WITH {lead} new AS MATERIALIZED ({fresh}),
    gone AS (DELETE FROM pipewright.{table} AS old {using} WHERE {scope}
        AND NOT EXISTS (SELECT FROM new WHERE {same}))
    INSERT INTO pipewright.{table} ({names}) SELECT {names} FROM new
    WHERE NOT EXISTS (SELECT FROM pipewright.{table} AS old WHERE {probe or scope} AND {same});
"""  # noqa: S608 - names are ours


_COUNTS = ("finished", "succeeded", "failed", "broken", "cancelled", "skipped")
_TIMES = ("ran", "ran_ms", "longest_ms", "queued", "queued_ms")


def _counted(row: str) -> str:
    """The counts and times of rows of runs or jobs."""

    def ms(since: str, until: str) -> str:
        return f"greatest(0, extract(epoch FROM {row}.{until} - {row}.{since}) * 1000)::bigint"

    outcomes = {"succeeded": "success", "failed": "failure", "broken": "error", "cancelled": "cancel"}
    counts = [
        f"count(*) FILTER (WHERE {row}.outcome = '{outcome}')::integer AS {name}"
        for name, outcome in {**outcomes, "skipped": "skip"}.items()
    ]
    ran, waited = ms("started_at", "finished_at"), ms("queued_at", "started_at")
    return ", ".join(
        [
            "count(*)::integer AS finished",
            *counts,
            f"count({row}.started_at)::integer AS ran",
            f"coalesce(sum({ran}), 0)::bigint AS ran_ms",
            f"coalesce(max({ran}), 0)::bigint AS longest_ms",
            f"count({row}.started_at - {row}.queued_at)::integer AS queued",
            f"coalesce(sum({waited}), 0)::bigint AS queued_ms",
        ]
    )


def _summed(*more: str) -> str:
    """The same of a day, from its hours."""
    kinds = {"ran_ms": "bigint", "queued_ms": "bigint"}
    sums = [
        f"sum(h.{name})::{kinds.get(name, 'integer')} AS {name}"
        for name in (*more, *_COUNTS, *_TIMES)
        if name != "longest_ms"
    ]
    return ", ".join([*sums, "max(h.longest_ms) AS longest_ms"])


def _midnight(day: str) -> str:
    return f"({day}::timestamp AT TIME ZONE 'UTC')"


_RUN = ("integration", "project", "pipeline")
_JOB = (*_RUN, "name", "runner")
_HOUR = "date_trunc('hour', finished_at, 'UTC')"
_IN_HOUR = "{0}.phase = 'finished' AND {0}.finished_at >= at AND {0}.finished_at < at + interval '1 hour'"
_HOURS_OF_DAY = f"h.hour >= {_midnight('at')} AND h.hour < {_midnight('at')} + interval '1 day'"


def _runs() -> str:
    by = ", ".join(f"r.{name}" for name in _RUN)
    hourly = replace(
        "hourly_runs",
        columns=("hour", *_RUN, "reruns", *_COUNTS, *_TIMES),
        key=("hour", *_RUN),
        scope="old.hour = ANY(hours)",
        fresh=f"SELECT at AS hour, {by}, count(*) FILTER (WHERE r.attempt > 1)::integer AS reruns,"  # noqa: S608
        f" {_counted('r')} FROM unnest(hours) AS at JOIN pipewright.runs r ON {_IN_HOUR.format('r')}"
        f" GROUP BY at, {by}",
    )
    daily = replace(
        "daily_runs",
        columns=("day", *_RUN, "reruns", *_COUNTS, *_TIMES),
        key=("day", *_RUN),
        scope="old.day = ANY(days)",
        fresh=f"SELECT at AS day, {', '.join(f'h.{name}' for name in _RUN)}, {_summed('reruns')}"  # noqa: S608
        f" FROM unnest(days) AS at JOIN pipewright.hourly_runs h ON {_HOURS_OF_DAY}"
        f" GROUP BY at, {', '.join(f'h.{name}' for name in _RUN)}",
    )
    people = replace(
        "daily_projects",
        columns=("day", "integration", "project", "people", "commits"),
        key=("day", "integration", "project"),
        scope="old.day = ANY(days)",
        fresh="SELECT at AS day, r.integration, r.project, count(DISTINCT r.actor)::integer AS people,"  # noqa: S608
        " count(DISTINCT nullif(r.sha, ''))::integer AS commits FROM unnest(days) AS at"
        " JOIN pipewright.runs r ON r.phase = 'finished'"
        f" AND r.finished_at >= {_midnight('at')} AND r.finished_at < {_midnight('at')} + interval '1 day'"
        " GROUP BY at, r.integration, r.project",
    )
    return f"""
DECLARE
    hours timestamptz[] := ARRAY(SELECT DISTINCT {_HOUR} FROM unnest(taken)
        WHERE NOT job AND finished_at IS NOT NULL);
    days date[] := ARRAY(SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM unnest(hours) AS at);
BEGIN
    {hourly}
    {daily}
    {people}
END
"""  # noqa: S608 - names are ours


def _jobs() -> str:
    """Jobs' rows may lack the pipeline, which their run tells: with the run its jobs' hours change."""
    of_day = ", ".join(f"h.{name}" for name in _RUN)
    of_run = (
        "SELECT r.pipeline FROM pipewright.runs r WHERE r.integration = j.integration"
        " AND r.provider_id = j.run_id AND r.attempt = j.attempt"
    )
    runner = "coalesce((SELECT string_agg(label, ', ' ORDER BY label) FROM unnest(j.labels) AS label), '')"
    hourly = replace(
        "hourly_jobs",
        columns=("hour", *_JOB, *_COUNTS, *_TIMES),
        key=("hour", *_JOB),
        scope="old.hour = ANY(hours)",
        fresh=f"SELECT j.hour, {', '.join(f'j.{name}' for name in _JOB)}, {_counted('j')} FROM ("  # noqa: S608
        f" SELECT at AS hour, j.integration, j.project, coalesce(nullif(j.pipeline, ''), ({of_run}), '')"
        f" AS pipeline, j.name, {runner} AS runner, j.outcome, j.queued_at, j.started_at, j.finished_at"
        f" FROM unnest(hours) AS at JOIN pipewright.jobs j ON {_IN_HOUR.format('j')}) AS j"
        f" GROUP BY j.hour, {', '.join(f'j.{name}' for name in _JOB)}",
    )
    daily = replace(
        "daily_jobs",
        columns=("day", *_RUN, "name", *_COUNTS, *_TIMES),
        key=("day", *_RUN, "name"),
        scope="old.day = ANY(days)",
        fresh=f"SELECT at AS day, {of_day}, h.name, {_summed()}"  # noqa: S608
        f" FROM unnest(days) AS at JOIN pipewright.hourly_jobs h ON {_HOURS_OF_DAY}"
        f" GROUP BY at, {of_day}, h.name",
    )
    runners = replace(
        "daily_runners",
        columns=("day", *_RUN, "runner", "finished", "ran_ms"),
        key=("day", *_RUN, "runner"),
        scope="old.day = ANY(days)",
        fresh=f"SELECT at AS day, {of_day}, h.runner, sum(h.finished)::integer AS finished,"  # noqa: S608
        " sum(h.ran_ms)::bigint AS ran_ms"
        f" FROM unnest(days) AS at JOIN pipewright.hourly_jobs h ON {_HOURS_OF_DAY}"
        f" GROUP BY at, {of_day}, h.runner",
    )
    return f"""
DECLARE
    hours timestamptz[] := ARRAY(
        SELECT {_HOUR} FROM unnest(taken) WHERE job
        UNION
        SELECT date_trunc('hour', j.finished_at, 'UTC')
        FROM (SELECT DISTINCT integration, run_id FROM unnest(taken) WHERE NOT job) AS m
        JOIN pipewright.jobs j ON j.integration = m.integration AND j.run_id = m.run_id
            AND j.phase = 'finished' AND j.finished_at IS NOT NULL);
    days date[] := ARRAY(SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM unnest(hours) AS at);
BEGIN
    {hourly}
    {daily}
    {runners}
END
"""  # noqa: S608 - names are ours


def _spells() -> str:
    """Between two successes of a line nothing outside matters: only there it is recomputed.

    At one moment a success counts after a failure.
    """
    line = ("integration", "project", "pipeline", "branch")

    def on_line(left: str, right: str) -> str:
        same = " AND ".join(f"{left}.{name} = {right}.{name}" for name in line)
        return f"{LINE.format(left)} = {right}.key AND {same}"

    def success(side: str, order: str) -> str:
        return (
            f"SELECT r.finished_at FROM pipewright.runs r WHERE {on_line('r', 'l')} AND {LABELLED}"  # noqa: S608
            f" AND r.outcome = 'success' AND r.finished_at {side} ORDER BY r.finished_at {order} LIMIT 1"
        )

    by = ", ".join(line)
    lead = f"""lines AS MATERIALIZED (
        SELECT {by}, {LINE.format("m")} AS key, min(finished_at) AS earliest, max(finished_at) AS latest
        FROM unnest(taken) AS m WHERE NOT job AND finished_at IS NOT NULL GROUP BY {by}
    ), part AS MATERIALIZED (
        SELECT l.*, coalesce(({success("< l.earliest", "DESC")}), '-infinity') AS since,
            coalesce(({success("> l.latest", "ASC")}), 'infinity') AS until
        FROM lines l
    ),"""  # noqa: S608 - names are ours
    fresh = f"""
        SELECT {by}, min(finished_at) FILTER (WHERE NOT green) AS red_at,
            max(finished_at) FILTER (WHERE green) AS green_at,
            count(*) FILTER (WHERE NOT green)::integer AS failures
        FROM (SELECT {", ".join(f"part.{name}" for name in line)}, r.finished_at,
                r.outcome = 'success' AS green,
                count(*) FILTER (WHERE r.outcome = 'success') OVER (
                    PARTITION BY {", ".join(f"part.{name}" for name in line)}
                    ORDER BY r.finished_at, r.outcome = 'success'
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS spell
            FROM part JOIN pipewright.runs r ON {on_line("r", "part")} AND {LABELLED}
                AND r.finished_at > part.since AND r.finished_at <= part.until) AS labelled
        GROUP BY {by}, spell HAVING NOT bool_and(green)"""  # noqa: S608 - names are ours
    scope = f"{on_line('old', 'part')} AND old.red_at > part.since AND old.red_at <= part.until"
    return (
        "BEGIN"
        + replace(
            "red_spells",
            columns=(*line, "red_at", "green_at", "failures"),
            key=(*line, "red_at"),
            lead=lead,
            scope=scope,
            fresh=fresh,
            using="USING part",
            probe=f"{LINE.format('old')} = {LINE.format('new')}",
        )
        + "END"
    )


_TOUCHED = """touched AS MATERIALIZED (
        SELECT integration, sha FROM unnest(taken) WHERE sha <> ''
        UNION
        SELECT r.integration, r.sha
        FROM (SELECT DISTINCT integration, run_id FROM unnest(taken) WHERE job) AS m
        JOIN pipewright.runs r ON r.integration = m.integration AND r.provider_id = m.run_id
        WHERE r.sha <> ''
    ),"""
_SCOPE = "(old.integration, old.sha) IN (SELECT integration, sha FROM touched)"


def _commits() -> str:
    by = "integration, project, pipeline, sha"
    fresh = f"""
        SELECT {by}, red_at, min(finished_at) FILTER (WHERE green AND finished_at >= red_at) AS green_at,
            count(*) FILTER (WHERE NOT green)::integer AS failures,
            count(*) FILTER (WHERE green)::integer AS successes
        FROM (SELECT r.integration, r.project, r.pipeline, r.sha, r.finished_at,
                r.outcome = 'success' AS green, min(r.finished_at) FILTER (WHERE r.outcome <> 'success')
                    OVER (PARTITION BY r.integration, r.project, r.pipeline, r.sha) AS red_at
            FROM touched t JOIN pipewright.runs r ON r.sha = t.sha AND r.sha <> ''
                AND r.integration = t.integration AND {LABELLED} AND r.finished_at IS NOT NULL) AS labelled
        WHERE red_at IS NOT NULL GROUP BY {by}, red_at"""  # noqa: S608 - names are ours
    return (
        "BEGIN"
        + replace(
            "red_commits",
            columns=(
                "integration",
                "project",
                "pipeline",
                "sha",
                "red_at",
                "green_at",
                "failures",
                "successes",
            ),
            key=("integration", "project", "pipeline", "sha"),
            lead=_TOUCHED,
            scope=_SCOPE,
            fresh=fresh,
        )
        + "END"
    )


def _flaky() -> str:
    red, green = "j.outcome IN ('failure', 'error')", "j.outcome = 'success'"
    fresh = f"""
        SELECT r.integration, r.project, r.pipeline, j.name, r.sha,
            count(*) FILTER (WHERE {red})::integer AS failures,
            count(*) FILTER (WHERE {green})::integer AS successes,
            min(j.finished_at) AS first_at, max(j.finished_at) AS last_at
        FROM touched t
        JOIN pipewright.runs r ON r.sha = t.sha AND r.sha <> '' AND r.integration = t.integration
        JOIN pipewright.jobs j ON j.integration = r.integration AND j.run_id = r.provider_id
            AND j.attempt = r.attempt AND j.phase = 'finished' AND j.finished_at IS NOT NULL
            AND ({red} OR {green})
        GROUP BY r.integration, r.project, r.pipeline, j.name, r.sha
        HAVING bool_or({red}) AND bool_or({green})"""  # noqa: S608 - names are ours
    key = ("integration", "project", "pipeline", "name", "sha")
    return (
        "BEGIN"
        + replace(
            "flaky_jobs",
            columns=(*key, "failures", "successes", "first_at", "last_at"),
            key=key,
            lead=_TOUCHED,
            scope=_SCOPE,
            fresh=fresh,
        )
        + "END"
    )


_REFRESH = """
CREATE FUNCTION pipewright.refresh_rollups(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest date;
    since date;
    taken pipewright.changes[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(7264102) THEN
        RETURN -1;
    END IF;
    SELECT max(day) INTO newest FROM pipewright.changes;
    -- whole days, so that none is recounted twice, unless one alone has more
    SELECT least(day + 1, newest) INTO since FROM pipewright.changes ORDER BY day DESC OFFSET most LIMIT 1;
    since := coalesce(since, '-infinity');
    WITH gone AS (
        DELETE FROM pipewright.changes WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM pipewright.changes WHERE day >= since LIMIT most)) RETURNING changes AS note
    )
    SELECT array_agg(note) INTO taken FROM gone;
    IF taken IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM pipewright.refresh_runs(taken), pipewright.refresh_jobs(taken), pipewright.refresh_spells(taken),
        pipewright.refresh_commits(taken), pipewright.refresh_flaky(taken);
    RETURN cardinality(taken);
END
$$;
COMMENT ON FUNCTION pipewright.refresh_rollups IS
    'how many notes it took; 0: nothing is left; -1: another session is at it';
GRANT EXECUTE ON FUNCTION pipewright.refresh_rollups(integer) TO pipewright_ingest;
"""
