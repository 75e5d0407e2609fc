"""CI runs as OTLP traces, by the tenant's own login, to a collector that reads them from the wire."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from pipewright.records import JobRecord, RunRecord, StepRecord
from pipewright.store import details, history, traces
from tests.contract.conftest import Place

INTEGRATION = "00000000-0000-0000-0000-000000000001"
RED = Status.STATUS_CODE_ERROR
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Collector(ThreadingHTTPServer):
    """Takes traces as any OTLP collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.spans: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                it.value.string_value for it in resource.resource.attributes if it.key == "service.name"
            )
            self.server.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def tell(place: Place) -> None:
    """Two attempts of a run, the first of which failed in a step; and one that has not finished."""
    common: dict[str, Any] = {"project": "acme/shop", "pipeline": "ci", "branch": "main", "sha": "a" * 40}
    begun, done = NOON - timedelta(minutes=5), NOON
    ended: dict[str, Any] = {"phase": "finished", "started_at": begun, "finished_at": done}
    runs = [
        RunRecord(**common, id="7", attempt=1, actor="octocat", outcome="failure", **ended),
        RunRecord(**common, id="7", attempt=2, actor="octocat", outcome="success", **ended),
        RunRecord(**common, id="8", attempt=1, phase="started", started_at=begun),
    ]
    job = JobRecord(
        project="acme/shop",
        run="7",
        attempt=1,
        id="70",
        name="unit",
        runner="r-1",
        outcome="failure",
        **ended,
    )
    step = StepRecord(
        project="acme/shop", run="7", attempt=1, job="70", number=2, name="make test", outcome="failure",
        started_at=begun, finished_at=done,
    )  # fmt: skip
    async with place.connect("ingest") as conn, conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=["octocat"])
        told: dict[str, Any] = {"integration": INTEGRATION, "seen_at": NOON}
        await history.upsert_runs(conn, runs, actors=known, **told)
        await history.upsert_jobs(conn, [job], **told)
        await details.merge_rows(conn, details.rows([step], actors={}, **told))


async def test_what_finished_is_a_trace_and_again_the_same(
    fresh_place: Place, tmp_path: Path, collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell(fresh_place)
    dsn = tmp_path / "uri"
    dsn.write_text(fresh_place.dsn("readonly").reveal())
    asked = [
        "--dsn-file",
        str(dsn),
        "--endpoint",
        collector.url,
        "--until",
        (NOON + timedelta(minutes=1)).isoformat(),
    ]
    assert traces.main(asked) == 0
    assert capsys.readouterr().out == "2 runs, 4 spans\n"
    seen = {(span.name, span.span_id): span for _, span in collector.spans}
    first, second, job, step = (
        next(span for span in seen.values() if (span.name, span.status.code) == wanted)
        for wanted in (("ci", RED), ("ci", 0), ("unit", RED), ("make test", RED))
    )
    assert {service for service, _ in collector.spans} == {"acme/shop"}
    assert (job.trace_id, job.parent_span_id) == (first.trace_id, first.span_id)
    assert (step.trace_id, step.parent_span_id) == (first.trace_id, job.span_id)
    assert (first.parent_span_id, second.parent_span_id) == (b"", b"")
    assert second.trace_id != first.trace_id
    assert [(link.trace_id, link.span_id) for link in second.links] == [(first.trace_id, first.span_id)]
    assert first.end_time_unix_nano - first.start_time_unix_nano == 300 * 10**9
    said = {it.key: it.value.string_value or it.value.int_value for it in first.attributes}
    assert said == {
        "cicd.pipeline.name": "ci", "cicd.pipeline.run.id": "7", "cicd.pipeline.result": "failure",
        "vcs.repository.name": "acme/shop", "vcs.ref.head.name": "main", "vcs.ref.head.revision": "a" * 40,
        "pipewright.run.attempt": 1, "error.type": "failure",
    }  # fmt: skip
    assert {it.key: it.value.string_value for it in job.attributes} == {
        "cicd.pipeline.task.name": "unit", "cicd.pipeline.task.run.id": "70",
        "cicd.pipeline.task.run.result": "failure", "cicd.worker.name": "r-1", "error.type": "failure",
    }  # fmt: skip
    assert not any("octocat" in str(span) for _, span in collector.spans)

    assert traces.main(asked) == 0
    assert {(span.name, span.span_id): span for _, span in collector.spans} == seen

    collector.status = 400
    assert traces.main(asked) == 1
    assert "did not take the traces" in capsys.readouterr().err
