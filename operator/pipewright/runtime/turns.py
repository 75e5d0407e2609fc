"""What the metrics tell of trainings: how they ended, and how many Models wait for one that is long due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import get_args

from pipewright.ports.common import Clock
from pipewright.ports.training import TurnEnd
from pipewright.runtime.metrics import Metrics

PATIENCE = timedelta(hours=1)
"""A training that is due begins within seconds; retries and a queue of others take longer."""


class TurnBook:
    """`pipewright.ports.training.TurnBook`."""

    def __init__(self, metrics: Metrics, *, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._due: dict[str, datetime] = {}
        metrics.models_overdue.set_function(self._overdue)
        for how in get_args(TurnEnd):  # from 0 on: a sum over no series is none, and no alert comes of it
            metrics.model_trainings.labels(how)

    def saw(self, model_uid: str, *, due: datetime | None) -> None:
        """Since when a training is due that trouble keeps from beginning; None: there is none."""
        if due is None:
            self._due.pop(model_uid, None)
        else:
            self._due[model_uid] = min(due, self._due.get(model_uid, due))

    def ended(self, how: TurnEnd) -> None:
        """One more training ended, or was passed over."""
        self._metrics.model_trainings.labels(how).inc()

    def _overdue(self) -> int:
        late = self._clock.now() - PATIENCE
        return sum(1 for due in self._due.values() if due < late)
