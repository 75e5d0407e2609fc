"""Rotation of a webhook's secret: two are good while they overlap, and no crash makes or loses one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import catalogue
from controllers.integration.plan import Observed, Projection
from controllers.integration.reconcile import reconcile
from controllers.integration.rotation import next_rotation, plan_rotation
from pipewright import errors, names
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
from pipewright.ports import RunnerPorts, Secret
from pipewright.runner_facts import Route, TenantRef, WebhookKeys, webhook_path
from tests.unit.controllers.doomed import Doomed, Killed

UID = "11111111-2222-3333-4444-555555555555"
TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
PATH = webhook_path(TENANT.id, UID)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = WebhookKeys(hook="h" * 32, version=4, number=2, issued_at=BEGIN)
ROTATE = "rotate the webhook secret"
BEGIN_OVERLAP = "begin the overlap of the webhook secrets"
RETIRE = "retire the old webhook secret"


def subject(status: IntegrationStatus | None = None, *, asked: str = "", **webhook: Any) -> Integration:
    metadata: dict[str, Any] = {"name": "github", "namespace": "acme", "uid": UID, "generation": 1}
    if asked:
        metadata["annotations"] = {names.ROTATE_ANNOTATION: asked}
    spec = {
        "connector": "github",
        "credentials": {"secretRef": {"name": "github-token"}},
        "projects": ["acme/shop"],
        "webhook": webhook,
    }
    return Integration.parse(
        {"metadata": metadata, "spec": spec, "status": (status or IntegrationStatus()).dump()}
    )


def seen(keys: WebhookKeys, *, projected: bool = True, published: tuple[int, ...] | None = None) -> Observed:
    route = Route(
        hook_id=keys.hook,
        tenant_id=TENANT.id,
        namespace="acme",
        integration="github",
        integration_uid=UID,
        connector="github",
        projects=("acme/shop",),
        config={},
        enabled=True,
        sealed_to="key",
        keys=keys.numbers if published is None else published,
    )
    return Observed(
        gateway_key="key",
        known=("github",),
        connector=catalogue.load()["github"],
        tenant=TENANT,
        route=route,
        keys=keys,
        projection=Projection(ours=True, current=projected),
    )


MONTHLY = subject(rotation={"every": "30d", "overlap": "2d"})
ROTATED = replace(KEYS, rotating=True)
OVERLAPPING = replace(ROTATED, overlap_since=BEGIN)

PLANS: dict[str, tuple[Integration, Observed, timedelta, list[str], timedelta | None]] = {
    "without a period nothing is due": (subject(), seen(KEYS), 400 * DAY, [], None),
    "before the period's end it is looked at then": (MONTHLY, seen(KEYS), 10 * DAY, [], 20 * DAY),
    "at the period's end another secret is made": (MONTHLY, seen(KEYS), 30 * DAY, [ROTATE], None),
    "an annotation asks for one at once": (
        subject(asked="2026-03-01T00:00:01Z"), seen(KEYS), DAY, [ROTATE], None,
    ),
    "an annotation of before the secret was made has been answered": (
        subject(asked="2026-02-28T23:59:59Z"), seen(KEYS), DAY, [], None,
    ),
    "an annotation that is no time asks for nothing": (subject(asked="now"), seen(KEYS), DAY, [], None),
    "an annotation without an offset asks for nothing": (
        subject(asked="2026-03-01T00:00:01"), seen(KEYS), DAY, [], None,
    ),
    "the period waits for a disabled webhook": (
        subject(enabled=False, rotation={"every": "30d"}), seen(KEYS), 31 * DAY, [], None,
    ),
    "none is due before the last one has arrived everywhere": (
        MONTHLY, seen(KEYS, projected=False), 31 * DAY, [], None,
    ),
    "the overlap begins when gateway and Secret have the new one": (
        MONTHLY, seen(ROTATED), DAY, [BEGIN_OVERLAP], None,
    ),
    "it does not before the gateway has": (MONTHLY, seen(ROTATED, published=(1,)), DAY, [], None),
    "it does not before the Secret has": (MONTHLY, seen(ROTATED, projected=False), DAY, [], None),
    "while they overlap nothing is due": (MONTHLY, seen(OVERLAPPING), 36 * timedelta(hours=1), [], DAY / 2),
    "no other begins while two overlap": (
        subject(asked="2026-03-02T00:00:00Z", rotation={"every": "30d", "overlap": "2d"}),
        seen(OVERLAPPING), DAY, [], DAY,
    ),
    "after the overlap the old one is retired": (MONTHLY, seen(OVERLAPPING), 2 * DAY, [RETIRE], None),
    "without an overlap it is at once": (
        subject(rotation={"overlap": "0s"}), seen(OVERLAPPING), timedelta(), [RETIRE], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", PLANS)
def test_plan(sentence: str) -> None:
    integration, observed, later, expected, again = PLANS[sentence]
    if not integration.spec.webhook.enabled:
        assert observed.route is not None
        observed = replace(observed, route=replace(observed.route, enabled=False))
    found = plan_rotation(integration, observed, now=BEGIN + later)
    assert [str(action) for action in found] == expected
    assert found.check_after == again


def test_the_earlier_of_period_and_annotation_counts() -> None:
    asked = subject(asked="2026-03-05T00:00:00Z", rotation={"every": "30d"})
    assert next_rotation(asked, KEYS) == BEGIN + 4 * DAY


# --- in a world of its own ----------------------------------------------------------------------------------


class Clock:
    time = BEGIN

    def now(self) -> datetime:
        return self.time


class ClearSealer:
    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class World:
    """One Integration's servers, which outlive its processes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster, self.secrets, self.routes = MemoryCluster(), MemorySecretStore(), MemoryRoutes()
        self.secrets.now = self.clock.now
        self.status = IntegrationStatus()
        self.asked = ""

    async def settle(self, at: int = 0) -> None:
        fate = {"at": at, "count": 0}
        ports = RunnerPorts(
            cluster=Doomed(self.cluster, fate),
            directory=MemoryDirectory({"acme": TENANT}),
            routes=Doomed(self.routes, fate),
            triggers=MemoryTriggers(),
            secrets=Doomed(self.secrets, fate),
            sealer=ClearSealer(),
            journal=MemoryJournal(clock=self.clock),
            decisions=MemoryDecisions(),
            actions=MemoryActions(catalogue.load()),
            imports=MemoryImport(()),
            **dict.fromkeys(("compute", "artifacts", "trainings", "windows", "pointers")),  # type: ignore[arg-type]
        )
        for _ in range(10):
            outcome = await reconcile(
                subject(self.status, asked=self.asked, rotation={"overlap": "2d"}),
                ports=ports,
                clock=self.clock,
                gateway_url="https://hooks.example/",
            )
            self.status = outcome.status
            if not outcome.results.done:
                return
        pytest.fail("never at rest")

    async def good(self) -> list[str]:
        """The secrets that the gateway takes."""
        route = await self.routes.find(integration_uid=UID)
        assert route is not None
        found: list[str] = json.loads(self.routes.sealed[route.hook_id])["secrets"]
        return found

    async def shown(self) -> str:
        """The secret for the provider."""
        ref = Ref(api_version="v1", kind="Secret", namespace="acme", name="github-webhook")
        found = await self.cluster.get(ref)
        assert found is not None
        return base64.b64decode(found["data"]["secret"]).decode()

    def good_keys(self) -> list[tuple[int, datetime | None]]:
        assert self.status.webhook is not None
        return [(key.id, key.ends_at) for key in self.status.webhook.keys]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    token = {"token": base64.b64encode(b"canary-token").decode()}
    secret = {"name": "github-token", "namespace": "acme"}
    await made.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": token})
    await made.settle()
    made.clock.time += DAY
    made.asked = "2026-03-02T00:00:00Z"
    return made


async def test_both_are_good_until_the_overlap_ends_and_then_the_new_one_alone(world: World) -> None:
    old = await world.shown()
    assert world.good_keys() == [(1, None)]
    await world.settle()
    new = await world.shown()
    assert new != old
    assert await world.good() == [new, old]
    assert world.good_keys() == [(2, None), (1, BEGIN + 3 * DAY)]
    assert world.status.webhook is not None
    assert world.status.webhook.rotated_at == BEGIN + DAY
    world.clock.time = BEGIN + 3 * DAY
    await world.settle()
    assert await world.good() == [new]
    assert world.good_keys() == [(2, None)]
    assert new not in str(world.status)


@pytest.mark.parametrize("at", range(1, 5))
async def test_killed_after_any_write_of_a_rotation_one_more_secret_was_made(world: World, at: int) -> None:
    old = await world.shown()
    with pytest.raises(Killed):
        await world.settle(at)
    world.clock.time += timedelta(minutes=1)
    await world.settle()
    assert await world.good() == [await world.shown(), old]
    assert [number for number, _ in world.good_keys()] == [2, 1]


@pytest.mark.parametrize("at", range(1, 3))
async def test_killed_after_any_write_of_its_end_the_new_secret_alone_is_good(world: World, at: int) -> None:
    await world.settle()
    new = await world.shown()
    world.clock.time += 3 * DAY
    with pytest.raises(Killed):
        await world.settle(at)
    await world.settle()
    assert await world.good() == [new]
    assert await world.shown() == new
    assert [number for number, _ in world.good_keys()] == [2]


async def test_who_rotated_meanwhile_is_not_overwritten(world: World) -> None:
    theirs = {"secret": Secret("theirs"), "hook": Secret("h" * 32), "number": Secret("2")}
    replaces = world.secrets.replace

    async def beaten(path: str, fields: Any, *, expected: int) -> bool:
        await replaces(path, theirs, expected=expected)
        world.secrets.replace = replaces  # type: ignore[method-assign]
        return await replaces(path, fields, expected=expected)

    world.secrets.replace = beaten  # type: ignore[method-assign]
    await world.settle()
    assert await world.shown() == "theirs"


async def test_a_secret_of_before_there_were_rotations_is_the_first(world: World) -> None:
    world.asked = ""
    await world.secrets.delete(PATH)
    old = {"secret": Secret("old"), "hook": Secret("h" * 32)}
    await world.secrets.create(PATH, old, owner=TENANT.uid)
    await world.settle()
    assert world.good_keys() == [(1, None)]
    assert world.status.webhook is not None
    assert world.status.webhook.rotated_at is None
    world.clock.time += DAY
    world.asked = "2026-03-03T00:00:00Z"
    await world.settle()
    assert await world.good() == [await world.shown(), "old"]


async def test_what_was_told_stays_while_the_store_does_not_answer(world: World) -> None:
    await world.settle()
    before = world.good_keys()

    async def silent(path: str) -> Any:
        raise errors.Unreachable("Vault is sealed")

    world.secrets.issued = silent  # type: ignore[method-assign]
    await world.settle()
    assert world.good_keys() == before
    assert world.status.webhook is not None
    assert world.status.webhook.rotated_at == BEGIN + DAY
