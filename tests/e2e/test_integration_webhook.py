"""A webhook registered at the provider simulator: made, repaired, rotated, its gaps filled, and removed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev import web
from dev.demo.scene import ProviderClient
from dev.github_payloads import github_events

EVENTS = ["deployment_status", "pull_request", "push", "workflow_job", "workflow_run"]
"""Of what the history keeps: runs, jobs, commits, deployments."""


@pytest.fixture
def home(tenants: Any) -> str:
    """A tenant's namespace."""
    name: str = tenants.ready()["metadata"]["name"]
    return name


class AtProvider:
    """The repository's webhooks, as whoever administers it sees and changes them."""

    def __init__(self, provider: ProviderClient, project: str) -> None:
        self._provider, self._project = provider, project

    def call(self, method: str, path: str = "", document: object = None) -> Any:
        return web.demand(
            f"{self._provider.url}/repos/{self._project}/hooks{path}",
            method=method,
            document=document,
            headers={"Authorization": f"Bearer {self._provider.token}"},
        )

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET")
        return found


@pytest.fixture
def project(home: str) -> str:
    """A repository that no other test of this module has."""
    return f"acme/{home}"


@pytest.fixture
def hooks(provider: ProviderClient, project: str) -> AtProvider:
    return AtProvider(provider, project)


Connect = Callable[..., None]


@pytest.fixture
def connect(tenants: Any, provider: ProviderClient, home: str, project: str) -> Iterator[Connect]:
    """Apply the credentials and an Integration with its webhook registered; it goes before the provider."""

    def apply(*, annotations: dict[str, str] | None = None, url: str = "", **webhook: Any) -> None:
        tenants.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "github-token", "namespace": home},
                "stringData": {"token": provider.token},
            }
        )
        tenants.kubectl.apply(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Integration",
                "metadata": {"name": "github", "namespace": home, "annotations": annotations or {}},
                "spec": {
                    "connector": "github",
                    "config": {"baseUrl": url or provider.url},
                    "credentials": {"secretRef": {"name": "github-token"}},
                    "projects": [project],
                    "webhook": {"register": True, **webhook},
                },
            }
        )

    yield apply
    named = ("integration", "github", "-n", home)
    if tenants.kubectl.get(*named) is not None:
        tenants.kubectl.run("annotate", *named, "--overwrite", "pipewright.dev/abandon=webhook")
        tenants.kubectl.run("delete", *named, "--timeout=30s")


def status(tenants: Any, home: str) -> dict[str, Any]:
    found = tenants.kubectl.get("integration", "github", "-n", home) or {}
    return found.get("status") or {}


def said(tenants: Any, home: str) -> tuple[str, str] | None:
    found = tenants.kubectl.get("integration", "github", "-n", home) or {}
    for told in (found.get("status") or {}).get("conditions") or []:
        current = told["observedGeneration"] == found["metadata"]["generation"]
        if told["type"] == "WebhookReady" and current:
            return told["status"], told["reason"]
    return None


def wait_registered(eventually: Any, tenants: Any, home: str) -> None:
    eventually(
        lambda: said(tenants, home) == ("True", "Registered"),
        within=60,
        says=lambda: f"it is registered: {status(tenants, home)}",
    )


def shown(tenants: Any, home: str) -> dict[str, str]:
    found = tenants.kubectl.get("secret", "github-webhook", "-n", home)
    return {name: base64.b64decode(value).decode() for name, value in found["data"].items()}


def deliver(provider: ProviderClient, project: str) -> dict[str, int]:
    """Have a finished run of the project delivered; the gateway's answers."""
    ends = datetime.now(UTC)
    times = {
        name: (ends - timedelta(minutes=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, ago in (("queuedAt", 6), ("startedAt", 5), ("finishedAt", 1))
    }
    record = {
        "type": "run",
        "project": project,
        "pipeline": "ci",
        "id": "71",
        "attempt": 1,
        "number": 71,
        "trigger": "push",
        "url": f"https://github.com/{project}/actions/runs/71",
        "branch": "main",
        "sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
        "actor": "ada",
        "outcome": "failure",
        **times,
    }
    event, payload = github_events(record)[-1]
    answered: dict[str, int] = provider.tell("deliver", [{"event": event, "payload": payload}])["statuses"]
    return answered


def asked_now() -> str:
    """A time that is later than any secret was made until now."""
    return (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_it_is_made_with_our_secret_and_its_deliveries_are_taken(
    tenants: Any,
    eventually: Any,
    home: str,
    project: str,
    connect: Connect,
    hooks: AtProvider,
    provider: ProviderClient,
) -> None:
    connect()
    wait_registered(eventually, tenants, home)
    (hook,) = hooks.all()
    assert hook["config"]["url"] == shown(tenants, home)["url"]
    assert sorted(hook["events"]) == EVENTS
    eventually(lambda: deliver(provider, project) == {"202": 1}, says="the gateway takes what it signs")


def test_one_that_was_entered_by_hand_is_taken_over(
    tenants: Any, eventually: Any, home: str, connect: Connect, hooks: AtProvider
) -> None:
    connect(register=False)
    eventually(lambda: said(tenants, home) == ("True", "WebhookReady"), within=60)
    config = {"url": shown(tenants, home)["url"], "secret": "mistyped", "content_type": "form"}
    by_hand = hooks.call("POST", "", {"name": "web", "events": ["push"], "config": config})
    connect()
    wait_registered(eventually, tenants, home)
    (hook,) = hooks.all()
    assert hook["id"] == by_hand["id"]
    assert sorted(hook["events"]) == EVENTS


def test_a_rotation_reaches_it_and_what_failed_before_is_sent_again(
    tenants: Any,
    eventually: Any,
    home: str,
    project: str,
    connect: Connect,
    hooks: AtProvider,
    provider: ProviderClient,
) -> None:
    connect()
    wait_registered(eventually, tenants, home)
    old = shown(tenants, home)["secret"]
    (hook,) = hooks.all()
    hooks.call("PATCH", f"/{hook['id']}", {"config": {"url": hook["config"]["url"], "secret": "wrong"}})
    eventually(lambda: deliver(provider, project) == {"401": 1}, says="the gateway refuses the wrong secret")
    connect(annotations={"pipewright.dev/rotate-requested-at": asked_now()})
    eventually(lambda: shown(tenants, home)["secret"] != old, within=60, says="the secret is rotated")
    eventually(
        lambda: (status(tenants, home).get("webhook") or {}).get("missed", {}).get("filledAt"),
        within=120,
        says=lambda: f"the gap is filled: {status(tenants, home)} {provider.ask('deliveries')}",
    )
    told = status(tenants, home)["webhook"]
    assert told["missed"]["count"] == 0
    assert [key["id"] for key in told["keys"]] == [2, 1]
    assert told["rotatedAt"]
    codes = [sent["codes"] for sent in provider.ask("deliveries") if sent["project"] == project]
    # asked for again while the secret was wrong, perhaps, and once it was right
    assert any(found[0] == 401 and found[-1] == 202 for found in codes)


def test_both_secrets_are_good_while_they_overlap_and_then_the_new_one_alone(
    tenants: Any,
    eventually: Any,
    home: str,
    project: str,
    connect: Connect,
    provider: ProviderClient,
) -> None:
    connect(register=False)
    eventually(lambda: said(tenants, home) == ("True", "WebhookReady"), within=60)
    old = shown(tenants, home)

    def entered(secret: str) -> None:
        provider.tell("hooks", {"url": old["url"], "secret": secret, "project": project})

    entered(old["secret"])
    eventually(lambda: deliver(provider, project) == {"202": 1}, says="the gateway knows the webhook")
    asked = {"pipewright.dev/rotate-requested-at": asked_now()}
    connect(register=False, annotations=asked)
    eventually(lambda: shown(tenants, home)["secret"] != old["secret"], within=60, says="it is rotated")
    new = shown(tenants, home)
    assert new["url"] == old["url"]
    for secret in (old["secret"], new["secret"], old["secret"]):
        entered(secret)
        eventually(lambda: deliver(provider, project) == {"202": 1}, says="both are good")
    keys = eventually(
        lambda: [key for key in status(tenants, home)["webhook"]["keys"] if "endsAt" in key] or None,
        within=60,
        says=lambda: f"the overlap has begun: {status(tenants, home)}",
    )
    assert [key["id"] for key in keys] == [1]
    connect(register=False, annotations=asked, rotation={"overlap": "0s"})
    eventually(
        lambda: [key["id"] for key in status(tenants, home)["webhook"]["keys"]] == [2],
        within=60,
        says="the old one has ended",
    )
    eventually(lambda: deliver(provider, project) == {"401": 1}, says="what the old one signs is refused")
    entered(new["secret"])
    eventually(lambda: deliver(provider, project) == {"202": 1}, says="the new one is good")
    everything = str(tenants.kubectl.get("integration", "github", "-n", home))
    assert old["secret"] not in everything
    assert new["secret"] not in everything


def test_a_deletion_takes_it_away(
    tenants: Any, eventually: Any, home: str, connect: Connect, hooks: AtProvider
) -> None:
    connect()
    wait_registered(eventually, tenants, home)
    tenants.kubectl.run("delete", "integration", "github", "-n", home, "--timeout=30s")
    assert hooks.all() == []


def test_a_deletion_waits_for_a_provider_that_is_gone_until_somebody_says_that_it_stays_so(
    tenants: Any, eventually: Any, home: str, connect: Connect, hooks: AtProvider
) -> None:
    connect()
    wait_registered(eventually, tenants, home)
    connect(url="https://127.0.0.1:1")  # an address that is refused: as good as gone
    tenants.kubectl.run("delete", "integration", "github", "-n", home, "--wait=false")
    eventually(
        lambda: said(tenants, home) == ("False", "AddressRefused"),
        within=60,
        says=lambda: f"it says what it waits for: {status(tenants, home)}",
    )
    abandon = "pipewright.dev/abandon=webhook"
    tenants.kubectl.run("annotate", "integration", "github", "-n", home, abandon)
    eventually(
        lambda: tenants.kubectl.get("integration", "github", "-n", home) is None,
        within=60,
        says="it does not wait any more",
    )
    assert len(hooks.all()) == 1
