"""Turns of proofs have a distance; the metrics sum up and name no tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipewright.facts import Proof
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.proofs import GAP, ProofBook

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_turns_of_many_tenants_have_a_distance_and_each_comes_once() -> None:
    book, wish = ProofBook(Metrics()), NOW + timedelta(seconds=5)
    waits = [book.turn(f"t{n}", wish=wish, now=NOW, urgent=False) for n in range(4)]
    assert waits == [timedelta(seconds=5) + GAP * n for n in range(4)]
    later = NOW + timedelta(seconds=6)
    assert book.turn("t3", wish=later, now=later, urgent=False) == timedelta()
    assert book.turn("t3", wish=later, now=later, urgent=False) == timedelta(), "nobody else is before it"
    assert book.turn("t4", wish=later, now=later, urgent=False) == GAP


def test_who_asks_does_not_wait_for_those_that_are_only_due() -> None:
    book = ProofBook(Metrics())
    for n in range(100):
        book.turn(f"t{n}", wish=NOW + timedelta(seconds=5), now=NOW, urgent=False)
    assert book.turn("t99", wish=NOW, now=NOW, urgent=True) == timedelta()
    assert book.turn("t98", wish=NOW, now=NOW, urgent=True) == GAP
    assert book.turn("t98", wish=NOW + GAP, now=NOW + GAP, urgent=True) == timedelta()


def test_the_metrics_count_holes_and_tell_the_oldest_proof() -> None:
    metrics = Metrics()
    book = ProofBook(metrics)
    assert value(metrics, 'proof_timestamp_seconds{which="oldest"}') == 0
    book.saw("a" * 12, Proof(at=NOW, target=None))
    book.saw("b" * 12, Proof(at=NOW + timedelta(hours=1), target=None, opened=("the database",)))
    book.saw("c" * 12, None)
    book.tried("database", "open")
    assert value(metrics, "holes") == 1
    assert value(metrics, "proved") == 1
    assert value(metrics, 'proof_timestamp_seconds{which="oldest"}') == NOW.timestamp()
    assert value(metrics, 'proof_timestamp_seconds{which="newest"}') == NOW.timestamp() + 3600
    assert value(metrics, 'tries_total{door="database",result="open"}') == 1
    assert "aaaa" not in metrics.render().decode()
    book.forget("b" * 12)
    assert value(metrics, "holes") == 0


def value(metrics: Metrics, name: str) -> float:
    start = f"pipewright_tenant_isolation_{name} "
    [line] = [line for line in metrics.render().decode().splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))
