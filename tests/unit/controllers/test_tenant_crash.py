"""A Tenant whose operator is killed before or after any write ends as if nothing had happened.

The ports are the in-memory ones (held to the same contract as the real); the kill is real: nothing after it
runs, and the next process believes the world. Provisioning and both teardowns are swept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controllers.tenant.reconcile import reconcile
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.tenant import TenantStatus
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_postgres import MemoryDatabases, MemoryLogins, MemoryRegistry, MemoryServer
from pipewright.ports import ProvisionerPorts

UID = "11111111-2222-3333-4444-555555555555"
WRITES = {
    "apply",
    "create",
    "delete",
    "register",
    "bind_namespace",
    "unbind_namespace",
    "remove_metadata",
    "mark",
    "store_bundle",
    "limit_connections",
    "migrate",
    "drop",
    "set",
    "disable",
    "write",
    "purge",
    "grant",
    "revoke",
    "destroy",
}
ENOUGH = 40
"""Passes until a Tenant rests; it takes about five."""


class Killed(BaseException):
    """The process is gone."""


class Clock:
    """Any time will do."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class Sealer:
    """Seals nothing; the gateway is not in this test."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext + context.encode()


class Fuse:
    """Counts the writes of all ports together and ends the process at one of them."""

    def __init__(self) -> None:
        self.count, self.at, self.before = 0, 0, False

    def wrap(self, port: object) -> Any:
        return _Fused(port, self)


class _Fused:
    def __init__(self, port: object, fuse: Fuse) -> None:
        self._port, self._fuse = port, fuse

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if name not in WRITES:
            return call

        async def fused(*args: Any, **kwargs: Any) -> Any:
            self._fuse.count += 1
            hit = self._fuse.count == self._fuse.at
            if hit and self._fuse.before:
                raise Killed
            result = await call(*args, **kwargs)
            if hit:
                raise Killed
            return result

        return fused


class World:
    """Everything that outlives the operator."""

    def __init__(self) -> None:
        self.fuse, server = Fuse(), MemoryServer()
        self.cluster, self.registry = MemoryCluster(), MemoryRegistry()
        self.databases, self.logins = MemoryDatabases(server), MemoryLogins(server)
        self.secrets, self.grants, self.keys = MemorySecretStore(), MemoryGrants(), MemoryDataKeys()
        fused = self.fuse.wrap
        self.ports = ProvisionerPorts(
            cluster=fused(self.cluster),
            registry=fused(self.registry),
            databases=fused(self.databases),
            logins=fused(self.logins),
            secrets=fused(self.secrets),
            grants=fused(self.grants),
            data_keys=fused(self.keys),
            sealer=Sealer(),
        )

    async def settle(self, tenant: Tenant) -> TenantStatus | None:
        """Reconcile until nothing is left to do; a kill in between starts a new process. The last status."""
        for _ in range(ENOUGH):
            try:
                outcome = await reconcile(tenant, ports=self.ports, clock=Clock(), server="main")
            except Killed:
                continue
            assert not outcome.results.failures, outcome.results.failures
            if not outcome.results.done:
                assert outcome.finished == tenant.deleting
                return outcome.status
        pytest.fail(f"not at rest after {ENOUGH} passes")

    async def state(self) -> dict[str, Any]:
        """What is there in the end, as far as a random id does not show."""
        found = await self.registry.find(uid=UID)
        assert found is not None
        database = await self.databases.find(found.id)
        kinds = [("v1", "Namespace"), ("v1", "Secret"), ("rbac.authorization.k8s.io/v1", "RoleBinding")]
        objects = [
            (kind, it["metadata"]["name"])
            for version, kind in kinds
            for it in await self.cluster.list(api_version=version, kind=kind)
        ]
        return {
            "state": found.state,
            "namespaces": sorted(found.namespaces),
            "sealed": (found.bundle_version, found.bundle_key),
            "logins": {
                purpose: login.enabled for purpose, login in (database.logins if database else {}).items()
            },
            "database": database is not None,
            "secrets": [
                await self.secrets.version(path)
                for path in (names.platform_path(found.id), names.user_path(found.id))
            ],
            "access": await self.grants.find(found.id) is not None,
            "objects": objects,
        }


def tenant(
    *,
    policy: str = "Retain",
    deleting: bool = False,
    namespaces: list[dict[str, Any]] | None = None,
    status: TenantStatus | None = None,
) -> Tenant:
    metadata: dict[str, Any] = {"name": "team-a", "uid": UID, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: dict[str, Any] = {"deletionPolicy": policy, "quota": {"pods": 3}}
    if namespaces is not None:
        spec["namespaces"] = namespaces
    return Tenant.parse(
        {"metadata": metadata, "spec": spec, "status": status.dump() if status is not None else {}}
    )


TWO = [{"name": "team-a"}, {"name": "team-b"}]
THERE_BEFORE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-b"}}


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("adopt", [False, True], ids=["made", "adopted"])
async def test_a_namespace_comes_and_goes_whatever_dies_meanwhile(policy: str, adopt: bool) -> None:
    grown = [TWO[0], {**TWO[1], "adopt": adopt}]
    kept = adopt or policy == "Retain"
    at = writes = 0
    while at <= writes:
        world = World()
        if adopt:
            await world.cluster.create(THERE_BEFORE)
        await world.settle(tenant(policy=policy))
        world.fuse.count, world.fuse.at = 0, at
        told = await world.settle(tenant(policy=policy, namespaces=grown))
        await world.settle(tenant(policy=policy, namespaces=grown, status=told))
        assert (await world.state())["namespaces"] == ["team-a", "team-b"]
        await world.settle(tenant(policy=policy))
        writes = max(writes, world.fuse.count)
        state = await world.state()
        assert state["namespaces"] == ["team-a"]
        assert (("Namespace", "team-b") in state["objects"]) is kept
        where = {
            (it["kind"], it["metadata"]["name"])
            for version, kind in (
                ("v1", "Secret"),
                ("v1", "ResourceQuota"),
                ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            )
            for it in await world.cluster.list(api_version=version, kind=kind, namespace="team-b")
        }
        if kept:  # with a deleted namespace goes what lies in it, but not in memory
            assert where == (set() if adopt else {("ResourceQuota", "pipewright")})
        at += 1
    assert writes > 15


STORIES = {"made": None, "retained": "Retain", "deleted": "Delete"}


async def play(world: World, story: str, *, at: int = 0, before: bool = False) -> int:
    """The story's last act with a kill at its n-th write; how many writes it took."""
    policy = STORIES[story]
    if policy is not None:
        await world.settle(tenant(policy=policy))
    world.fuse.count, world.fuse.at, world.fuse.before = 0, at, before
    await world.settle(tenant(policy=policy or "Retain", deleting=policy is not None))
    return world.fuse.count


@pytest.mark.parametrize("before", [True, False], ids=["before a write", "after a write"])
@pytest.mark.parametrize("story", STORIES)
async def test_killed_at_any_write_the_end_is_the_same(story: str, before: bool) -> None:
    reference = World()
    writes = await play(reference, story)
    expected = await reference.state()
    assert writes >= {"made": 18, "retained": 6, "deleted": 6}[story]
    for at in range(1, writes + 1):
        world = World()
        await play(world, story, at=at, before=before)
        found = await world.state()
        # a projection that is written twice has two versions of the same content
        found["secrets"][1] = expected["secrets"][1] if found["secrets"][1] else found["secrets"][1]
        assert found == expected, f"killed {'before' if before else 'after'} write {at} of {writes}"


async def test_at_rest_nothing_is_written() -> None:
    world = World()
    await play(world, "made")
    world.fuse.count = 0
    await world.settle(tenant())
    assert world.fuse.count == 0
