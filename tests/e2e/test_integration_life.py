"""An Integration's life on real servers: the webhook made ready, credentials shown, all of it taken away."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dev import web
from dev.demo.scene import ProviderClient
from dev.stack import Stack


@pytest.fixture
def home(tenants: Any) -> str:
    """A tenant's namespace."""
    name: str = tenants.ready()["metadata"]["name"]
    return name


Connect = Callable[..., None]


@pytest.fixture
def connect(tenants: Any, provider: ProviderClient) -> Connect:
    """Apply an Integration; by default one that works."""

    def apply(namespace: str, *, token: str | None = None, secret: bool = True, **spec: Any) -> None:
        if secret:
            tenants.kubectl.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "github-token", "namespace": namespace},
                    "stringData": {"token": token or provider.token},
                }
            )
        wanted = {
            "connector": "github",
            "config": {"baseUrl": provider.url},
            "credentials": {"secretRef": {"name": "github-token"}},
            "projects": ["acme/shop"],
        }
        tenants.kubectl.apply(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Integration",
                "metadata": {"name": "github", "namespace": namespace},
                "spec": wanted | spec,
            }
        )

    return apply


def condition(tenants: Any, namespace: str, kind: str) -> tuple[str, str] | None:
    found = tenants.kubectl.get("integration", "github", "-n", namespace) or {}
    for told in (found.get("status") or {}).get("conditions") or []:
        if told["type"] == kind and told["observedGeneration"] == found["metadata"]["generation"]:
            return told["status"], told["reason"]
    return None


def wait(eventually: Any, tenants: Any, namespace: str, kind: str, expected: tuple[str, str]) -> None:
    eventually(
        lambda: condition(tenants, namespace, kind) == expected,
        within=60,
        says=f"{kind} is {expected}: {tenants.kubectl.get('integration', 'github', '-n', namespace)}",
    )


def routes(stack: Stack, namespace: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.parts.platform()["pipewright_runner"], autocommit=True) as conn:
        return conn.execute(
            "SELECT hook_id, connector, projects, enabled, sealed_secret IS NOT NULL"
            " FROM pipewright.routes WHERE namespace = %s",
            [namespace],
        ).fetchall()


def vault_paths(stack: Stack, tenant_id: str) -> list[str]:
    found = web.ask(
        f"{stack.parts.vault().address}/v1/tenants/metadata/{tenant_id}/platform/integrations?list=true",
        headers={"X-Vault-Token": stack.parts.vault().root_token},
    )
    assert found is not None
    return found.document["data"]["keys"] if found.code == 200 else []


def test_an_integration_becomes_ready_and_the_gateway_knows_its_route(
    tenants: Any, stack: Stack, eventually: Any, home: str, connect: Connect, provider: ProviderClient
) -> None:
    connect(home)
    wait(eventually, tenants, home, "Ready", ("True", "Ready"))
    found = tenants.kubectl.get("integration", "github", "-n", home)
    path = found["status"]["webhook"]["path"]
    assert routes(stack, home) == [(path.removeprefix("/hooks/"), "github", ["acme/shop"], True, True)]
    secret = tenants.kubectl.get("secret", found["status"]["webhook"]["secretRef"]["name"], "-n", home)
    fields = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert fields["path"] == path
    assert fields["url"] == f"{stack.gateway_url}{path}"
    assert len(bytes.fromhex(fields["secret"])) == 32
    assert secret["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
    everything = json.dumps(found) + tenants.kubectl.run("get", "events", "-n", home, "-o", "json")
    assert fields["secret"] not in everything
    assert provider.token not in everything


def test_a_change_of_the_spec_reaches_the_route_and_the_path_stays(
    tenants: Any, stack: Stack, eventually: Any, home: str, connect: Connect
) -> None:
    connect(home)
    wait(eventually, tenants, home, "Ready", ("True", "Ready"))
    ((hook, *_),) = routes(stack, home)
    connect(home, projects=["acme/pay"], webhook={"enabled": False})
    wait(eventually, tenants, home, "WebhookReady", ("True", "Disabled"))
    eventually(lambda: routes(stack, home) == [(hook, "github", ["acme/pay"], False, True)])
    assert "webhook" not in tenants.kubectl.get("integration", "github", "-n", home)["status"]
    connect(home)
    wait(eventually, tenants, home, "WebhookReady", ("True", "WebhookReady"))
    eventually(lambda: routes(stack, home) == [(hook, "github", ["acme/shop"], True, True)])


def test_credentials_that_the_provider_refuses_are_told_and_do_not_keep_events_out(
    tenants: Any, stack: Stack, eventually: Any, home: str, connect: Connect
) -> None:
    connect(home, token="canary-of-a-wrong-token")
    wait(eventually, tenants, home, "CredentialsValid", ("False", "CredentialsRefused"))
    wait(eventually, tenants, home, "WebhookReady", ("True", "WebhookReady"))
    assert "canary" not in json.dumps(tenants.kubectl.get("integration", "github", "-n", home))


def test_a_secret_that_comes_later_is_found(
    tenants: Any, eventually: Any, home: str, connect: Connect
) -> None:
    connect(home, secret=False)
    wait(eventually, tenants, home, "CredentialsValid", ("False", "SecretMissing"))
    connect(home)
    wait(eventually, tenants, home, "Ready", ("True", "Ready"))


WRONG = {
    "an unknown connector": ({"connector": "gitlub"}, "UnknownConnector", "github"),
    "a config that the connector refuses": ({"config": {"url": "x"}}, "InvalidConfig", "baseUrl"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_stalled(
    sentence: str, tenants: Any, stack: Stack, eventually: Any, home: str, connect: Connect
) -> None:
    spec, reason, part = WRONG[sentence]
    connect(home, **spec)
    wait(eventually, tenants, home, "Stalled", ("True", reason))
    found = tenants.kubectl.get("integration", "github", "-n", home)
    (stalled,) = [told for told in found["status"]["conditions"] if told["type"] == "Stalled"]
    assert part in stalled["message"]
    assert routes(stack, home) == []


def test_an_address_that_is_not_allowed_is_not_called(
    tenants: Any, eventually: Any, home: str, connect: Connect
) -> None:
    connect(home, config={"baseUrl": "https://127.0.0.1:1"})
    wait(eventually, tenants, home, "CredentialsValid", ("False", "AddressRefused"))


def test_a_deleted_integration_leaves_nothing(
    tenants: Any, stack: Stack, eventually: Any, home: str, connect: Connect
) -> None:
    connect(home)
    wait(eventually, tenants, home, "Ready", ("True", "Ready"))
    tenant_id = tenants.get(home)["status"]["id"]
    assert len(vault_paths(stack, tenant_id)) == 1
    tenants.kubectl.run("delete", "integration", "github", "-n", home, "--timeout=30s")
    assert routes(stack, home) == []
    assert vault_paths(stack, tenant_id) == []
    eventually(
        lambda: tenants.kubectl.get("secret", "github-webhook", "-n", home) is None,
        within=60,
        says="the webhook's Secret is collected",
    )
    assert tenants.kubectl.get("secret", "github-token", "-n", home) is not None


def test_a_namespace_that_is_no_tenants_waits(tenants: Any, eventually: Any, connect: Connect) -> None:
    name = f"n-{uuid.uuid4().hex[:8]}"
    tenants.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    connect(name)
    wait(eventually, tenants, name, "Ready", ("False", "NoTenant"))
    tenants.kubectl.run("delete", "integration", "github", "-n", name, "--timeout=30s")
    tenants.kubectl.run("delete", "namespace", name, "--wait=false")
