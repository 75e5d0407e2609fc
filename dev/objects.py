"""Objects of an API server over a connection that stays open: kubectl without its processes.

kubectl takes 0.1 to 0.3 s of a core for one answer, and stories look at the same fact many times. Names of
kinds are those that kubectl takes; they come from the server's aggregated discovery.
"""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml

from dev.connection import Http
from dev.problem import Problem

_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_TRIES, _PAUSE_S = 20, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Where the objects of one kind are."""

    prefix: str
    """`/api/v1`, `/apis/GROUP/VERSION`."""
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`v1`, `GROUP/VERSION`."""
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")

    def path(self, namespace: str | None, name: str = "") -> str:
        """URL path of one object, or of all in a namespace, or of all (None)."""
        place = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        return f"{self.prefix}{place}/{self.plural}" + (f"/{quote(name)}" if name else "")


class Objects:
    """Reads and applies objects with the token of a kubeconfig; safe to use from several threads."""

    def __init__(self, server: str, token: str, authority: bytes) -> None:
        self._server, self._token = server, token
        self._trust = ssl.create_default_context(cadata=authority.decode()) if authority else None
        self._resources: dict[str, Resource] = {}
        self._own = threading.local()

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One object; None when there is none. Raises Problem with the server's words."""
        return self._read(self.resource(kind).path(namespace, name))

    def list(self, kind: str, namespace: str | None, *, selectors: Mapping[str, str]) -> dict[str, Any]:
        """A List of what a namespace has, or of everything (None), as kubectl prints it."""
        resource = self.resource(kind)
        found = self._read(f"{resource.path(namespace)}?{urlencode(selectors)}") or {"items": []}
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        return {**found, "apiVersion": "v1", "kind": "List", "items": [named | one for one in found["items"]]}

    def apply(self, document: dict[str, Any], *, manager: str) -> dict[str, Any]:
        """Server-side apply, as `kubectl apply --server-side` does; the object as it is now."""
        metadata = document["metadata"]
        resource = self.resource(document["kind"], document["apiVersion"])
        path = resource.path(metadata.get("namespace", "default"), metadata["name"])
        how = f"?fieldManager={manager}&fieldValidation=Strict"
        code, found = self._call("PATCH", path + how, document, kind="apply-patch+yaml")
        return dict(_good(code, found, f"apply of {document['kind']} {metadata['name']}"))

    def token(self, account: str, *, namespace: str, audience: str, hours: int) -> str:
        """A fresh ServiceAccount token (TokenRequest); an empty audience is the API server's own."""
        path = self.resource("serviceaccounts").path(namespace, account) + "/token"
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": hours * 3600}
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        code, found = self._call("POST", path, wanted)
        return str(_good(code, found, f"a token of {namespace}/{account}")["status"]["token"])

    def resource(self, kind: str, api_version: str = "") -> Resource:
        """By plural, singular, short name or kind; it asks again for what it has not heard of.

        Raises Problem when the server does not serve it.
        """
        key = f"{api_version}/{kind}".lower()
        if key not in self._resources:
            self._resources = self._discovered()
        if key not in self._resources:
            raise Problem(f"the API server does not serve {kind} {api_version}".rstrip())
        return self._resources[key]

    def _discovered(self) -> dict[str, Resource]:
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            code, groups = self._call("GET", root, accept=_DISCOVERY)
            for group in _good(code, groups, root)["items"]:
                for version in group["versions"]:
                    prefix = "/".join(filter(None, (root, group["metadata"].get("name"), version["version"])))
                    for served in version["resources"]:
                        for key, resource in _named(served, prefix):
                            found.setdefault(key, resource)
        return found

    def _read(self, path: str) -> dict[str, Any] | None:
        code, found = self._call("GET", path)
        if code == 404:
            return None
        for one in _good(code, found, path).get("items", [found]):
            one["metadata"].pop("managedFields", None)  # as kubectl shows it
        return dict(found)

    def _call(self, method: str, path: str, document: object = None, **how: str) -> tuple[int, Any]:
        for _ in range(_TRIES):
            code, found = self._http.call(method, path, document, **how)
            if code != 429:
                break
            time.sleep(_PAUSE_S)  # its store of a new kind is being made, or it has too much to do
        return code, found

    @property
    def _http(self) -> Http:
        if not hasattr(self._own, "http"):
            headers = {"Authorization": f"Bearer {self._token}", "User-Agent": "pipewright-stack"}
            self._own.http = Http(self._server, headers, self._trust)
        return self._own.http  # type: ignore[no-any-return]


def _named(served: dict[str, Any], prefix: str) -> list[tuple[str, Resource]]:
    resource = Resource(
        prefix=prefix,
        plural=served["resource"],
        kind=served["responseKind"]["kind"],
        namespaced=served["scope"] == "Namespaced",
    )
    names = {resource.plural, served.get("singularResource"), resource.kind, *served.get("shortNames", ())}
    keys = [name.lower() for name in names if name]
    return [(f"{at}/{key}", resource) for key in keys for at in ("", resource.api_version.lower())]


def _good(code: int, found: Any, what: str) -> Any:
    if code >= 300:
        raise Problem(f"{what} was answered with {code}: {(found or {}).get('message', '')}")
    return found


def _proxied(server: SplitResult) -> bool:
    return server.scheme in getproxies() and not proxy_bypass(server.hostname or "")


_known: dict[tuple[Path, int], Objects | None] = {}


def of(kubeconfig: Path) -> Objects | None:
    """The server of a kubeconfig; None where only kubectl knows how to get there.

    That is by a login that is no token, through a proxy, or under another name.
    """
    key = (kubeconfig, kubeconfig.stat().st_mtime_ns)
    if key not in _known:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        authority = base64.b64decode(cluster.get("certificate-authority-data", ""))
        plain = set(user) == {"token"} and set(cluster) == {"server", "certificate-authority-data"}
        usable = plain and not _proxied(urlsplit(cluster["server"]))
        _known[key] = Objects(cluster["server"], user["token"], authority) if usable else None
    return _known[key]
