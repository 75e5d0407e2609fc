"""Three tenants with confusing names, the intruders' real tokens, and the list of what was tried.

Every attempt has a positive control: the same request by somebody who may, so that a refusal is never an
accident of a wrong name. The list is printed at the end of the session.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from dev import web
from dev.kubectl import Kubectl
from dev.stack import Stack
from dev.vault import Vault

PEOPLE = "attack-people"
NAMES = ("a", "ab", "a-b")
"""Neighbours whose names begin alike: what compares by prefix lets one into the other."""

_TRIED = pytest.StashKey[list[tuple[str, str]]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was tried and who refused it."""
    tried = config.stash.get(_TRIED, [])
    if not tried:
        return
    terminalreporter.section(f"attack suite: {len(tried)} attempts, all refused")
    for sentence, layer in sorted(set(tried)):
        terminalreporter.write_line(f"{layer:<10} {sentence}")


def eventually(fact: Callable[[], Any], *, says: str, within: float = 90.0) -> Any:
    """The first value of `fact` that is not None or False."""
    deadline = time.monotonic() + within
    while not (found := fact()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {within:.0f} s still not so: {says}")
        time.sleep(0.1)
    return found


@dataclass(frozen=True, kw_only=True)
class Api:
    """The API server by plain requests, each with the bearer token of somebody."""

    server: str
    authority: Path
    admin: str = field(repr=False)

    def ask(self, token: str, method: str, path: str, body: object = None, *, dry: bool = True) -> web.Answer:
        """The answer to one request; writes are dry runs, which pass RBAC and admission like others."""
        query = "?dryRun=All" if dry and method != "GET" else ""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        answer = web.ask(
            f"{self.server}{path}{query}",
            method=method,
            document=body,
            headers=headers,
            authority=self.authority,
            timeout=30.0,
        )
        assert answer is not None
        return answer


@dataclass(frozen=True, kw_only=True)
class Place:
    """One tenant, and what its people hold."""

    name: str
    id: str
    status: dict[str, Any]
    secret: dict[str, str] = field(repr=False)
    owner: str = field(repr=False)
    """Token of the ServiceAccount that spec.access.owners names."""
    account: str = field(repr=False)
    """Token of the tenant's own ServiceAccount `pipewright`."""
    vault_jwt: str = field(repr=False)
    """The same account's token for Vault."""

    def connect(self, **other: Any) -> psycopg.Connection[Any]:
        """A session of the tenant's application login."""
        fields: dict[str, Any] = {
            key: self.secret[key] for key in ("host", "port", "dbname", "user", "password")
        }
        return psycopg.connect(**(fields | other), connect_timeout=5, autocommit=True)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that an attempt needs."""

    stack: Stack
    kubectl: Kubectl
    api: Api
    vault: Vault
    places: dict[str, Place]
    strong: str = field(repr=False)
    """Token of somebody whom RBAC lets do anything with the kinds that we protect: admission must refuse."""
    tried: list[tuple[str, str]]

    def eventually(self, fact: Callable[[], Any], *, says: str) -> Any:
        """Wait for a fact."""
        return eventually(fact, says=says)

    @property
    def a(self) -> Place:
        """The intruder's own tenant."""
        return self.places["a"]

    @property
    def victim(self) -> Place:
        """The neighbour."""
        return self.places["ab"]


@pytest.fixture(scope="session")
def scene(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The tenants `a`, `ab` and `a-b`, Ready."""
    cluster, vault = stack.parts.system(), stack.parts.vault()
    kubectl, authority = cluster.kubectl, tmp_path_factory.mktemp("attack") / "ca.crt"
    authority.write_bytes(cluster.endpoint.authority)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    api = Api(server=cluster.endpoint.server, authority=authority, admin=config["users"][0]["user"]["token"])
    _people(kubectl)
    kubectl.apply(*map(_tenant, NAMES))
    places = {name: _place(kubectl, name) for name in NAMES}
    yield Scene(
        stack=stack,
        kubectl=kubectl,
        api=api,
        vault=vault,
        places=places,
        strong=kubectl.token("strong", namespace=PEOPLE),
        tried=request.config.stash.setdefault(_TRIED, []),
    )
    kubectl.run("delete", "tenant", *NAMES, "--wait=false")
    eventually(lambda: not any(kubectl.get("tenant", name) for name in NAMES), says="the tenants are gone")
    kubectl.run(
        "delete",
        "clusterrolebinding/attack-strong",
        "clusterrole/attack-strong",
        f"namespace/{PEOPLE}",
        "--wait=false",
    )


def _people(kubectl: Kubectl) -> None:
    rules = [
        {
            "apiGroups": ["", "networking.k8s.io", "rbac.authorization.k8s.io"],
            "resources": [
                *("namespaces", "namespaces/status", "namespaces/finalize", "resourcequotas"),
                *(
                    "resourcequotas/status",
                    "limitranges",
                    "serviceaccounts",
                    "serviceaccounts/token",
                    "secrets",
                ),
                *("networkpolicies", "rolebindings", "roles", "clusterroles"),
            ],
            "verbs": ["*"],
        }
    ]
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "strong", "namespace": PEOPLE}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PEOPLE}},
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": PEOPLE}}
            for name in ("strong", *(f"owner-{name}" for name in NAMES))
        ),
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "attack-strong"},
            "rules": rules,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "attack-strong"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "attack-strong"},
            "subjects": [subject],
        },
    )


def _tenant(name: str) -> dict[str, Any]:
    owner = {"kind": "ServiceAccount", "name": f"owner-{name}", "namespace": PEOPLE}
    spec = {
        "deletionPolicy": "Delete",
        "finalDump": "Skip",  # large objects, which an attack leaves, cannot be dumped
        "quota": {"pods": 9, "count/secrets": 50},
        "limits": {"default": {"cpu": "100m"}},
        "access": {"owners": [owner]},
        "database": {"dynamicCredentials": {}},
    }
    return {
        "apiVersion": "pipewright.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name},
        "spec": spec,
    }


def _place(kubectl: Kubectl, name: str) -> Place:
    def ready() -> dict[str, Any] | None:
        found = kubectl.get("tenant", name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        held = any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)
        return found if held else None

    found = eventually(ready, says=f"tenant {name} is Ready")
    raw = json.loads(kubectl.run("get", "secret", "pipewright-database", "-n", name, "-o", "json"))

    return Place(
        name=name,
        id=found["status"]["id"],
        status=found["status"],
        secret={key: base64.b64decode(value).decode() for key, value in raw["data"].items()},
        owner=kubectl.token(f"owner-{name}", namespace=PEOPLE),
        account=kubectl.token("pipewright", namespace=name),
        vault_jwt=kubectl.token("pipewright", namespace=name, audience="vault"),
    )
