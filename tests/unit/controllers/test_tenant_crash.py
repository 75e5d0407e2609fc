"""A Tenant whose operator is killed before or after any write ends as if nothing had happened.

The ports are the in-memory ones (held to the same contract as the real); the kill is real: nothing after it
runs, and the next process believes the world. Provisioning, both teardowns and a restore are swept.
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
from pipewright.backends.memory_postgres import (
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryRegistry,
    MemoryServer,
)
from pipewright.facts import Server, active_login, standby_login
from pipewright.ports import ProvisionerPorts, ServerPorts

UID = "11111111-2222-3333-4444-555555555555"
HEIR = "66666666-7777-8888-9999-000000000000"
"""The Tenant that takes over what the first one left."""
SERVERS = (Server(name="main", region="local", database_class="standard", capacity=1),)
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
    "suspend",
    "resume",
    "open_dynamic",
    "close_dynamic",
    "grant_database_role",
    "withdraw_database_role",
    "write",
    "purge",
    "grant",
    "revoke",
    "destroy",
    "take",
    "record_dump",
    "rebind",
    "hand_over",
    "replace",
    "rotate",
    "replace_data_key",
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
        self.passwords = server.passwords
        self.cluster, self.registry = MemoryCluster(), MemoryRegistry()
        self.databases, self.logins = MemoryDatabases(server), MemoryLogins(server)
        self.dumps = MemoryDumps(server)
        self.secrets, self.grants, self.keys = MemorySecretStore(), MemoryGrants(), MemoryDataKeys()
        fused = self.fuse.wrap
        self.ports = ProvisionerPorts(
            cluster=fused(self.cluster),
            registry=fused(self.registry),
            databases=fused(self.databases),
            logins=fused(self.logins),
            dumps=fused(self.dumps),
            secrets=fused(self.secrets),
            grants=fused(self.grants),
            data_keys=fused(self.keys),
            sealer=Sealer(),
            servers={
                "main": ServerPorts(
                    databases=fused(self.databases), logins=fused(self.logins), dumps=fused(self.dumps)
                )
            },
        )

    async def settle(self, tenant: Tenant) -> TenantStatus | None:
        """Reconcile until nothing is left to do; a kill in between starts a new process. The last status."""
        for _ in range(ENOUGH):
            try:
                outcome = await reconcile(tenant, ports=self.ports, clock=Clock(), servers=SERVERS)
            except Killed:
                continue
            assert not outcome.results.failures, outcome.results.failures
            if not outcome.results.done:
                assert outcome.finished == tenant.deleting
                return outcome.status
        pytest.fail(f"not at rest after {ENOUGH} passes")

    async def state(self, uid: str) -> dict[str, Any]:
        """What is there in the end, as far as a random id does not show."""
        found = await self.registry.find(uid=uid)
        assert found is not None
        database = await self.databases.find(found.id)
        kinds = [("v1", "Namespace"), ("v1", "Secret"), ("rbac.authorization.k8s.io/v1", "RoleBinding")]
        objects = [
            (kind, it["metadata"]["name"])
            for version, kind in kinds
            for it in await self.cluster.list(api_version=version, kind=kind)
        ]
        version = await self.secrets.version(names.platform_path(found.id)) or 1
        return {
            "state": found.state,
            "namespaces": sorted(found.namespaces),
            "sealed": (found.bundle_version, found.bundle_key),
            "logins": {
                # a renewal that was done twice has come back to the first of the two
                {active_login(version): "active", standby_login(version): "standby"}.get(purpose, purpose): (
                    login.enabled
                )
                for purpose, login in (database.logins if database else {}).items()
            },
            "database": (database.owner_uid, {it.version for it in database.logins.values() if it.enabled})
            if database
            else None,
            "dumped": self.dumps.taken.get(found.id) if found.dump else None,
            "previous": found.previous_uids,
            "uids": {
                it["metadata"].get("labels", {}).get(names.UID_LABEL)
                for version, kind in kinds
                for it in await self.cluster.list(api_version=version, kind=kind)
            },
            "secrets": [
                await self.secrets.version(path)
                for path in (names.platform_path(found.id), names.user_path(found.id))
            ],
            "access": (access := await self.grants.find(found.id)) is not None,
            "short-lived": (
                access is not None and access.database_role is not None,
                database is not None and database.lends,
            ),
            "objects": objects,
        }


def tenant(
    *,
    policy: str = "Retain",
    deleting: bool = False,
    heir_of: str | None = None,
    namespaces: list[dict[str, Any]] | None = None,
    suspended: bool = False,
    dynamic: bool = False,
    status: TenantStatus | None = None,
) -> Tenant:
    uid = HEIR if heir_of else UID
    metadata: dict[str, Any] = {"name": "team-a", "uid": uid, "generation": 1}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: dict[str, Any] = {"deletionPolicy": policy, "quota": {"pods": 3}, "suspended": suspended}
    if heir_of:
        spec["restoreFrom"] = heir_of
    if namespaces is not None:
        spec["namespaces"] = namespaces
    if dynamic:
        spec["database"] = {"dynamicCredentials": {"ttl": "10m"}}
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
        assert (await world.state(UID))["namespaces"] == ["team-a", "team-b"]
        await world.settle(tenant(policy=policy))
        writes = max(writes, world.fuse.count)
        state = await world.state(UID)
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


STORIES = {
    "made": 18,
    "made suspended": 18,
    "made with short-lived logins": 19,
    "short-lived logins begin": 3,
    "short-lived logins end": 3,
    "short-lived logins end with the tenant": 6,
    "suspended": 3,
    "resumed": 3,
    "retained while suspended": 5,
    "retained": 6,
    "deleted": 8,
    "restored": 18,
    "restored suspended": 18,
    "restored, then deleted": 10,
}
"""Story → at least so many writes does its last act take."""


async def play(world: World, story: str, *, at: int = 0, before: bool = False) -> int:
    """The story's last act with a kill at its n-th write; how many writes it took."""

    async def last_act(subject: Tenant) -> int:
        world.fuse.count, world.fuse.at, world.fuse.before = 0, at, before
        await world.settle(subject)
        return world.fuse.count

    if story == "made":
        return await last_act(tenant())
    if story == "made suspended":
        return await last_act(tenant(suspended=True))
    if story == "made with short-lived logins":
        return await last_act(tenant(dynamic=True))
    await world.settle(tenant(dynamic=story.startswith("short-lived logins end")))
    if story.startswith("short-lived logins"):
        gone = story.endswith("with the tenant")
        return await last_act(tenant(dynamic=gone or story.endswith("begin"), deleting=gone))
    if story == "suspended":
        return await last_act(tenant(suspended=True))
    if story in ("resumed", "retained while suspended"):
        await world.settle(tenant(suspended=True))
        return await last_act(tenant(suspended=story != "resumed", deleting=story != "resumed"))
    if story == "deleted":
        return await last_act(tenant(policy="Delete", deleting=True))
    if story == "retained":
        return await last_act(tenant(deleting=True))
    await world.settle(tenant(deleting=True))
    left = await world.registry.find(uid=UID)
    assert left is not None
    if story == "restored":
        return await last_act(tenant(heir_of=left.id))
    if story == "restored suspended":
        return await last_act(tenant(heir_of=left.id, suspended=True))
    for _ in range(2):  # it is bound, and the database not yet handed over
        await reconcile(tenant(heir_of=left.id), ports=world.ports, clock=Clock(), servers=SERVERS)
        if await world.registry.find(uid=HEIR):
            break
    return await last_act(tenant(heir_of=left.id, policy="Delete", deleting=True))


def owner_after(story: str) -> str:
    return HEIR if story.startswith("restored") else UID


def normal(state: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """A projection that is written twice has two versions of the same content; so have renewed passwords."""
    platform, user = state["secrets"]
    if platform is not None and expected["secrets"][0] is not None and platform != expected["secrets"][0]:
        versions = {platform: expected["secrets"][0]}
        state["sealed"] = (versions[state["sealed"][0]], state["sealed"][1])
        state["database"] = (state["database"][0], {versions[it] for it in state["database"][1]})
    return {**state, "secrets": [expected["secrets"][0] and platform and expected["secrets"][0], user and 1]}


@pytest.mark.parametrize("before", [True, False], ids=["before a write", "after a write"])
@pytest.mark.parametrize("story", STORIES)
async def test_killed_at_any_write_the_end_is_the_same(story: str, before: bool) -> None:
    reference, uid = World(), owner_after(story)
    writes = await play(reference, story)
    expected = normal(await reference.state(uid), await reference.state(uid))
    assert writes >= STORIES[story]
    for at in range(1, writes + 1):
        world = World()
        await play(world, story, at=at, before=before)
        found = normal(await world.state(uid), expected)
        assert found == expected, f"killed {'before' if before else 'after'} write {at} of {writes}"


async def cut_short(at: int, *, before: bool) -> World:
    """A world in which provisioning was killed at its n-th write, and nobody has looked since."""
    world = World()
    world.fuse.at, world.fuse.before = at, before
    for _ in range(ENOUGH):
        try:
            await reconcile(tenant(), ports=world.ports, clock=Clock(), servers=SERVERS)
        except Killed:
            return world
    pytest.fail(f"there is no write {at}")


@pytest.mark.parametrize("before", [True, False], ids=["before a write", "after a write"])
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_deleted_while_it_is_made_nothing_is_left_open(policy: str, before: bool) -> None:
    writes = await play(World(), "made")
    for at in range(1, writes + 1):
        world = await cut_short(at, before=before)
        await world.settle(tenant(policy=policy, deleting=True))
        found = await world.registry.find(uid=UID)
        if found is None:
            assert (at, before) == (1, True), "only what was never registered leaves no line"
            continue
        state = await world.state(UID)
        assert state["state"] == {"Retain": "Retained", "Delete": "Deleted"}[policy]
        assert not any(state["logins"].values())
        assert not state["access"]
        if policy == "Retain":
            assert "RoleBinding" not in {kind for kind, _ in state["objects"]}, f"killed at write {at}"
        else:
            assert (state["database"], state["secrets"]) == (None, [None, None]), f"killed at write {at}"
            assert "Namespace" not in {kind for kind, _ in state["objects"]}, f"killed at write {at}"


async def test_a_restored_tenant_is_whole_and_only_the_heirs() -> None:
    world = World()
    await play(world, "restored")
    state = await world.state(HEIR)
    assert state["state"] == "Active"
    assert state["previous"] == ()
    assert state["uids"] == {HEIR}
    assert state["namespaces"] == ["team-a"]
    assert [purpose for purpose, enabled in state["logins"].items() if not enabled] == ["standby"]
    assert state["database"] == (HEIR, {state["secrets"][0]})
    assert state["secrets"][0] == 2, "the passwords were renewed"
    assert await world.registry.find(uid=UID) is None


async def test_a_deleted_tenant_leaves_its_dump() -> None:
    world = World()
    await play(world, "deleted")
    state = await world.state(UID)
    assert (state["database"], state["dumped"], state["secrets"]) == (None, UID, [None, None])


async def test_at_rest_nothing_is_written() -> None:
    world = World()
    await play(world, "made")
    world.fuse.count = 0
    await world.settle(tenant())
    assert world.fuse.count == 0
