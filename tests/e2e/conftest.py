"""What the stories share: waiting for facts, and tenants that are taken away again."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from dev import controlplane
from dev.demo.scene import ProviderClient
from dev.kubectl import Kubectl
from dev.stack import Stack

T = TypeVar("T")

LONG_S = 30.0
PATIENCE = 3
"""A wait this long is no promise of speed, it ends what hangs: a busy machine gets three times as long."""


class Eventually(Protocol):
    """Polls until a fact holds."""

    def __call__(
        self, fact: Callable[[], T | None], *, within: float = 30.0, says: str | Callable[[], str] = ""
    ) -> T:
        """The first value that is not None or False; fails with what `says` tells after `within` seconds."""
        ...


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Wait for a fact, never for time."""

    def wait(fact: Callable[[], Any], *, within: float = 30.0, says: str | Callable[[], str] = "") -> Any:
        deadline = time.monotonic() + within * (PATIENCE if within >= LONG_S else 1)
        while True:
            found = fact()
            if found is not None and found is not False:
                return found
            if time.monotonic() > deadline:
                told = says() if callable(says) else says
                pytest.fail(f"after {within:.0f} s still not so: {told or fact}")
            pause(0.1)

    return wait


def pause(seconds: float) -> None:
    """Between two looks at the same fact."""
    time.sleep(seconds)


class Tenants:
    """Makes Tenants for a test, and knows where their things are."""

    def __init__(self, stack: Stack, eventually: Eventually) -> None:
        self.kubectl: Kubectl = stack.parts.system().kubectl
        self._stack, self._eventually = stack, eventually
        self.made: list[str] = []

    def apply(self, name: str | None = None, **spec: Any) -> str:
        """Apply a Tenant; its name (random when none is given)."""
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        self.kubectl.apply(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": name},
                "spec": spec,
            }
        )
        self.made.append(name)
        return name

    def ready(self, **spec: Any) -> dict[str, Any]:
        """Apply a Tenant and wait until it is Ready; the object."""
        return self.wait_ready(self.apply(**spec))

    def wait_ready(self, name: str, *, within: float = 60.0) -> dict[str, Any]:
        """The Tenant, once it is Ready for its current generation."""
        return self._eventually(
            lambda: self._if_ready(name), within=within, says=f"tenant {name} is Ready: {self.get(name)}"
        )

    def _if_ready(self, name: str) -> dict[str, Any] | None:
        tenant = self.get(name)
        condition = condition_of(tenant, "Ready") if tenant else None
        if not tenant or not condition or condition["status"] != "True":
            return None
        current = condition["observedGeneration"] == tenant["metadata"]["generation"]
        return tenant if current else None

    def get(self, name: str) -> dict[str, Any] | None:
        """The Tenant as it is now."""
        return self.kubectl.get("tenant", name)

    def delete(self, name: str) -> None:
        """Ask for its deletion, and do not wait."""
        self.kubectl.run("delete", "tenant", name, "--wait=false", "--ignore-not-found")

    def secret(self, name: str) -> dict[str, str]:
        """The connection Secret's fields, decoded."""
        found = self.kubectl.get("secret", "pipewright-database", "-n", name)
        assert found is not None
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def condition_of(manifest: dict[str, Any] | None, kind: str) -> dict[str, Any] | None:
    """One condition of an object's status."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), None)


@pytest.fixture(scope="session")
def leaving(stack: Stack, eventually: Eventually) -> Iterator[list[str]]:
    """Tenants whose tests are over: they go while other tests run, and all are gone in the end."""
    names: list[str] = []
    yield names
    kubectl = stack.parts.system().kubectl
    for name in names:
        eventually(
            lambda name=name: kubectl.get("tenant", name) is None, within=60, says=f"tenant {name} is gone"
        )


@pytest.fixture
def tenants(stack: Stack, eventually: Eventually, leaving: list[str]) -> Iterator[Tenants]:
    """Tenants of this test; deleted with their data afterwards."""
    made = Tenants(stack, eventually)
    yield made
    for name in made.made:
        if made.get(name):
            given_up = '{"spec":{"deletionPolicy":"Delete","finalDump":"Skip","deletionProtection":false}}'
            made.kubectl.run("patch", "tenant", name, "--type=merge", "-p", given_up)
            made.delete(name)
    leaving += made.made


@pytest.fixture(scope="module")
def provider(stack: Stack) -> Iterator[ProviderClient]:
    """The provider simulator where the allow-list has it; each module gets one that remembers nothing."""
    client = ProviderClient(stack)
    client.start()
    yield client
    client.stop()


class Audit:
    """The API server's audit log: who wrote what.

    Leases are left out: holding one is a write every 5 s. So are requests for tokens: nothing is stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def position(self) -> int:
        """How many writes there were until now."""
        return len(controlplane.writes(self._path))

    def writes(self, *, since: int, user: str) -> list[dict[str, str]]:
        """Writes by a user after a position, in order."""
        return [
            found
            for found in controlplane.writes(self._path)[since:]
            if found["user"] == user and found["resource"] != "leases" and found["subresource"] != "token"
        ]


@pytest.fixture(scope="session")
def audit(stack: Stack, audit_log: Path) -> Audit:
    """The audit log of the stack's own API server."""
    return Audit(audit_log)
