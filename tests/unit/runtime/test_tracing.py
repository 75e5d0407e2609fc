"""Spans and timings around port calls."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipewright import errors
from pipewright.runtime import tracing
from pipewright.runtime.metrics import Metrics


class Port:
    """A port with all that a port may have."""

    key = "fingerprint"

    async def find(self, name: str, *, deep: bool = False) -> str:
        return f"{name} {deep}"

    async def fail(self, error: BaseException) -> None:
        raise error

    def username(self, purpose: str) -> str:
        return f"pw_{purpose}"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def count(metrics: Metrics, method: str, result: str) -> float | None:
    labels = {"port": "databases", "method": method, "result": result}
    return metrics.registry.get_sample_value("pipewright_port_call_seconds_count", labels)


async def test_a_traced_port_answers_as_before(spans) -> None:
    metrics = Metrics()
    port = tracing.traced(Port(), "databases", metrics=metrics)
    assert await port.find("a", deep=True) == "a True"
    assert port.username("app_a") == "pw_app_a"
    assert port.key == "fingerprint"
    assert [span.name for span in spans.get_finished_spans()] == ["databases.find"]
    assert count(metrics, "find", "ok") == 1


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (errors.Waiting("Soon", "x"), "waiting"),
        (errors.OwnedByOther("x"), "stalled"),
        (errors.Unreachable("x"), "Unreachable"),
        (ValueError("x"), "error"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
async def test_a_failing_call_is_timed_by_how_it_ended(error: BaseException, result: str, spans) -> None:
    metrics = Metrics()
    with pytest.raises(type(error)):
        await tracing.traced(Port(), "databases", metrics=metrics).fail(error)
    assert count(metrics, "fail", result) == 1


async def test_a_span_keeps_the_class_of_an_error_and_no_text(spans) -> None:
    port = tracing.traced(Port(), "databases", metrics=Metrics())
    with pytest.raises(ValueError):
        await port.fail(ValueError("canary-4711"))
    [span] = spans.get_finished_spans()
    assert span.attributes == {"error.type": "ValueError"}
    assert "canary" not in span.to_json()


def test_spans_nest(spans) -> None:
    with tracing.span("reconcile", kind="Tenant"), tracing.span("cluster.get"):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert outer.attributes == {"kind": "Tenant"}


def test_without_an_endpoint_nothing_is_set_up() -> None:
    before = trace.get_tracer_provider()
    tracing.configure(component="runner", endpoint=None)
    assert trace.get_tracer_provider() is before
