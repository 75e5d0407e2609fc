"""The servers as an administrator reaches them: aiohttp, psycopg and hvac, with nothing between."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import hvac
import psycopg
import yaml

from dev.stack import Stack
from pipewright import names

TENANTS = "/apis/pipewright.dev/v1alpha1/tenants"
PROVISIONER = "system:serviceaccount:pipewright-system:provisioner"
SPEC = {
    "quota": {"requests.cpu": "4", "pods": "50"},
    "limits": {"default": {"memory": "512Mi"}, "max": {"memory": "4Gi"}},
    "access": {
        "owners": [{"kind": "User", "name": "ada"}],
        "editors": [{"kind": "Group", "name": "developers"}],
        "viewers": [{"kind": "Group", "name": "support"}],
    },
}
"""Every object that a Tenant can have."""


class Servers:
    """Requests to the three servers; every answer must be a success."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        cluster, vault = stack.parts.system(), stack.parts.vault()
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        assert cluster.audit_log is not None
        self.audit: Path = cluster.audit_log
        self._audited, self._writes = 0, list[tuple[str, str]]()
        [self.vault_audit] = stack.folder.rglob("vault-audit.jsonl")
        self.admin_dsn: str = stack.parts.database().admin_dsn
        self.http, self._server = http, cluster.endpoint.server
        self._headers = {"Authorization": f"Bearer {document['users'][0]['user']['token']}"}
        self._trust = ssl.create_default_context(cadata=cluster.endpoint.authority.decode())
        self._vault = hvac.Client(url=vault.address, token=vault.root_token)

    async def kubernetes(self, method: str, path: str, body: Any = None, *, kind: str = "json") -> Any:
        """One request to the API server."""
        sent = {**self._headers, "Content-Type": f"application/{kind}"}
        data = None if body is None else json.dumps(body)
        async with self.http.request(
            method, self._server + path, data=data, headers=sent, ssl=self._trust
        ) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def forget(self, name: str) -> None:
        """Take a Tenant away without a teardown, and its namespace out of the provisioner's sight.

        A thousand namespaces take the controller manager many minutes to delete.
        """
        path, kind = f"{TENANTS}/{name}", "merge-patch+json"
        await self.kubernetes("PATCH", path, {"metadata": {"finalizers": []}}, kind=kind)
        await self.kubernetes("DELETE", path)
        labels = dict.fromkeys((names.TENANT_LABEL, names.UID_LABEL))
        await self.kubernetes(
            "PATCH", f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}}, kind=kind
        )

    async def watch(self, path: str, *, since: str, seen: Callable[[Any], bool]) -> None:
        """Hand out what changes from a resourceVersion on, until `seen` says that it was enough."""
        url = f"{self._server}{path}?watch=1&resourceVersion={since}"
        async with self.http.get(
            url, headers=self._headers, ssl=self._trust, read_bufsize=2**22, timeout=_ENDLESS
        ) as answer:
            async for line in answer.content:
                if seen(json.loads(line)["object"]):
                    return

    async def vault(self, path: str, body: dict[str, Any]) -> None:
        """One write to Vault by hvac, in a thread."""
        await asyncio.to_thread(self._vault.write_data, path, data=body)

    async def sql(self, *statements: str, database: str = "postgres") -> None:
        """Statements on a connection of their own."""
        async with await psycopg.AsyncConnection.connect(
            self.admin_dsn, dbname=database, autocommit=True
        ) as conn:
            for statement in statements:
                await conn.execute(statement)

    def written(self, *, but: str = "") -> int:
        """The provisioner's writes in the audit log so far, Leases and those about `but` aside."""
        with self.audit.open("rb") as log:
            log.seek(self._audited)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # being written right now
                self._audited += len(line)
                target = json.loads(line).get("objectRef", {}) if PROVISIONER.encode() in line else {}
                if target and target.get("resource") != "leases":
                    self._writes.append((target.get("name", ""), target.get("namespace", "")))
        if not but:
            return len(self._writes)
        ours = (any(part == but or part.startswith(f"{but}.") for part in about) for about in self._writes)
        return len(self._writes) - sum(ours)

    async def at_rest(self, *, quiet: float = 8.0, within: float = 900.0) -> None:
        """Wait until the provisioner has written nothing for `quiet` seconds."""
        before, now = -1, self.written()
        async with asyncio.timeout(within):
            while now != before:
                await asyncio.sleep(quiet)
                before, now = now, self.written()

    async def create(self, name: str) -> Any:
        """Create a Tenant with every object that one can have."""
        document = {"apiVersion": "pipewright.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}}
        return await self.kubernetes("POST", TENANTS, {**document, "spec": SPEC})

    async def until_ready(
        self, count: int, *, within: float = 1800.0, note: Callable[[int], None] = lambda _: None
    ) -> dict[str, float]:
        """Create so many Tenants at once; for each, the seconds from its create to Ready.

        `note` hears how many are ready each time that one more is.
        """
        wanted = [f"b-{uuid.uuid4().hex[:10]}" for _ in range(count)]
        listed = await self.kubernetes("GET", f"{TENANTS}?limit=1")
        began: dict[str, float] = {}
        ready: dict[str, float] = {}
        bound = asyncio.Semaphore(20)

        def seen(found: Any) -> bool:
            name = found["metadata"]["name"]
            if name in began and name not in ready and is_ready(found):
                ready[name] = time.perf_counter() - began[name]
                note(len(ready))
            return len(ready) == count

        async def create(name: str) -> None:
            async with bound:
                began[name] = time.perf_counter()
                await self.create(name)

        async with asyncio.timeout(within):
            await asyncio.gather(
                self.watch(TENANTS, since=listed["metadata"]["resourceVersion"], seen=seen),
                *(create(name) for name in wanted),
            )
        return ready


_ENDLESS = aiohttp.ClientTimeout(total=None)


def is_ready(found: Any) -> bool:
    """Whether the Tenant's status says Ready."""
    conditions = found.get("status", {}).get("conditions", [])
    return any((it["type"], it["status"]) == ("Ready", "True") for it in conditions)
