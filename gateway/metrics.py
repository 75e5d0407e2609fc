"""Every metric of the gateway. Labels have few values, known beforehand: no tenant, no name, no path."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PREDICT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
_GROUP = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LAG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 900, 3600)


class Metrics:
    """The metric objects, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = own = registry or CollectorRegistry()
        self.requests = Counter(
            "pipewright_gateway_requests_total",
            "Requests by route and answer.",
            ["method", "route", "code"],
            registry=own,
        )
        self.request_seconds = Histogram(
            "pipewright_gateway_request_seconds",
            "Duration of a request.",
            ["route"],
            buckets=_REQUEST,
            registry=own,
        )
        self.in_flight = Gauge("pipewright_gateway_in_flight", "Requests being answered.", registry=own)
        self.deliveries = Counter(
            "pipewright_gateway_deliveries_total",
            "Webhook deliveries by what became of them.",
            ["outcome"],
            registry=own,
        )
        self.ingest_seconds = Histogram(
            "pipewright_gateway_ingest_seconds",
            "Time of a transaction that stores deliveries.",
            buckets=_REQUEST,
            registry=own,
        )
        self.ingest_group = Histogram(
            "pipewright_gateway_ingest_group",
            "Deliveries stored in one transaction.",
            buckets=_GROUP,
            registry=own,
        )
        self.imported = Counter(
            "pipewright_gateway_imported_total", "Imported records of history.", ["kind"], registry=own
        )
        self.predictions = Counter(
            "pipewright_gateway_predictions_total", "Predictions made.", ["kind", "band"], registry=own
        )
        self.prediction_seconds = Histogram(
            "pipewright_gateway_prediction_seconds",
            "Time to score one run, lines of work at hand.",
            buckets=_PREDICT,
            registry=own,
        )
        self.model_loads = Counter(
            "pipewright_gateway_model_loads_total", "Loads of a model's file.", ["result"], registry=own
        )
        self.models = Gauge("pipewright_gateway_models", "Models in memory.", registry=own)
        self.decisions = Counter(
            "pipewright_gateway_decisions_total", "Decisions about workflows.", ["fired"], registry=own
        )
        self.dispatches = Counter(
            "pipewright_gateway_dispatches_total",
            "Attempts to create a WorkflowRun, by result.",
            ["result"],
            registry=own,
        )
        self.dispatch_lag = Histogram(
            "pipewright_gateway_dispatch_lag_seconds",
            "Time from a decision to its WorkflowRun.",
            buckets=_LAG,
            registry=own,
        )
        self.dispatch_waiting = Gauge(
            "pipewright_gateway_dispatch_waiting_tenants",
            "Tenants with WorkflowRuns still to create.",
            registry=own,
        )
        self.spool_deliveries = Gauge(
            "pipewright_gateway_spool_deliveries",
            "Deliveries that are kept for suspended tenants, in all.",
            registry=own,
        )
        self.spool_oldest = Gauge(
            "pipewright_gateway_spool_oldest_seconds",
            "Age of the oldest delivery that is kept; 0 when there is none.",
            registry=own,
        )
        self.replayed = Counter(
            "pipewright_gateway_replayed_total",
            "Deliveries that left the spool, or could not, by what became of them.",
            ["outcome"],
            registry=own,
        )
        self.dead_letters = Counter(
            "pipewright_gateway_dead_letters_total",
            "Deliveries that are not understood, as they come (kept, again, or listed where there is no room)"
            " and as they go (stored, ignored, duplicate, failed, discarded).",
            ["outcome"],
            registry=own,
        )
        self.connectors_broken = Gauge(
            "pipewright_connectors_broken",
            "Connectors from outside of this release that cannot be used; the log says why.",
            registry=own,
        )
        self.rollup_changes = Counter(
            "pipewright_gateway_rollup_changes_total",
            "Changes of runs and jobs that reached the rollups.",
            registry=own,
        )
        self.rollup_seconds = Histogram(
            "pipewright_gateway_rollup_seconds",
            "Time of one transaction that makes rollups current.",
            buckets=_REQUEST,
            registry=own,
        )
        self.rollup_troubles = Counter(
            "pipewright_gateway_rollup_troubles_total",
            "Times that a tenant's rollups could not be made current; they are tried again.",
            registry=own,
        )
        self.reviews = Counter(
            "pipewright_gateway_reviews_total",
            "Questions about callers, by kind and where the answer came from.",
            ["kind", "source"],
            registry=own,
        )
        self.directory_age = Gauge(
            "pipewright_gateway_directory_age_seconds",
            "Time since routes, triggers and models were last known to be current.",
            registry=own,
        )
        self.connections = Gauge(
            "pipewright_gateway_database_connections", "Open database connections.", registry=own
        )
        self.connections_limit = Gauge(
            "pipewright_gateway_database_connections_limit",
            "Database connections that this process may open: gateway.databaseConnections.",
            registry=own,
        )
        self.connections_refused = Counter(
            "pipewright_gateway_database_connections_refused_total",
            "Times that a PostgreSQL server had no connection left for us.",
            registry=own,
        )
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)

    def watch(self, *, directory_age: Callable[[], float], connections: Callable[[], float]) -> None:
        """Read these whenever the metrics are scraped."""
        self.directory_age.set_function(directory_age)
        self.connections.set_function(connections)

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
