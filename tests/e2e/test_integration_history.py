"""A history that no webhook told of, read by the runner and stored by the gateway, on real servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dev import simulator
from dev.demo.scene import ProviderClient


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """A history of acme/shop that ended an hour ago."""
    until = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    return [
        each for each in simulator.history(until=until, runs=400, days=20) if each["project"] == "acme/shop"
    ]


def connect(tenants: Any, namespace: str, provider: ProviderClient, **spec: Any) -> None:
    tenants.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "github-token", "namespace": namespace},
            "stringData": {"token": provider.token},
        }
    )
    wanted = {
        "connector": "github",
        "config": {"baseUrl": provider.url},
        "credentials": {"secretRef": {"name": "github-token"}},
        "projects": ["acme/shop"],
        "sync": {"backfill": "30d", "every": "1h"},
    }
    tenants.kubectl.apply(
        {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": "Integration",
            "metadata": {"name": "github", "namespace": namespace},
            "spec": wanted | spec,
        }
    )


def current(tenants: Any, namespace: str) -> tuple[str, str] | None:
    status = (tenants.kubectl.get("integration", "github", "-n", namespace) or {}).get("status") or {}
    for told in status.get("conditions") or []:
        if told["type"] == "SyncCurrent":
            return told["status"], told["reason"]
    return None


def stored(tenants: Any, tenant: str, what: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(tenants.secret(tenant)["uri"]) as own:
        return sorted(own.execute(f"SELECT provider_id, attempt, outcome FROM history.{what}").fetchall())


def test_what_happened_before_the_webhook_is_read_and_stored(
    tenants: Any, eventually: Any, provider: ProviderClient, records: list[dict[str, Any]]
) -> None:
    home: str = tenants.ready()["metadata"]["name"]
    provider.tell("history", {"records": records})
    provider.tell(
        "faults", {"path": "/repos/acme/shop/actions/runs", "status": 429, "headers": {"Retry-After": "2"}}
    )
    connect(tenants, home, provider)
    eventually(
        lambda: current(tenants, home) == ("True", "SyncCurrent"),
        within=120,
        says=lambda: str(tenants.kubectl.get("integration", "github", "-n", home)),
    )
    for kind in ("run", "job"):
        told = [each for each in records if each["type"] == kind]
        assert stored(tenants, home, f"{kind}s") == sorted(
            (each["id"], each["attempt"], each["outcome"]) for each in told
        )
    status = tenants.kubectl.get("integration", "github", "-n", home)["status"]
    assert status["sync"].get("cursor", "") == ""
    assert status["sync"]["through"]


def test_a_provider_that_lists_nothing_of_a_project_is_told_by_its_name(
    tenants: Any, eventually: Any, provider: ProviderClient
) -> None:
    home: str = tenants.ready()["metadata"]["name"]
    provider.tell("faults", {"path": "/repos/acme/gone/actions/runs", "status": 404, "times": 1000})
    connect(tenants, home, provider, projects=["acme/gone"])
    eventually(lambda: current(tenants, home) == ("False", "ProviderRefused"), within=60)
    status = tenants.kubectl.get("integration", "github", "-n", home)["status"]
    (told,) = [each for each in status["conditions"] if each["type"] == "SyncCurrent"]
    assert told["message"] == "acme/gone: GitHub Actions answered 404: simulated 404"
    ready = [each["status"] for each in status["conditions"] if each["type"] == "Ready"]
    assert ready == ["True"]
