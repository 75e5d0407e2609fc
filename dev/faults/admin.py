"""The administrator's own way to the servers, past the proxies: quick, over connections that stay open."""

from __future__ import annotations

import ssl
from typing import Any

import yaml

from dev.connection import Http
from dev.parts import Cluster
from dev.problem import Problem
from dev.vault import Vault

TENANTS = "/apis/pipewright.dev/v1alpha1/tenants"


class Kubernetes:
    """The API server, as the cluster's administrator."""

    def __init__(self, cluster: Cluster) -> None:
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        token = document["users"][0]["user"]["token"]
        trust = ssl.create_default_context(cadata=cluster.endpoint.authority.decode())
        self._http = Http(cluster.endpoint.server, {"Authorization": f"Bearer {token}"}, trust)

    def get(self, path: str) -> Any:
        """The object or list; None for 404."""
        code, found = self._http.call("GET", path)
        return None if code == 404 else self._good(code, found, path)

    def send(self, method: str, path: str, body: object = None, *, kind: str = "json") -> Any:
        """A write that must succeed."""
        code, found = self._http.call(method, path, body, kind=kind)
        return self._good(code, found, path)

    def patch(self, path: str, body: object) -> Any:
        """A merge patch."""
        return self.send("PATCH", path, body, kind="merge-patch+json")

    def delete(self, path: str) -> None:
        """Ask for a deletion; gone already is fine."""
        code, found = self._http.call("DELETE", path)
        if code != 404:
            self._good(code, found, path)

    def _good(self, code: int, found: Any, path: str) -> Any:
        if code >= 300:
            raise Problem(f"{path} was answered with {code}: {(found or {}).get('message', '')}")
        return found


class VaultAdmin:
    """Vault, with its root token."""

    def __init__(self, vault: Vault) -> None:
        self._http = Http(vault.address, {"X-Vault-Token": vault.root_token})

    def get(self, path: str) -> Any:
        """The `data` of an answer; None for 404."""
        code, found = self._http.call("GET", f"/v1/{path}")
        return None if code == 404 else self._good(code, found, path)["data"]

    def list(self, path: str) -> list[str]:
        """The keys below a path."""
        code, found = self._http.call("GET", f"/v1/{path}?list=true")
        return [] if code == 404 else list(self._good(code, found, path)["data"]["keys"])

    def send(self, method: str, path: str, body: object = None) -> Any:
        """A write that must succeed."""
        code, found = self._http.call(method, f"/v1/{path}", body)
        return self._good(code, found, path)

    def _good(self, code: int, found: Any, path: str) -> Any:
        if code >= 300:
            raise Problem(f"Vault answered {path} with {code}")
        return found or {}
