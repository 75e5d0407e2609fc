"""The same servers for the runner: a tenant that stays, and a CI system behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dev import files, process, product, throwaway, web
from dev.demo.scene import ProviderClient
from dev.faults.admin import TENANTS
from dev.faults.rig import PROVISIONER, Rig
from dev.faults.stories import is_ready
from dev.stack import Stack

HOME = "faults-home"
"""The tenant, and its namespace."""


class RunnerRig(Rig):
    """The provisioner runs undisturbed beside; faults happen to the runner."""

    component = "runner"
    kind = "Integration"
    logins = ("platform.dsn",)

    def __init__(self, stack: Stack, *, ray: str | None = None) -> None:
        self.provider = ProviderClient(stack)
        super().__init__(stack, provider=self.provider.url, ray=ray)
        self.port = stack.layout.ports[self.component]
        self.tenant_id = ""

    @property
    def provider_address(self) -> str:
        """The CI system as the runner reaches it."""
        return f"http://127.0.0.1:{self.proxies.ports['provider']}"

    def path(self, name: str) -> str:
        """Where the API server has the Integration of this name."""
        return f"/apis/pipewright.dev/v1alpha1/namespaces/{HOME}/integrations/{name}"

    def adapt(self, settings: dict[str, Any]) -> None:
        """The CI system is reached by its proxy only; no model is trained, so nobody asks for Ray."""
        settings["outbound"] = {"allow": [self.provider_address.removeprefix("http://")]}
        token = self.stack.folder / "ray.token"
        if not token.exists():
            files.write(token, "unused")

    def settle_in(self) -> None:
        """Start what the stories need: the CI system, a provisioner, and a tenant that is Ready."""
        self.provider.start()
        self.settle_tenant()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "token", "namespace": HOME},
            "stringData": {"token": self.provider.token},
        }
        if self.kubernetes.get(f"/api/v1/namespaces/{HOME}/secrets/token") is None:
            self.kubernetes.send("POST", f"/api/v1/namespaces/{HOME}/secrets", secret)

    def settle_tenant(self) -> None:
        """A provisioner, and a tenant that is Ready."""
        port = self.stack.layout.ports[PROVISIONER]
        process.start(product.process(PROVISIONER, folder=self.stack.folder, port=port))
        if self.kubernetes.get(f"{TENANTS}/{HOME}") is None:
            document = {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": HOME},
                "spec": {},
            }
            self.kubernetes.send("POST", TENANTS, document)
        found = self.until(self._home, within=60, says=f"the tenant {HOME} is Ready")
        self.tenant_id = found["status"]["id"]

    def _home(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.kubernetes.get(f"{TENANTS}/{HOME}")
        return found if is_ready(found) else None

    def hooks(self, project: str) -> list[dict[str, Any]]:
        """The webhooks of a project (or of all), with their secrets: the simulator tells tests alone."""
        found = web.demand(
            f"{self.provider.url}/_sim/hooks",
            headers={"Authorization": f"Bearer {self.provider.token}"},
        )
        return [hook for hook in found if project in ("", hook["project"])]

    def close(self) -> None:
        """End what this object opened; the stack is its owner's."""
        self.provider.stop()
        process.stop(self.stack.folder, PROVISIONER)
        super().close()


@contextmanager
def runner_rig() -> Iterator[RunnerRig]:
    """Servers of our own, gone afterwards."""
    with throwaway.stack() as stack:
        made = RunnerRig(stack)
        try:
            made.settle_in()
            yield made
        finally:
            made.close()
