"""Spans and timings: around a reconcile, and around each call through a port.

Without an OTLP endpoint no span is made: OpenTelemetry's no-op ones, too, cost more than many a call. Spans
name classes and methods; no argument, result or exception text is recorded, because any may hold a secret.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from opentelemetry import trace

from pipewright import errors
from pipewright.runtime.metrics import Metrics

PortT = TypeVar("PortT")


def configure(*, component: str, endpoint: str | None) -> None:
    """Export spans to the OTLP/HTTP collector at `endpoint`; None: keep the no-op. Call once at start."""
    if endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"pipewright-{component}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Send what has not been sent yet; for the end of the process. At most a few seconds."""
    provider = trace.get_tracer_provider()
    force = getattr(provider, "force_flush", None)  # the no-op provider has none
    if force is not None:
        force(timeout_millis=3000)


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[None]:
    """Measure what happens inside as a span. An exception passes through; the span keeps its class only."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
        yield
        return
    tracer = trace.get_tracer("pipewright")
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_attribute("error.type", type(error).__qualname__)
            current.set_status(trace.StatusCode.ERROR)
            raise


def traced(port: PortT, name: str, *, metrics: Metrics) -> PortT:
    """The same port, with a span and a timing around every coroutine method. The rest passes through."""
    return cast("PortT", _Traced(port, name, metrics))


class _Traced:
    """Stands in front of a port. Attribute access finds the port's own, wrapped once."""

    def __init__(self, port: object, name: str, metrics: Metrics) -> None:
        self._port, self._name, self._metrics = port, name, metrics

    def __repr__(self) -> str:
        return f"traced {self._name}"

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._port, attribute)
        if attribute.startswith("_") or not inspect.iscoroutinefunction(found):
            return found
        wrapped = self._wrap(attribute, found)
        setattr(self, attribute, wrapped)
        return wrapped

    def _wrap(self, method: str, call: Any) -> Any:
        @functools.wraps(call)
        async def measured(*args: Any, **kwargs: Any) -> Any:
            started, result = time.perf_counter(), "ok"
            try:
                with span(f"{self._name}.{method}"):
                    return await call(*args, **kwargs)
            except BaseException as error:
                result = outcome(error)
                raise
            finally:
                seconds = time.perf_counter() - started
                self._metrics.port_calls.labels(self._name, method, result).observe(seconds)

        return measured


def outcome(error: BaseException) -> str:
    """How a call ended, as one of a few words for a label."""
    match error:
        case errors.Waiting():
            return "waiting"
        case errors.Stalled():
            return "stalled"
        case errors.BackendError():
            return error.reason
        case Exception():
            return "error"
        case _:
            return "cancelled"
