"""Many Tenants at once until each is Ready, beside a bare loop that writes the same things.

The bare loop applies the same Kubernetes objects by server-side apply, clones the template database and
writes the same entries to Vault. It looks at nothing, compares nothing, makes no login and no status: no
controller can be as fast, and the ratio says how far ours is from it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import numpy as np
import psycopg
import pytest
import yaml

from controllers.tenant import objects
from dev import controlplane
from dev.stack import Stack
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.plan import Manifest
from pipewright.store import roles

COUNT, TIMES, WORKERS = 30, 5, 8
PROVISIONER = "system:serviceaccount:pipewright-system:provisioner"
TENANTS = "/apis/pipewright.dev/v1alpha1/tenants"
TABLE = f"Tenants: {COUNT} created at once until each is Ready"
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
    """The three servers, as administrators reach them, without a client library between."""

    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        cluster, vault = stack.parts.system(), stack.parts.vault()
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        self._http = http
        self._server = cluster.endpoint.server
        self._headers = {"Authorization": f"Bearer {document['users'][0]['user']['token']}"}
        self._trust = ssl.create_default_context(cadata=cluster.endpoint.authority.decode())
        self._vault, self._root = vault.address, vault.root_token
        self._admin = stack.parts.database().admin_dsn

    async def kubernetes(self, method: str, path: str, body: Any = None, *, kind: str = "json") -> Any:
        """One request to the API server; its answer must be 2xx."""
        sent = {**self._headers, "Content-Type": f"application/{kind}"}
        data = None if body is None else json.dumps(body)
        async with self._http.request(
            method, self._server + path, data=data, headers=sent, ssl=self._trust
        ) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def watch(self, path: str, *, since: str, seen: Callable[[Any], bool]) -> None:
        """Hand out what changes from a resourceVersion on, until `seen` says that it was enough."""
        url = f"{self._server}{path}?watch=1&resourceVersion={since}"
        async with self._http.get(url, headers=self._headers, ssl=self._trust, read_bufsize=2**22) as answer:
            async for line in answer.content:
                if seen(json.loads(line)["object"]):
                    return

    async def vault(self, path: str, body: Any) -> None:
        """One write to Vault."""
        url, headers = f"{self._vault}/v1/{path}", {"X-Vault-Token": self._root}
        async with self._http.post(url, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()

    async def sql(self, *statements: str) -> None:
        """Statements on a connection of their own."""
        async with await psycopg.AsyncConnection.connect(self._admin, autocommit=True) as conn:
            for statement in statements:
                await conn.execute(statement)  # type: ignore[call-overload]


@pytest.mark.timeout(300)
async def test_tenants_become_ready(stack: Stack, report: Any, figure: Any, meter: Any) -> None:
    audit = stack.parts.system().audit_log
    assert audit is not None
    rates, waits, costs, writes = [], [], [], []
    raw: dict[int, list[float]] = {1: [], WORKERS: []}
    async with AsyncExitStack() as closing:
        servers = Servers(stack, await closing.enter_async_context(aiohttp.ClientSession()))
        for _ in range(TIMES):
            for workers, found in raw.items():
                found.append(COUNT / await bare_loop(servers, workers=workers))
            before = written(audit)
            with meter.of(stack.folder, "provisioner") as cost:
                ready = await all_ready(servers)
                await at_rest(audit)
            costs.append(cost)
            writes.append((written(audit) - before) / COUNT)
            rates.append(COUNT / max(ready))
            waits.append(ready)
    notes = (
        f"provisioner CPU {sum(it.cpu for it in costs) / COUNT / TIMES:.2f} s a tenant,"
        f" RSS {max(it.rss for it in costs):.0f} MiB after {COUNT * TIMES} tenants"
    )
    report.add(
        TABLE,
        *(
            figure(
                what="Ready" if workers == 1 else "the same",
                unit="tenants per second",
                values=rates,
                limit=found,
                limit_is=f"bare loop, {workers} worker{'s' if workers > 1 else ''}",
                notes=notes if workers == 1 else "",
            )
            for workers, found in raw.items()
        ),
        *(
            figure(
                what=f"from create to Ready: p{100 * share:.0f}",
                unit="s",
                values=[float(np.quantile(each, share)) for each in waits],
            )
            for share in (0.5, 0.99)
        ),
        figure(
            what="writes to the API server for a tenant",
            unit="requests",
            values=writes,
            limit=[float(len(manifests(tenant(), "x" * 12)))] * TIMES,
            limit_is="objects that it has",
            notes="the provisioner's in the audit log, Events included",
        ),
    )


async def all_ready(servers: Servers) -> list[float]:
    """Create the Tenants at once; for each, the seconds from its create to Ready."""
    listed = await servers.kubernetes("GET", f"{TENANTS}?limit=1")
    wanted = [f"b-{uuid.uuid4().hex[:10]}" for _ in range(COUNT)]
    began: dict[str, float] = {}
    ready: dict[str, float] = {}

    def seen(found: Any) -> bool:
        name = found["metadata"]["name"]
        told = {it["type"]: it["status"] for it in found.get("status", {}).get("conditions", [])}
        if name in began and name not in ready and told.get("Ready") == "True":
            ready[name] = time.perf_counter() - began[name]
        return len(ready) == COUNT

    async def create(name: str) -> None:
        began[name] = time.perf_counter()
        document = {"apiVersion": "pipewright.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}}
        await servers.kubernetes("POST", TENANTS, {**document, "spec": SPEC})

    since = listed["metadata"]["resourceVersion"]
    async with asyncio.timeout(120):
        await asyncio.gather(
            servers.watch(TENANTS, since=since, seen=seen), *(create(name) for name in wanted)
        )
    return list(ready.values())


def written(audit: Any) -> int:
    """The provisioner's writes so far, without its Lease."""
    found = controlplane.writes(audit)
    return sum(1 for it in found if it["user"] == PROVISIONER and it["resource"] != "leases")


async def at_rest(audit: Any) -> None:
    """Wait until the provisioner has written nothing for half a second."""
    before, now = -1, written(audit)
    while now != before:
        await asyncio.sleep(0.5)
        before, now = now, written(audit)


# --- the bare loop ----------------------------------------------------------------------------------------


async def bare_loop(servers: Servers, *, workers: int) -> float:
    """Seconds for as many tenants' things, written by so many workers."""
    todo = iter([(tenant(), roles.new_id()) for _ in range(COUNT)])
    made: list[str] = []

    async def work() -> None:
        for one, tenant_id in todo:
            await bare_tenant(servers, one, tenant_id)
            made.append(tenant_id)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    seconds = time.perf_counter() - began
    assert len(made) == COUNT
    await servers.sql(*(f"DROP DATABASE {roles.database(tenant_id)}" for tenant_id in made))
    return seconds


async def bare_tenant(servers: Servers, one: Tenant, tenant_id: str) -> None:
    """What one tenant is made of: objects, a database, entries in Vault."""
    for manifest in manifests(one, tenant_id):
        path = f"{_path(manifest)}?fieldManager=bare&force=true"
        await servers.kubernetes("PATCH", path, manifest, kind="apply-patch+yaml")
    await servers.sql(
        f"CREATE DATABASE {roles.database(tenant_id)} TEMPLATE {roles.TEMPLATE} STRATEGY WAL_LOG"
    )
    role, fields = names.vault_role(tenant_id), dict.fromkeys(("a", "b", "c", "d", "e", "f"), "x" * 43)
    platform = names.platform_path(tenant_id)
    entries: Sequence[tuple[str, Any]] = [
        (f"tenants/metadata/{platform}", {"custom_metadata": {"tenant-uid": one.uid}}),
        (f"tenants/data/{platform}", {"data": fields}),
        (f"tenants/data/{names.user_path(tenant_id)}", {"data": fields}),
        (
            f"sys/policies/acl/{role}",
            {"policy": f'path "tenants/data/{tenant_id}/user/*" {{ capabilities = ["read"] }}'},
        ),
        (
            f"auth/kubernetes/role/{role}",
            {
                "bound_service_account_names": [names.TENANT_SERVICE_ACCOUNT],
                "bound_service_account_namespaces": [one.name],
                "token_policies": [role],
            },
        ),
        (f"transit/keys/{tenant_id}", {}),
        (f"transit/datakey/plaintext/{tenant_id}", {}),
    ]
    for path, body in entries:
        await servers.vault(path, body)


def tenant() -> Tenant:
    """A Tenant that the cluster does not know."""
    metadata = {"name": f"r-{uuid.uuid4().hex[:10]}", "uid": str(uuid.uuid4()), "generation": 1}
    document = {"apiVersion": "pipewright.dev/v1alpha1", "kind": "Tenant", "metadata": metadata}
    return Tenant.parse({**document, "spec": SPEC})


def manifests(one: Tenant, tenant_id: str) -> list[Manifest]:
    """The objects that the controller makes for it, the connection Secret included."""
    build = (objects.in_namespace, objects.network, objects.access)
    value = base64.b64encode(b"x" * 43).decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.CONNECTION_SECRET, "namespace": one.name},
        "data": dict.fromkeys(("host", "port", "dbname", "user", "password", "uri"), value),
    }
    inside = [found for make in build for found in make(one, tenant_id=tenant_id, namespace=one.name)]
    return [objects.namespace(one, tenant_id=tenant_id, name=one.name), *inside, secret]


def _path(manifest: Manifest) -> str:
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind, metadata = str(manifest["kind"]).lower(), manifest["metadata"]
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"/{'apis/' + group if group else 'api'}/{version}{place}/{plural}/{metadata['name']}"
