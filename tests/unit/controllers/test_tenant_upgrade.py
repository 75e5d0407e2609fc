"""Upgrade of all tenants' schema: one first, the others after it, none when one failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.tenant.reconcile import reconcile
from controllers.tenant.rules.upgrade import upgrade
from pipewright import conditions, errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.backends.memory import MemoryCluster, MemoryDataKeys, MemoryGrants, MemorySecretStore
from pipewright.backends.memory_postgres import (
    MemoryDatabases,
    MemoryDumps,
    MemoryLogins,
    MemoryRegistry,
    MemoryServer,
)
from pipewright.facts import Database, Registration, Rollout, Server
from pipewright.ports import ProvisionerPorts, ServerPorts, SystemClock
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.rollouts import RolloutBook

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
SERVERS = (Server(name="main", region="local", database_class="standard"),)


def tenant(name: str = "one", *, retry: datetime | None = None) -> Tenant:
    annotations = {} if retry is None else {names.RETRY_UPGRADE_ANNOTATION: retry.isoformat()}
    metadata = {"name": name, "uid": f"uid-of-{name}", "generation": 1, "annotations": annotations}
    return Tenant.parse({"metadata": metadata, "spec": {}})


def seen(*, current: bool, rollout: Rollout | None) -> tuple[Registration, Database]:
    return (
        Registration(
            id="mine",
            uid="uid-of-one",
            name="one",
            server="main",
            state="Active",
            namespaces={},
            bundle_version=1,
            bundle_key="key",
            rollout=rollout,
        ),
        Database(
            name="pw_mine",
            owner_uid="uid-of-one",
            connection_limit=20,
            schema_version="t0004",
            current=current,
            closed_to_public=True,
            logins={},
        ),
    )


def rollout(state: str, holder: str = "mine") -> Rollout:
    return Rollout(state=state, holder=holder, name=holder, reason="why", at=AT)


LATER = tenant(retry=AT + timedelta(seconds=1))
RULES: dict[str, tuple[Tenant, bool, Rollout | None, bool, str | None]] = {
    "a current schema needs nothing": (tenant(), True, None, False, None),
    "nor while others are upgraded": (tenant(), True, rollout("Canary", "other"), False, None),
    "the first one begins": (tenant(), False, None, True, None),
    "and begins again after a crash": (tenant(), False, rollout("Canary"), True, None),
    "upgraded before a crash it says so": (tenant(), True, rollout("Canary"), True, None),
    "mended by hand it says so": (tenant(), True, rollout("Failed"), True, None),
    "what was said is not said again": (tenant(), True, rollout("Rolling"), False, None),
    "the others wait for the first": (tenant(), False, rollout("Canary", "other"), False, "UpgradeWaits"),
    "and then follow": (tenant(), False, rollout("Rolling", "other"), True, None),
    "unless one failed": (tenant(), False, rollout("Failed", "other"), False, "UpgradeStopped"),
    "whose annotation alone counts": (
        LATER,
        False,
        rollout("Failed", "other"),
        False,
        "UpgradeStopped",
    ),
    "the one that failed stands still": (tenant(), False, rollout("Failed"), False, "UpgradeFailed"),
    "until it is asked to try again": (LATER, False, rollout("Failed"), True, None),
    "an old request does not count twice": (
        tenant(retry=AT),
        False,
        rollout("Failed"),
        False,
        "UpgradeFailed",
    ),
}


@pytest.mark.parametrize("sentence", RULES)
def test_upgrade(sentence: str) -> None:
    subject, current, found, goes, reason = RULES[sentence]
    plan = upgrade(subject, *seen(current=current, rollout=found))
    assert [str(action) for action in plan] == (["migrate the database"] if goes else [])
    assert [fact.reason for fact in plan.facts] == ([reason] if reason else [])
    assert all(fact.status is False for fact in plan.facts)


class Sealer:
    """Seals nothing."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class Fleet:
    """Three tenants of one server, whose schemas are of the release before."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.server, self.registry = MemoryServer(), MemoryRegistry()
        self.databases, self.trouble, self.upgraded = MemoryDatabases(self.server), dict[str, Exception](), []
        self._migrate = self.databases.migrate
        self.databases.migrate = self.migrate  # type: ignore[method-assign]
        logins, dumps = MemoryLogins(self.server), MemoryDumps(self.server)
        self.ports = ProvisionerPorts(
            cluster=MemoryCluster(),
            registry=self.registry,
            databases=self.databases,
            logins=logins,
            secrets=MemorySecretStore(),
            grants=MemoryGrants(),
            data_keys=MemoryDataKeys(),
            sealer=Sealer(),
            dumps=dumps,
            servers={"main": ServerPorts(databases=self.databases, logins=logins, dumps=dumps)},
            rollouts=RolloutBook(self.metrics),
        )

    def told(self) -> list[str]:
        """The states that the metrics tell of the server."""
        samples = [it for family in self.metrics.schema_rollout.collect() for it in family.samples]
        assert {it.labels["server"] for it in samples} <= {"main"}
        return [it.labels["state"] for it in samples if it.value]

    async def migrate(self, tenant_id: str) -> None:
        name = next(row.name for row in self.registry._by_id.values() if row.id == tenant_id)
        if name in self.trouble:
            raise self.trouble[name]
        await self._migrate(tenant_id)
        self.upgraded.append(name)

    async def look(self, name: str, **more: Any) -> Any:
        subject = tenant(name, **more)
        return await reconcile(subject, ports=self.ports, clock=SystemClock(), servers=SERVERS)

    async def made(self) -> None:
        for name in ("one", "two", "three"):
            for _ in range(8):
                await self.look(name)
        for tenant_id, found in self.server.databases.items():
            self.server.databases[tenant_id] = replace(found, schema_version="older", current=False)

    async def reason(self, name: str) -> str:
        outcome = await self.look(name)
        told = conditions.find(outcome.status.conditions, "DatabaseReady")
        assert told is not None
        return told.reason


async def test_a_broken_upgrade_stops_at_the_first_tenant_and_goes_on_when_it_is_mended() -> None:
    fleet = Fleet()
    await fleet.made()
    assert fleet.told() == []
    fleet.trouble["two"] = errors.BackendError("PostgreSQL: DuplicateTable (SQLSTATE 42P07)")
    outcome = await fleet.look("two")
    assert [str(failure.action) for failure in outcome.results.failures] == ["migrate the database"]
    assert await fleet.reason("two") == "UpgradeFailed"
    assert [await fleet.reason(name) for name in ("one", "three")] == ["UpgradeStopped"] * 2
    assert fleet.told() == ["Failed"]
    assert fleet.upgraded == []
    del fleet.trouble["two"]
    assert await fleet.reason("two") == "UpgradeFailed"
    await fleet.look("two", retry=datetime.now(UTC) + timedelta(seconds=1))
    assert fleet.upgraded == ["two"]
    for name in ("one", "three"):
        await fleet.look(name)
        assert await fleet.reason(name) == "DatabaseReady"
    assert fleet.told() == ["Rolling"]
    assert fleet.upgraded == ["two", "one", "three"]


async def test_a_server_that_does_not_answer_is_no_failed_upgrade() -> None:
    fleet = Fleet()
    await fleet.made()
    fleet.trouble["one"] = errors.Unreachable("PostgreSQL: a lock was not to be had in time")
    await fleet.look("one")
    assert await fleet.reason("three") == "UpgradeWaits"
    assert fleet.told() == ["Canary"]
    del fleet.trouble["one"]
    await fleet.look("one")
    await fleet.look("three")
    assert fleet.upgraded == ["one", "three"]


async def test_when_the_tenant_that_failed_is_deleted_the_metrics_tell_no_failure_any_more() -> None:
    fleet = Fleet()
    await fleet.made()
    fleet.trouble["two"] = errors.BackendError("PostgreSQL: DuplicateTable (SQLSTATE 42P07)")
    await fleet.look("two")
    assert await fleet.reason("three") == "UpgradeStopped"
    found = await fleet.registry.find(uid="uid-of-two")
    assert found
    await fleet.registry.mark(found.id, state="Deleting", uid="uid-of-two")
    await fleet.look("three")
    assert fleet.told() == []
    await fleet.look("three")
    assert fleet.told() == ["Rolling"]
