"""An Integration whose process is killed after any write ends with one secret, one path and one route."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors import catalogue
from controllers.integration.reconcile import reconcile
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus
from pipewright.backends.memory import MemoryCluster, MemorySecretStore
from pipewright.backends.runner.memory import (
    MemoryActions,
    MemoryDecisions,
    MemoryDirectory,
    MemoryImport,
    MemoryJournal,
    MemoryRoutes,
    MemoryTriggers,
)
from pipewright.plan import Ref
from pipewright.ports import RunnerPorts
from pipewright.runner_facts import TenantRef, webhook_path
from tests.unit.controllers.doomed import Doomed, Killed

UID = "11111111-2222-3333-4444-555555555555"
TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
PATH = webhook_path(TENANT.id, UID)
PROJECTION = Ref(api_version="v1", kind="Secret", namespace="acme", name="github-webhook")


class Clock:
    """It is always the same time."""

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)


class ClearSealer:
    """Seals by writing down for whom."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return f"{context} {plaintext.decode()}".encode()


class World:
    """One Integration's servers, which outlive its processes."""

    def __init__(self) -> None:
        self.cluster, self.secrets, self.routes = MemoryCluster(), MemorySecretStore(), MemoryRoutes()
        self.directory = MemoryDirectory({"acme": TENANT})
        self.status = IntegrationStatus()

    async def prepare(self) -> None:
        await self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
        await self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "github-token", "namespace": "acme"},
                "data": {"token": base64.b64encode(b"canary-token").decode()},
            }
        )

    def ports(self, at: int = 0) -> RunnerPorts:
        fate = {"at": at, "count": 0}
        return RunnerPorts(
            cluster=Doomed(self.cluster, fate),
            directory=self.directory,
            routes=Doomed(self.routes, fate),
            triggers=MemoryTriggers(),
            secrets=Doomed(self.secrets, fate),
            sealer=ClearSealer(),
            journal=MemoryJournal(clock=Clock()),
            decisions=MemoryDecisions(),
            actions=MemoryActions(catalogue.load()),
            imports=MemoryImport({("acme", "github")}),
            **dict.fromkeys(("compute", "artifacts", "trainings", "windows", "pointers")),  # type: ignore[arg-type]
        )

    def subject(self, *, deleting: bool = False) -> Integration:
        metadata = {"name": "github", "namespace": "acme", "uid": UID, "generation": 1}
        if deleting:
            metadata["deletionTimestamp"] = "2026-03-01T00:00:00Z"
        spec = {
            "connector": "github",
            "credentials": {"secretRef": {"name": "github-token"}},
            "projects": ["acme/shop"],
        }
        return Integration.parse({"metadata": metadata, "spec": spec, "status": self.status.dump()})

    async def settle(self, ports: RunnerPorts, *, deleting: bool = False) -> Any:
        for _ in range(10):
            outcome = await reconcile(
                self.subject(deleting=deleting),
                ports=ports,
                clock=Clock(),
                gateway_url="https://hooks.example/",
            )
            self.status = outcome.status
            if not outcome.results.done:
                return outcome
        pytest.fail("never at rest")


@pytest.fixture
async def world() -> World:
    made = World()
    await made.prepare()
    return made


async def projected(world: World) -> dict[str, str]:
    found = await world.cluster.get(PROJECTION)
    assert found is not None
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_killed_after_any_write_everything_still_derives_from_one_secret(world: World, at: int) -> None:
    with pytest.raises(Killed):
        await world.settle(world.ports(at))
    await world.settle(world.ports())
    held = await world.secrets.read(PATH)
    route = await world.routes.find(integration_uid=UID)
    assert held is not None
    assert route is not None
    assert await world.secrets.version(PATH) == 1
    fields = await projected(world)
    assert (fields["secret"], fields["path"]) == (held["secret"].reveal(), f"/hooks/{route.hook_id}")
    assert fields["url"] == f"https://hooks.example/hooks/{route.hook_id}"
    context, _, sealed = world.routes.sealed[route.hook_id].decode().partition(" ")
    assert context == f"pipewright/route/{route.hook_id}"
    assert json.loads(sealed) == {"secrets": [fields["secret"]]}
    assert world.status.webhook is not None
    assert world.status.webhook.path == fields["path"]


async def test_at_rest_nothing_is_written(world: World) -> None:
    await world.settle(world.ports())
    before = list(world.cluster.writes)
    outcome = await world.settle(world.ports())
    assert world.cluster.writes == before
    assert outcome.next_look is None
    assert {condition.type: condition.status for condition in world.status.conditions} == {
        "Ready": "True",
        "CredentialsValid": "True",
        "WebhookReady": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("tenant_is_gone", [False, True])
async def test_a_teardown_killed_after_any_write_leaves_nothing(
    world: World, at: int, tenant_is_gone: bool
) -> None:
    await world.settle(world.ports())
    if tenant_is_gone:
        world.directory.tenants.clear()
    if at:
        with pytest.raises(Killed):
            await world.settle(world.ports(at), deleting=True)
    assert (await world.settle(world.ports(), deleting=True)).finished
    assert await world.secrets.version(PATH) is None
    assert await world.routes.find(integration_uid=UID) is None


async def test_no_secret_is_in_what_is_told(world: World) -> None:
    outcome = await world.settle(world.ports())
    fields = await projected(world)
    told = f"{world.status} {outcome} {await world.routes.find(integration_uid=UID)}"
    assert fields["secret"] not in told
    assert "canary-token" not in told
