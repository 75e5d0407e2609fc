"""The metric of roll-outs: one state of each server, the newest that a look has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipewright.facts import Rollout
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.rollouts import RolloutBook

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rollout(state: str, *, at: datetime = NOW) -> Rollout:
    return Rollout(state=state, holder="a" * 12, name="acme", reason="a view is in the way", at=at)


def told(metrics: Metrics) -> list[str]:
    return [it for it in metrics.render().decode().splitlines() if it.startswith("pipewright_schema_rollout")]


def test_each_server_has_one_state_and_the_others_are_0() -> None:
    metrics = Metrics()
    book = RolloutBook(metrics)
    assert told(metrics) == []
    book.saw("eu-1", rollout("Failed"))
    book.saw("us-1", None)
    assert told(metrics) == [
        'pipewright_schema_rollout{server="eu-1",state="Canary"} 0.0',
        'pipewright_schema_rollout{server="eu-1",state="Rolling"} 0.0',
        'pipewright_schema_rollout{server="eu-1",state="Failed"} 1.0',
        'pipewright_schema_rollout{server="us-1",state="Canary"} 0.0',
        'pipewright_schema_rollout{server="us-1",state="Rolling"} 0.0',
        'pipewright_schema_rollout{server="us-1",state="Failed"} 0.0',
    ]


def test_a_look_that_took_long_brings_no_older_state_back() -> None:
    metrics = Metrics()
    book = RolloutBook(metrics)
    book.saw("eu-1", rollout("Rolling", at=NOW + timedelta(seconds=5)))
    book.saw("eu-1", rollout("Canary", at=NOW))
    assert 'pipewright_schema_rollout{server="eu-1",state="Rolling"} 1.0' in told(metrics)
    book.saw("eu-1", rollout("Failed", at=NOW + timedelta(seconds=6)))
    assert 'pipewright_schema_rollout{server="eu-1",state="Failed"} 1.0' in told(metrics)


def test_when_the_tenant_that_failed_is_gone_no_state_is_left() -> None:
    metrics = Metrics()
    book = RolloutBook(metrics)
    book.saw("eu-1", rollout("Failed"))
    book.saw("eu-1", None)
    assert all(line.endswith(" 0.0") for line in told(metrics))
