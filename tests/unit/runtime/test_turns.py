"""The metrics of trainings: how they ended, and how many Models wait for one that is long due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipewright.runtime.metrics import Metrics
from pipewright.runtime.turns import TurnBook

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    at: datetime = NOON

    def now(self) -> datetime:
        return self.at


def test_a_model_is_overdue_after_an_hour_and_until_its_training_begins() -> None:
    metrics, clock = Metrics(), Clock()
    book = TurnBook(metrics, clock=clock)

    def overdue() -> float | None:
        return metrics.registry.get_sample_value("pipewright_models_overdue")

    book.saw("one", due=NOON)
    book.saw("two", due=NOON + timedelta(minutes=30))
    assert overdue() == 0
    clock.at += timedelta(hours=1, minutes=1)
    book.saw("one", due=clock.at)  # a first training is due now at each look
    assert overdue() == 1
    clock.at += timedelta(hours=1)
    assert overdue() == 2
    book.saw("one", due=None)
    book.saw("nobody", due=None)
    assert overdue() == 1


def test_ends_are_counted_by_how() -> None:
    metrics = Metrics()
    book = TurnBook(metrics, clock=Clock())
    book.ended("Skipped")
    book.ended("Passed")
    book.ended("Passed")
    counted = {
        how: metrics.registry.get_sample_value("pipewright_model_trainings_total", {"outcome": how})
        for how in ("Passed", "Skipped", "GatesFailed", "Failed")
    }
    assert counted == {"Passed": 2, "Skipped": 1, "GatesFailed": 0, "Failed": 0}
