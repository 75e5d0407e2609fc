"""What the runtime's tests share: time that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest


class HandTimer:
    """A queue's timer and a port's clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._alarms: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        self._alarms.append((when, callback))

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        due = [callback for when, callback in self._alarms if when <= self.seconds]
        self._alarms = [(when, callback) for when, callback in self._alarms if when > self.seconds]
        for callback in due:
            callback()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


@pytest.fixture
def timer() -> HandTimer:
    return HandTimer()
