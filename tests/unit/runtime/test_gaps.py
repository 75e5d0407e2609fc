"""The metrics of missed deliveries are sums: no label names an Integration."""

from __future__ import annotations

from pipewright.runtime.gaps import GapBook
from pipewright.runtime.metrics import Metrics


def test_what_is_missed_is_summed_and_goes_with_the_integration() -> None:
    metrics = Metrics()
    book = GapBook(metrics)

    def missed() -> float | None:
        return metrics.registry.get_sample_value("pipewright_integration_missed_deliveries")

    assert missed() == 0
    book.saw("one", missed=2)
    book.saw("two", missed=3)
    assert missed() == 5
    book.saw("one", missed=0)
    assert missed() == 3
    book.forget("two")
    book.forget("two")
    assert missed() == 0


def test_what_is_asked_for_again_is_counted() -> None:
    metrics = Metrics()
    book = GapBook(metrics)
    book.asked()
    book.asked()
    assert metrics.registry.get_sample_value("pipewright_integration_redeliveries_total") == 2
