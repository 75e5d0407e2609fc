"""What the metrics tell of retention: how much was deleted, and when each tenant was last swept, as sums."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipewright.facts import Sweep
from pipewright.runtime.metrics import Metrics

_NOTHING: Mapping[str, int] = MappingProxyType({})


class SweepBook:
    """`pipewright.ports.Sweeps`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: dict[str, float] = {}
        metrics.sweep_time.labels("newest").set_function(lambda: max(self._last.values(), default=0.0))
        metrics.sweep_time.labels("oldest").set_function(lambda: min(self._last.values(), default=0.0))

    def saw(self, tenant_id: str, sweep: Sweep | None, *, counts: Mapping[str, int] = _NOTHING) -> None:
        """The tenant's last sweep, and what it deleted just now."""
        if sweep is not None:
            self._last[tenant_id] = sweep.at.timestamp()
        for table, count in counts.items():
            self._metrics.expired.labels(table).inc(count)

    def forget(self, tenant_id: str) -> None:
        """The tenant goes."""
        self._last.pop(tenant_id, None)
