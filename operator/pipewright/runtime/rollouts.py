"""What the metrics tell of roll-outs of the tenants' schema: the state that each server's has now."""

from __future__ import annotations

from datetime import datetime

from pipewright.facts import Rollout
from pipewright.runtime.metrics import Metrics

STATES = ("Canary", "Rolling", "Failed")


class RolloutBook:
    """`pipewright.ports.Rollouts`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._since: dict[str, datetime] = {}

    def saw(self, server: str, rollout: Rollout | None) -> None:
        """How far it has come on the server; None: it has not begun, or who went first is gone."""
        if rollout is not None:
            # looks run side by side: one that took long must not bring back what was before
            if rollout.at < self._since.get(server, rollout.at):
                return
            self._since[server] = rollout.at
        for state in STATES:
            now = rollout is not None and rollout.state == state
            self._metrics.schema_rollout.labels(server, state).set(now)
