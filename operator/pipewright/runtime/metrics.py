"""Every metric of the operator, in one place and one registry of our own.

Labels have few values, known beforehand (kinds, results, port methods): never the name of an object or a
tenant. What can be read from the queue or the watch streams is read when it is scraped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from pipewright.runtime.queue import WorkQueue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_QUICK = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SLOW = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)


class Metrics:
    """The metric objects, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = own = registry or CollectorRegistry()
        self.queue_adds = Counter(
            "pipewright_queue_adds_total", "Requests for a look at an object.", ["kind"], registry=own
        )
        self.queue_retries = Counter(
            "pipewright_queue_retries_total", "Looks asked for after a failure.", ["kind"], registry=own
        )
        self.queue_wait = Histogram(
            "pipewright_queue_wait_seconds",
            "Time a key was ready before a worker took it.",
            ["kind"],
            buckets=_SLOW,
            registry=own,
        )
        self.queue_work = Histogram(
            "pipewright_queue_work_seconds",
            "Time a worker spent on a key.",
            ["kind"],
            buckets=_QUICK,
            registry=own,
        )
        self.queue_depth = Gauge(
            "pipewright_queue_depth", "Keys that wait for a worker.", ["priority"], registry=own
        )
        self.queue_delayed = Gauge("pipewright_queue_delayed", "Keys that wait for their time.", registry=own)
        self.queue_running = Gauge("pipewright_queue_running", "Keys being worked on.", registry=own)
        self.queue_unfinished = Gauge(
            "pipewright_queue_unfinished_seconds",
            "Time spent so far on keys being worked on, summed.",
            registry=own,
        )
        self.queue_longest = Gauge(
            "pipewright_queue_longest_running_seconds",
            "Time spent so far on the key that has been worked on longest.",
            registry=own,
        )
        self.reconciles = Counter(
            "pipewright_reconcile_total", "Reconciles by how they ended.", ["kind", "result"], registry=own
        )
        self.reconcile_seconds = Histogram(
            "pipewright_reconcile_seconds",
            "Duration of a reconcile.",
            ["kind"],
            buckets=_QUICK,
            registry=own,
        )
        self.status_writes = Counter(
            "pipewright_status_writes_total", "Status written because it differed.", ["kind"], registry=own
        )
        self.events = Counter(
            "pipewright_events_total", "Kubernetes Events by what became of them.", ["result"], registry=own
        )
        self.port_calls = Histogram(
            "pipewright_port_call_seconds",
            "Duration of a call through a port.",
            ["port", "method", "result"],
            buckets=_QUICK,
            registry=own,
        )
        self.connectors_broken = Gauge(
            "pipewright_connectors_broken",
            "Connectors from outside of this release that cannot be used; the log says why.",
            registry=own,
        )
        self.watch_age = Gauge(
            "pipewright_watch_silence_seconds",
            "Time since the API server was last heard on a watch stream.",
            ["resource"],
            registry=own,
        )
        self.isolation_tries = Counter(
            "pipewright_tenant_isolation_tries_total",
            "Tries at another tenant's doors with a tenant's own credentials, by what came of them.",
            ["door", "result"],
            registry=own,
        )
        self.isolation_holes = Gauge(
            "pipewright_tenant_isolation_holes",
            "Tenants whose credentials opened another's door at their last proof.",
            registry=own,
        )
        self.isolation_proved = Gauge(
            "pipewright_tenant_isolation_proved",
            "Tenants whose last proof of isolation holds.",
            registry=own,
        )
        self.isolation_proof_time = Gauge(
            "pipewright_tenant_isolation_proof_timestamp_seconds",
            "Time of the newest, and of the oldest, of the tenants' last proofs; 0 before the first.",
            ["which"],
            registry=own,
        )
        self.expired = Counter(
            "pipewright_tenant_expired_total",
            "What retention deleted: days of events, and rows of each other table.",
            ["table"],
            registry=own,
        )
        self.sweep_time = Gauge(
            "pipewright_tenant_sweep_timestamp_seconds",
            "Time of the newest, and of the oldest, of the tenants' last sweeps; 0 before the first.",
            ["which"],
            registry=own,
        )
        self.deliveries_missed = Gauge(
            "pipewright_integration_missed_deliveries",
            "Deliveries that CI systems sent and that had not arrived at the last look, of all Integrations.",
            registry=own,
        )
        self.deliveries_asked = Counter(
            "pipewright_integration_redeliveries_total",
            "Missed deliveries that a CI system was asked for again.",
            registry=own,
        )
        self.model_trainings = Counter(
            "pipewright_model_trainings_total",
            "Trainings of Models by how they ended; Skipped: there was nothing new to learn from.",
            ["outcome"],
            registry=own,
        )
        self.models_overdue = Gauge(
            "pipewright_models_overdue",
            "Models whose training has been due for more than an hour and has not begun.",
            registry=own,
        )
        self.schema_rollout = Gauge(
            "pipewright_schema_rollout",
            "1 for the state that the roll-out of this release's schema has on a server, 0 for the others.",
            ["server", "state"],
            registry=own,
        )
        self.leader = Gauge("pipewright_leader", "1 while this process holds the Lease.", registry=own)
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)

    def watch_queue(self, queue: WorkQueue) -> None:
        """Read the queue's state whenever the metrics are scraped."""
        self.queue_depth.labels("normal").set_function(lambda: queue.depth(low=False))
        self.queue_depth.labels("low").set_function(lambda: queue.depth(low=True))
        self.queue_delayed.set_function(queue.delayed)
        self.queue_running.set_function(lambda: len(queue.running()))
        self.queue_unfinished.set_function(lambda: sum(queue.running()))
        self.queue_longest.set_function(lambda: max(queue.running(), default=0.0))

    def watch_stream(self, resource: str, silence: Callable[[], float]) -> None:
        """Read a watch stream's silence whenever the metrics are scraped."""
        self.watch_age.labels(resource).set_function(silence)

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
