"""Finished CI runs of a tenant as OTLP traces, a span for each run, job and step; people are left out.

    python -m pipewright.store.traces --dsn-file uri --endpoint https://collector.example/v1/traces

Run by the tenant, with a login and a collector of its own, as the export to Parquet is: no process of the
platform connects to an address that a tenant chose, or holds its collector's token. Ids follow from the
provider's, so what is exported again is the same trace. Attributes are OpenTelemetry's for CI/CD.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from psycopg.rows import dict_row

Row = Mapping[str, Any]

BATCH: Final = 100
"""Runs that are read, and sent, at once."""
RESULTS: Final = {
    "success": "success",
    "failure": "failure",
    "error": "error",
    "cancel": "cancellation",
    "skip": "skip",
}
"""Outcome → `cicd.pipeline.result`."""
_SCOPE: Final = InstrumentationScope("pipewright.history")


def export(
    conn: psycopg.Connection[Any], exporter: OTLPSpanExporter, *, since: datetime, until: datetime
) -> Iterator[tuple[int, int]]:
    """Send the runs that finished in [since, until); yields the number of runs and spans of each batch.

    Raises:
        ConnectionError: the collector did not take them. What was sent before may be sent again.
    """
    with conn.transaction(), conn.cursor("traces", row_factory=dict_row) as cursor:
        cursor.execute(_RUNS, [since, until])
        while runs := cursor.fetchmany(BATCH):
            spans = list(_spans(runs, jobs=_of_runs(conn, _JOBS, runs), steps=_of_runs(conn, _STEPS, runs)))
            if exporter.export(spans) is not SpanExportResult.SUCCESS:
                raise ConnectionError("the collector did not take the traces; its answer is above")
            yield len(runs), len(spans)


def trace_id(run: Row) -> int:
    """The id of an attempt's trace: the same whenever, and by whomever, it is exported."""
    return _hashed(16, "trace", run["integration"], run["run_id"], run["attempt"])


def span_id(kind: str, *names: object) -> int:
    """The id of a span."""
    return _hashed(8, kind, *names)


def _hashed(size: int, *names: object) -> int:
    text = "\0".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1


def _of_runs(conn: psycopg.Connection[Any], query: str, runs: Sequence[Row]) -> Mapping[Any, list[Row]]:
    """Rows by their attempt."""
    found: dict[Any, list[Row]] = defaultdict(list)
    finishes = [run["finished_at"] for run in runs]
    asked = {
        "integrations": [run["integration"] for run in runs],
        "runs": [run["run_id"] for run in runs],
        "attempts": [run["attempt"] for run in runs],
        "since": min(finishes) - timedelta(days=7),  # no provider lets a run last longer
        "until": max(finishes) + timedelta(days=1),
    }
    with conn.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(query, asked):
            found[_attempt(row)].append(row)
    return found


def _attempt(row: Row) -> tuple[Any, ...]:
    return row["integration"], row["run_id"], row["attempt"]


def _spans(
    runs: Sequence[Row], *, jobs: Mapping[Any, list[Row]], steps: Mapping[Any, list[Row]]
) -> Iterator[ReadableSpan]:
    for run in runs:
        root = _context(run, _run_span(run, run["attempt"]))
        resource = Resource(
            {"service.name": run["project"], "pipewright.integration.uid": run["integration"]}
        )
        yield _span(
            run, run["pipeline"], root, None, resource, _of_run(run), kind=SpanKind.SERVER, links=_before(run)
        )
        parents = {}
        for job in jobs.get(_attempt(run), ()):
            context = parents[job["job_id"]] = _context(
                run, span_id("job", job["integration"], job["job_id"])
            )
            yield _span(job, job["name"], context, root, resource, _of_job(job))
        for step in steps.get(_attempt(run), ()):
            context = _context(run, span_id("step", step["integration"], step["job_id"], step["number"]))
            parent = parents.get(step["job_id"], root)
            yield _span(
                step, step["name"], context, parent, resource, {"pipewright.step.number": step["number"]}
            )


def _span(
    row: Row,
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    resource: Resource,
    attributes: Mapping[str, Any],
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    links: Sequence[Link] = (),
) -> ReadableSpan:
    end = row["finished_at"]
    begin = min(row["started_at"] or end, end)  # providers' clocks disagree
    red = row["outcome"] in ("failure", "error")
    if red:
        attributes = {**attributes, "error.type": row["outcome"]}
    return ReadableSpan(
        name=name,
        context=context,
        parent=parent,
        resource=resource,
        attributes={key: value for key, value in attributes.items() if value != ""},
        kind=kind,
        links=links,
        status=Status(StatusCode.ERROR if red else StatusCode.UNSET),
        start_time=_nanoseconds(begin),
        end_time=_nanoseconds(end),
        instrumentation_scope=_SCOPE,
    )


def _of_run(run: Row) -> dict[str, Any]:
    return {
        "cicd.pipeline.name": run["pipeline"],
        "cicd.pipeline.run.id": run["run_id"],
        "cicd.pipeline.run.url.full": run["url"],
        "cicd.pipeline.result": RESULTS[run["outcome"]],
        "vcs.repository.name": run["project"],
        "vcs.ref.head.name": run["branch"],
        "vcs.ref.head.revision": run["sha"],
        "pipewright.run.attempt": run["attempt"],
        "pipewright.run.trigger": run["trigger"],
    }


def _of_job(job: Row) -> dict[str, Any]:
    return {
        "cicd.pipeline.task.name": job["name"],
        "cicd.pipeline.task.run.id": job["job_id"],
        "cicd.pipeline.task.run.result": RESULTS[job["outcome"]],
        "cicd.worker.name": job["runner"],
    }


def _before(run: Row) -> Sequence[Link]:
    """The attempt before is a trace of its own."""
    if run["attempt"] == 1:
        return ()
    earlier = {**run, "attempt": run["attempt"] - 1}
    return (Link(_context(earlier, _run_span(earlier, earlier["attempt"]))),)


def _run_span(run: Row, attempt: int) -> int:
    return span_id("run", run["integration"], run["run_id"], attempt)


def _context(run: Row, span: int) -> SpanContext:
    return SpanContext(trace_id(run), span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since // timedelta(microseconds=1)) * 1000


_RUNS = """
SELECT integration::text, provider_id AS run_id, attempt, project, pipeline, trigger, branch, sha, outcome,
    started_at, finished_at, url
FROM history.runs WHERE phase = 'finished' AND outcome <> '' AND finished_at >= %s AND finished_at < %s
ORDER BY finished_at, provider_id, attempt
"""
_WANTED = (
    "unnest(%(integrations)s::uuid[], %(runs)s::text[], %(attempts)s::integer[])"
    " AS wanted (integration, run_id, attempt)"
)
_JOBS = f"""
SELECT j.integration::text, j.run_id, j.attempt, j.provider_id AS job_id, j.name, j.outcome, j.runner,
    j.started_at, j.finished_at
FROM {_WANTED} JOIN history.jobs j USING (integration, run_id, attempt)
WHERE j.phase = 'finished' AND j.outcome <> '' AND j.finished_at IS NOT NULL ORDER BY j.finished_at, job_id
"""  # noqa: S608 - names are ours
_STEPS = f"""
SELECT s.integration::text, s.run_id, s.attempt, s.job_id, s.number, s.name, s.outcome, s.started_at,
    s.finished_at
FROM {_WANTED} JOIN history.steps s USING (integration, run_id, attempt)
WHERE s.day >= %(since)s::date AND s.day <= %(until)s::date ORDER BY s.job_id, s.number
"""  # noqa: S608 - names are ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, and print how much it was."""
    parser = argparse.ArgumentParser(prog="python -m pipewright.store.traces", description=__doc__)
    parser.add_argument("--dsn-file", type=Path, required=True, help="holds a PostgreSQL URI of the tenant")
    parser.add_argument("--endpoint", help="the collector's; else as OTEL_EXPORTER_OTLP_ENDPOINT says")
    parser.add_argument(
        "--minutes", type=int, default=60, help="runs that finished in so many before --until"
    )
    parser.add_argument(
        "--until", type=datetime.fromisoformat, help="a moment with its offset; now without it"
    )
    chosen = parser.parse_args(arguments)
    until = chosen.until or datetime.now(UTC)
    if until.tzinfo is None:
        parser.error("--until must have an offset, such as 2026-01-31T08:30:00+00:00")
    exporter, runs, spans = OTLPSpanExporter(endpoint=chosen.endpoint), 0, 0
    with psycopg.connect(chosen.dsn_file.read_text().strip(), options="-c TimeZone=UTC") as conn:
        try:
            since = until - timedelta(minutes=chosen.minutes)
            for more_runs, more_spans in export(conn, exporter, since=since, until=until):
                runs, spans = runs + more_runs, spans + more_spans
        except ConnectionError as refused:
            sys.stderr.write(f"{refused}\n")
            return 1
    sys.stdout.write(f"{runs} runs, {spans} spans\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
