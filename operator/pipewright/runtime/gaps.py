"""What the metrics tell of missed deliveries: how many there are, how many were asked for again; as sums."""

from __future__ import annotations

from pipewright.runtime.metrics import Metrics


class GapBook:
    """`pipewright.ports.GapBook`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._missed: dict[str, int] = {}
        metrics.deliveries_missed.set_function(lambda: sum(self._missed.values()))

    def saw(self, integration_uid: str, *, missed: int) -> None:
        """So many of an Integration's deliveries had not arrived at the last look."""
        if missed:
            self._missed[integration_uid] = missed
        else:
            self._missed.pop(integration_uid, None)

    def asked(self) -> None:
        """One more delivery was asked for again."""
        self._metrics.deliveries_asked.inc()

    def forget(self, integration_uid: str) -> None:
        """The Integration goes."""
        self._missed.pop(integration_uid, None)
