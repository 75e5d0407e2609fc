"""One provisioner serves several database servers: each tenant's things lie on its own, and stay there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controllers.tenant.reconcile import reconcile
from pipewright import conditions
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_postgres import (
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryRegistry,
    MemoryServer,
)
from pipewright.facts import Server
from pipewright.ports import ProvisionerPorts, ServerPorts, SystemClock

OFFERED = tuple(
    Server(name=f"{region}-1", region=region, database_class="standard", capacity=1)
    for region in ("us", "eu")
)


class Sealer:
    """Seals nothing."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class World:
    """Two servers, of which the settings name both, or one."""

    def __init__(self) -> None:
        self.servers = {server.name: MemoryServer() for server in OFFERED}
        reached = {
            name: ServerPorts(
                databases=MemoryDatabases(server), logins=MemoryLogins(server), dumps=MemoryDumps(server)
            )
            for name, server in self.servers.items()
        }
        self.ports = ProvisionerPorts(
            cluster=MemoryCluster(),
            registry=MemoryRegistry(),
            databases=reached["us-1"].databases,
            logins=reached["us-1"].logins,
            dumps=reached["us-1"].dumps,
            secrets=MemorySecretStore(),
            grants=MemoryGrants(),
            data_keys=MemoryDataKeys(),
            sealer=Sealer(),
            servers=reached,
        )

    async def settle(self, name: str, *, region: str, deleting: bool = False) -> Any:
        metadata: dict[str, Any] = {"name": name, "uid": f"uid-of-{name}", "generation": 1}
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        spec = {"placement": {"region": region}, "deletionPolicy": "Delete"}
        tenant = Tenant.parse({"metadata": metadata, "spec": spec})
        for _ in range(20):
            outcome = await reconcile(tenant, ports=self.ports, clock=SystemClock(), servers=OFFERED)
            if not outcome.results.done:
                return outcome
        raise AssertionError("not at rest")


def _told(outcome: Any) -> tuple[str, str]:
    found = conditions.find(outcome.status.conditions, "DatabaseReady")
    assert found is not None
    return found.status, found.reason


async def test_a_tenants_database_is_on_the_server_of_its_region_and_nowhere_else() -> None:
    world = World()
    outcome = await world.settle("one", region="eu")
    assert _told(outcome) == ("True", "DatabaseReady")
    assert outcome.status.database.server == "eu-1"
    assert (list(world.servers["us-1"].databases), len(world.servers["eu-1"].databases)) == ([], 1)
    await world.settle("one", region="eu", deleting=True)
    assert world.servers["eu-1"].databases == {}


async def test_a_full_region_is_said_and_nothing_is_made() -> None:
    world = World()
    await world.settle("one", region="eu")
    assert _told(await world.settle("two", region="eu")) == ("False", "NoCapacity")
    assert len(world.servers["eu-1"].databases) == 1
    await world.settle("one", region="eu", deleting=True)
    assert _told(await world.settle("two", region="eu")) == ("True", "DatabaseReady")


async def test_a_tenant_of_a_server_that_the_settings_no_longer_name_is_untouched() -> None:
    world = World()
    await world.settle("one", region="eu")
    before = {name: dict(server.databases) for name, server in world.servers.items()}
    world.ports = replace(world.ports, servers={"us-1": world.ports.servers["us-1"]})
    assert _told(await world.settle("one", region="eu")) == ("False", "UnknownServer")
    outcome = await world.settle("one", region="eu", deleting=True)
    assert (_told(outcome), outcome.finished) == (("False", "UnknownServer"), False)
    assert {name: server.databases for name, server in world.servers.items()} == before
