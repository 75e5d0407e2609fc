"""A Tenant's life by a provisioner whose settings have no Vault: real API server, real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml

import provisioner
from dev import parts, places, product
from dev.stack import Stack
from gateway.keys import Keys
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends import kubernetes, kubernetes_secrets
from pipewright.backends.postgres import Pools
from pipewright.backends.runner.databases import Address, TenantDatabases
from pipewright.backends.sealing import HpkeOpener
from pipewright.ports import SystemClock
from pipewright.runner_facts import TenantRef
from pipewright.runtime.drive import Controller
from pipewright.runtime.metrics import Metrics
from pipewright.settings import read
from pipewright.store import records

pytestmark = pytest.mark.stack
ROTATE = "2026-01-01T00:00:00Z"


class World:
    """The provisioner's one controller, and what proves its work."""

    def __init__(self, controller: Controller, plane: parts.Cluster, folder: Path, platform: str) -> None:
        self._controller = controller
        self.kubectl = plane.kubectl
        self.folder = folder
        self._platform = platform

    async def settle(self, tenant: Tenant) -> Any:
        """Reconcile until nothing is done any more; the last outcome, and how many passes did something."""
        for done in range(40):
            outcome = await self._controller.reconcile(tenant)
            assert not outcome.results.failures, outcome.results.failures
            if not outcome.results.done:
                return outcome, done
        pytest.fail("not at rest after 40 passes")

    def row(self, uid: str) -> tuple[Any, ...]:
        """What the registry has."""
        with psycopg.connect(self._platform) as conn:
            found = conn.execute(
                "SELECT id, bundle, bundle_address, wrapped_data_key, state FROM pipewright.registry"
                " WHERE uid = %s",
                [uid],
            ).fetchone()
        assert found is not None
        return found

    def secrets(self, tenant_id: str) -> dict[str, Any]:
        """Secrets of the platform's namespaces for this tenant, by name."""
        return {
            f"{namespace}/{it['metadata']['name']}": it
            for namespace in (names.SECRETS_NAMESPACE, names.RUNNER_SECRETS_NAMESPACE)
            for it in json.loads(
                self.kubectl.run(
                    "get", "secrets", "-n", namespace, "-l", f"{names.ID_LABEL}={tenant_id}", "-o", "json"
                )
            )["items"]
        }


@pytest.fixture
async def composed(
    empty_stack: Stack,
    control_plane: parts.Cluster,
    vault_identities: Path,
    platform_logins: Mapping[str, str],
    postgres_server: parts.Database,
    tmp_path: Path,
) -> AsyncIterator[Callable[[str], Awaitable[World]]]:
    """A provisioner whose settings have no Vault, and its server for tenants at this host."""
    control_plane.kubectl.apply_files([places.ROOT / "charts/pipewright/files/without-vault/10-secrets.yaml"])
    folder = empty_stack.folder
    async with AsyncExitStack() as resources:

        async def compose(host: str) -> World:
            product.write_settings(folder, empty_stack.layout, database=(host, postgres_server.port))
            document = yaml.safe_load(product.settings_file(folder, "provisioner").read_text())
            del document["vault"]
            path = tmp_path / f"{host}.yaml"
            path.write_text(yaml.safe_dump(document))
            settings = read(path)
            client = await kubernetes.connect(settings.kubeconfig)
            resources.push_async_callback(client.close)
            part = await provisioner.compose(
                settings,
                cluster=kubernetes.KubernetesCluster(client),
                clock=SystemClock(),
                metrics=Metrics(),
                resources=resources,
            )
            return World(
                part.controllers[0], control_plane, folder, platform_logins["pipewright_provisioner"]
            )

        yield compose


def tenant(
    uid: str, name: str, *, deleting: bool = False, suspended: bool = False, **annotations: str
) -> Tenant:
    metadata: dict[str, Any] = {"name": name, "uid": uid, "generation": 1, "annotations": annotations}
    if deleting:
        metadata["deletionTimestamp"] = ROTATE
    spec = {"deletionPolicy": "Delete", "finalDump": "Skip", "suspended": suspended}
    return Tenant.parse({"metadata": metadata, "spec": spec})


async def test_a_tenant_lives_without_vault(
    composed: Callable[[str], Awaitable[World]], pools: Pools
) -> None:
    world = await composed("127.0.0.1")
    uid, name = str(uuid4()), f"plain-{uuid4().hex[:8]}"
    outcome, _ = await world.settle(tenant(uid, name))
    ready = {it.type: (it.status, it.reason) for it in outcome.status.conditions}
    assert ready["SecretsReady"] == ("True", "WithoutVault")
    assert ready["Ready"][0] == "True", ready
    assert outcome.status.vault is None
    tenant_id, bundle, told, wrapped, _ = world.row(uid)

    # the tenant comes in by its connection Secret
    secret = world.kubectl.get("secret", names.CONNECTION_SECRET, "-n", name)
    assert secret is not None
    assert secret["metadata"]["annotations"][names.ADDRESS_ANNOTATION] == told
    uri = base64.b64decode(secret["data"]["uri"]).decode()
    with psycopg.connect(uri, connect_timeout=5) as own:
        assert own.execute("SELECT session_user").fetchone() == (f"pw_{tenant_id}_app_a",)

    # the gateway by its bundle
    opener = HpkeOpener((world.folder / "identities/gateway/gateway.key").read_text().strip())
    row = records.Tenant(
        id=tenant_id, uid=uid, name=name, server="main", state="Active", namespaces={}, bundle=bundle
    )
    access = Keys(opener).access(row)
    with psycopg.connect(access.dsn.reveal(), connect_timeout=5) as gateway:
        assert gateway.execute("SELECT session_user").fetchone() == (f"pw_{tenant_id}_ingest",)
    assert wrapped.startswith("kubernetes:v1:")

    # the runner by its own Secret, as its own identity
    client = await kubernetes.connect(world.folder / "identities/runner/kubeconfig")
    mine = kubernetes_secrets.KubernetesSecretStore(
        kubernetes.KubernetesCluster(client), namespace=names.RUNNER_SECRETS_NAMESPACE
    )
    host, port = told.partition("/")[0].split(":")
    databases = TenantDatabases(pools, secrets=mine, servers={"main": Address(host=host, port=int(port))})
    ref = TenantRef(id=tenant_id, uid=uid, name=name, state="Active", server="main")
    async with databases.connection(ref) as conn:
        cursor = await conn.execute("SELECT session_user")
        assert await cursor.fetchone() == (f"pw_{tenant_id}_runner",)
    await client.close()

    # at rest: what is there is not written again
    before = {key: it["metadata"]["resourceVersion"] for key, it in world.secrets(tenant_id).items()}
    assert len(before) == 3
    _, passes = await world.settle(tenant(uid, name))
    assert passes == 0
    after = {key: it["metadata"]["resourceVersion"] for key, it in world.secrets(tenant_id).items()}
    assert after == before

    # a rotation, and everything goes in the end
    asked = SystemClock().now().isoformat()
    outcome, passes = await world.settle(tenant(uid, name, **{names.ROTATE_ANNOTATION: asked}))
    assert passes
    assert outcome.status.database.credential_version == 2
    secret = world.kubectl.get("secret", names.CONNECTION_SECRET, "-n", name)
    assert secret is not None
    with psycopg.connect(base64.b64decode(secret["data"]["uri"]).decode(), connect_timeout=5) as own:
        assert own.execute("SELECT session_user").fetchone() == (f"pw_{tenant_id}_app_b",)

    # another wrapping key on demand: the data key stays, and so does what is sealed
    sealed = world.row(uid)[1]
    # what is asked for counts by the second, and all of the above may be done within one
    await asyncio.sleep(1)
    asked = SystemClock().now().isoformat()
    _, passes = await world.settle(tenant(uid, name, **{names.ROTATE_DATA_KEY_ANNOTATION: asked}))
    assert passes == 1
    assert world.row(uid)[3].startswith("kubernetes:v2:")
    assert world.row(uid)[1] == sealed
    await _gone(world, tenant(uid, name, deleting=True))
    assert world.row(uid)[4] == "Deleted"
    assert world.secrets(tenant_id) == {}


async def _gone(world: World, subject: Tenant) -> None:
    """Until the teardown is finished: namespaces end by themselves."""
    async with asyncio.timeout(60):
        while True:
            outcome = await world._controller.reconcile(subject)
            assert not outcome.results.failures, outcome.results.failures
            if outcome.finished:
                return
            if not outcome.results.done:
                await asyncio.sleep(0.2)


async def test_a_tenant_is_suspended_and_resumed_without_vault(
    composed: Callable[[str], Awaitable[World]],
) -> None:
    uid, name = str(uuid4()), f"still-{uuid4().hex[:8]}"
    world = await composed("127.0.0.1")
    await world.settle(tenant(uid, name))
    secret = world.kubectl.get("secret", names.CONNECTION_SECRET, "-n", name)
    assert secret is not None
    uri = base64.b64decode(secret["data"]["uri"]).decode()
    outcome, _ = await world.settle(tenant(uid, name, suspended=True))
    told = {it.type: it for it in outcome.status.conditions}["Suspended"]
    assert told.status == "True"
    assert "Vault" not in told.message
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(uri, connect_timeout=5).close()
    outcome, _ = await world.settle(tenant(uid, name))
    assert {it.type: it.status for it in outcome.status.conditions}["Ready"] == "True"
    psycopg.connect(uri, connect_timeout=5).close()
    await _gone(world, tenant(uid, name, deleting=True))


async def test_a_server_that_moves_is_told_to_tenant_and_gateway(
    composed: Callable[[str], Awaitable[World]],
) -> None:
    uid, name = str(uuid4()), f"moved-{uuid4().hex[:8]}"
    world = await composed("127.0.0.1")
    await world.settle(tenant(uid, name))
    _, old_bundle, told, wrapped, _ = world.row(uid)
    assert told.startswith("127.0.0.1:")
    moved = await composed("localhost")
    outcome, passes = await moved.settle(tenant(uid, name))
    assert passes == 1
    assert outcome.status.database.credential_version == 1
    _, bundle, address, still, _ = moved.row(uid)
    assert (address.startswith("localhost:"), still) == (True, wrapped)
    assert bundle != old_bundle
    secret = moved.kubectl.get("secret", names.CONNECTION_SECRET, "-n", name)
    assert secret is not None
    assert base64.b64decode(secret["data"]["host"]).decode() == "localhost"
    await _gone(moved, tenant(uid, name, deleting=True))
