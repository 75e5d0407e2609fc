"""The proof of isolation: when it is due, what it says, and that a doubt is never a proof."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.tenant.observed import Observed
from controllers.tenant.reconcile import reconcile
from controllers.tenant.rules import isolation
from controllers.tenant.rules.isolation import AGAIN, FIRST, Look
from pipewright import conditions, errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_isolation import (
    MemoryBook,
    MemoryClusterDoor,
    MemoryDatabaseDoor,
    MemoryProofs,
    MemorySecretDoor,
)
from pipewright.backends.memory_postgres import (
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryRegistry,
    MemoryServer,
)
from pipewright.facts import Proof, Server
from pipewright.outcome import Outcome
from pipewright.ports import Isolation, ProvisionerPorts, ServerPorts
from pipewright.store import roles

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PERIOD = timedelta(hours=1)
SERVERS = (Server(name="main", region="local", database_class="standard"),)
HELD = Proof(at=NOW, target="b" * 12)


class Sealer:
    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext + context.encode()


class World:
    """Two tenants' world in memory, with a clock of its own and doors that a test can open or break."""

    def __init__(self) -> None:
        self.at = NOW
        server = MemoryServer()
        databases, logins, dumps = MemoryDatabases(server), MemoryLogins(server), MemoryDumps(server)
        self.cluster, self.registry = MemoryCluster(), MemoryRegistry()
        self.namespaces, self.paths, self.databases = (
            MemoryClusterDoor(),
            MemorySecretDoor(),
            MemoryDatabaseDoor(),
        )
        self.book = MemoryBook()
        self.ports = ProvisionerPorts(
            cluster=self.cluster,
            registry=self.registry,
            databases=databases,
            logins=logins,
            dumps=dumps,
            secrets=MemorySecretStore(),
            grants=MemoryGrants(),
            data_keys=MemoryDataKeys(),
            sealer=Sealer(),
            servers={"main": ServerPorts(databases=databases, logins=logins, dumps=dumps)},
            isolation=Isolation(
                proofs=MemoryProofs(self.registry.rows, self.registry.keep_proof),
                cluster=self.namespaces,
                secrets=self.paths,
                databases=self.databases,
                book=self.book,
                period=PERIOD,
            ),
        )

    def now(self) -> datetime:
        return self.at

    def passes(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def look(self, name: str, **more: Any) -> Outcome[Any]:
        return await reconcile(tenant(name, **more), ports=self.ports, clock=self, servers=SERVERS)

    async def rest(self, name: str) -> Outcome[Any]:
        """Reconcile until nothing is left to do."""
        for _ in range(20):
            outcome = await self.look(name)
            if not outcome.results.done:
                return outcome
        pytest.fail("not at rest after 20 passes")

    async def id_of(self, name: str) -> str:
        found = await self.registry.find(uid=f"uid-{name}")
        assert found is not None
        return found.id


def tenant(name: str, *, check: str | None = None, deleting: bool = False, suspended: bool = False) -> Tenant:
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "annotations": {names.CHECK_ANNOTATION: check} if check else {},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    return Tenant.parse(
        {
            "apiVersion": Tenant.api_version,
            "kind": Tenant.kind,
            "metadata": metadata,
            "spec": {"suspended": suspended},
        }
    )


def verdict(outcome: Outcome[Any], aspect: str = "IsolationVerified") -> tuple[str, str]:
    found = conditions.find(outcome.status.conditions, aspect)
    assert found is not None
    return found.status, found.reason


def message(outcome: Outcome[Any]) -> str:
    found = conditions.find(outcome.status.conditions, "IsolationVerified")
    assert found is not None
    return found.message


@pytest.fixture
async def world() -> World:
    made = World()
    for name in ("a", "b"):
        await made.rest(name)
    return made


async def test_ready_does_not_wait_for_the_proof_which_comes_soon_after(world: World) -> None:
    outcome = await world.rest("a")
    assert verdict(outcome, "Ready") == ("True", "Ready")
    assert verdict(outcome) == ("Unknown", "NotYetProved")
    assert outcome.next_look is not None
    assert timedelta() < outcome.next_look <= FIRST
    assert world.book.tries == []
    world.passes(FIRST.total_seconds())
    outcome = await world.look("a")
    assert verdict(outcome) == ("True", "IsolationVerified")
    assert outcome.results.done == (), "no Event tells of it, and no further pass follows"
    assert verdict(outcome, "Reconciling") == ("False", "Idle")
    assert world.book.tries == [("database", "refused"), ("secrets", "refused"), ("vault", "refused")]


async def test_a_proof_is_remembered_and_made_anew_after_a_period(world: World) -> None:
    world.passes(10)
    await world.look("a")
    found = await world.registry.find(uid="uid-a")
    assert found is not None
    assert found.proof == Proof(at=world.at, target=await world.id_of("b"))
    tries = len(world.book.tries)
    for _ in range(3):
        world.passes(600)
        assert verdict(await world.look("a")) == ("True", "IsolationVerified")
    assert len(world.book.tries) == tries
    world.passes(1200)
    await world.look("a")
    assert len(world.book.tries) == 2 * tries


@pytest.mark.parametrize("door", ["database", "secrets", "vault"])
async def test_each_door_that_opens_is_named_told_loudly_and_closes_again(world: World, door: str) -> None:
    b = await world.id_of("b")
    holes = {
        "database": (world.databases, roles.database(b), "the database"),
        "secrets": (world.namespaces, "b", "the Secrets"),
        "vault": (world.paths, names.user_path(b), "the Vault path"),
    }
    where, thing, word = holes[door]
    where.opened.add(thing)
    world.passes(10)
    outcome = await world.look("a")
    assert verdict(outcome) == ("False", "IsolationBroken")
    assert word in message(outcome)
    assert b in message(outcome)
    assert verdict(outcome, "Ready")[0] == "True"
    assert verdict(outcome, "Reconciling") == ("False", "Idle")
    [failure] = outcome.results.failures
    assert isinstance(failure.error, errors.IsolationBroken)
    assert outcome.next_look is not None
    assert outcome.next_look <= AGAIN
    assert verdict(await world.look("b", check="now")) == ("True", "IsolationVerified")

    where.opened.clear()
    assert verdict(await world.look("a")) == ("False", "IsolationBroken"), "until it is tried again"
    world.passes(AGAIN.total_seconds())
    outcome = await world.look("a")
    assert verdict(outcome) == ("True", "IsolationVerified")
    assert outcome.results.failures == ()


async def test_a_server_that_does_not_answer_proves_nothing(world: World) -> None:
    world.databases.broken["database"] = errors.Unreachable("no answer")
    world.passes(10)
    outcome = await world.look("a")
    assert verdict(outcome) == ("Unknown", "NotProved")
    assert "the database (no answer)" in message(outcome)
    assert outcome.results.failures == ()
    world.paths.opened.add(names.user_path(await world.id_of("b")))
    world.passes(AGAIN.total_seconds())
    assert verdict(await world.look("a")) == ("False", "IsolationBroken"), "a hole speaks before a doubt"


async def test_a_check_that_is_asked_for_is_a_proof_at_once_and_once(world: World) -> None:
    world.passes(10)
    await world.look("a")
    tries = len(world.book.tries)
    world.passes(1)
    await world.look("a", check="one")
    assert len(world.book.tries) == 2 * tries
    await world.look("a", check="one")
    assert len(world.book.tries) == 2 * tries


async def test_alone_the_platforms_own_doors_are_tried() -> None:
    world = World()
    await world.rest("a")
    world.passes(10)
    outcome = await world.look("a")
    assert verdict(outcome) == ("True", "NoNeighbour")
    assert len(world.book.tries) == 3
    world.namespaces.opened.add(names.SYSTEM_NAMESPACE)
    outcome = await world.look("a", check="now")
    assert verdict(outcome) == ("False", "IsolationBroken")
    assert "of the platform" in message(outcome)


async def test_nothing_is_proved_of_a_tenant_that_is_not_at_rest_and_old_proofs_fade(world: World) -> None:
    world.passes(10)
    await world.look("a")
    tries = len(world.book.tries)
    await world.ports.grants.revoke(await world.id_of("a"))
    outcome = await world.look("a", check="now")
    assert outcome.results.done
    assert len(world.book.tries) == tries
    await world.ports.grants.revoke(await world.id_of("a"))
    world.passes(PERIOD.total_seconds() * isolation.STALE + 60)
    assert verdict(await world.look("a")) == ("Unknown", "ProofStale")


async def test_of_a_suspended_tenant_nothing_is_tried(world: World) -> None:
    world.passes(10)
    await world.look("a")
    await world.look("a", suspended=True)
    tries = len(world.book.tries)
    outcome = await world.look("a", suspended=True, check="now")
    assert verdict(outcome) == ("Unknown", "TenantSuspended")
    assert len(world.book.tries) == tries


def test_switched_off_is_said() -> None:
    found = isolation.isolation(Observed(gateway_key="key"), Look(), period=None, now=NOW)
    assert [(fact.status, fact.reason) for fact in found.facts] == [(None, "ProofsOff")]


@pytest.mark.parametrize(
    ("last", "check", "wanted"),
    [
        (None, None, (NOW + FIRST, False)),
        (None, "x", (NOW, True)),
        (HELD, None, (NOW + PERIOD * 0.8, False)),
        (HELD, "x", (NOW, True)),
        (Proof(at=NOW, target=None, asked="x"), "x", (NOW + PERIOD * 0.8, False)),
        (Proof(at=NOW, target=None, opened=("the database",)), None, (NOW + AGAIN, False)),
        (Proof(at=NOW, target=None, unknown=("the database (x)",)), None, (NOW + AGAIN, False)),
    ],
)
def test_when_a_proof_is_due(last: Proof | None, check: str | None, wanted: tuple[datetime, bool]) -> None:
    assert isolation.due(tenant("a", check=check), last, period=PERIOD, now=NOW) == wanted
