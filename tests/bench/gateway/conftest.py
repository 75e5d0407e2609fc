"""What benchmarks of the gateway share: tenants with a webhook each, and what is sent to them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev import simulator
from dev.demo.scene import ProviderClient
from dev.github_payloads import github_deliveries
from dev.stack import Stack
from tests.bench import sites


@pytest.fixture(scope="session")
def provider(stack: Stack) -> ProviderClient:
    """The provider simulator."""
    made = ProviderClient(stack)
    made.start()
    return made


@pytest.fixture(scope="session")
def site(stack: Stack, provider: ProviderClient) -> Callable[[str], sites.Site]:
    """Makes a tenant with an Integration, ready for deliveries."""
    return lambda name: sites.make(stack, provider, name)


@pytest.fixture(scope="session")
def loop_of_clients() -> Callable[..., Any]:
    """`closed_loop`."""
    return sites.closed_loop


# --- what is sent -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def deliveries() -> Iterator[tuple[str, bytes]]:
    """Webhooks of a simulated organisation without end, (event, body), run by run; no run comes twice."""

    def make() -> Iterator[tuple[str, bytes]]:
        for seed in itertools.count(1000):
            for attempt in attempts(simulator.history(until=datetime.now(UTC), seed=seed, runs=500)):
                for record in attempt:
                    _renumber(record, by=seed * 10**10)
                for _, event, payload in github_deliveries(attempt):
                    yield event, json.dumps(payload, separators=(",", ":")).encode()

    return make()


@pytest.fixture(scope="session")
def histories() -> Iterator[list[dict[str, Any]]]:
    """Histories of three months without end, as records of runs and jobs; no run comes twice."""

    def make() -> Iterator[list[dict[str, Any]]]:
        until = datetime.now(UTC) - timedelta(hours=1)
        for seed in itertools.count(5000):
            found = [dict(record) for record in simulator.history(until=until, seed=seed, runs=1000)]
            for record in found:
                _renumber(record, by=seed * 10**10)
            yield found

    return make()


def attempts(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Each run's attempt with its jobs."""
    held: list[dict[str, Any]] = []
    for record in records:
        if record["type"] == "run" and held:
            yield held
            held = []
        held.append(dict(record))
    if held:
        yield held


def _renumber(record: dict[str, Any], *, by: int) -> None:
    for name in ("id", "run"):
        if record.get(name):
            record[name] = str(int(record[name]) + by)
