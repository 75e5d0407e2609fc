"""The webhook at the provider: one for each project, repaired, rotated and removed; no crash makes two."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import catalogue
from controllers.integration.reconcile import reconcile
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
from pipewright.runner_facts import CredentialCheck, ProviderHook, Registered, TenantRef
from tests.unit.controllers.doomed import Doomed, Killed

UID = "11111111-2222-3333-4444-555555555555"
TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
REGISTERED = ("True", "Registered")


class Clock:
    time = BEGIN

    def now(self) -> datetime:
        return self.time


class Sealer:
    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class World:
    """One Integration, its servers and its provider, which outlive its processes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster, self.secrets, self.routes = MemoryCluster(), MemorySecretStore(), MemoryRoutes()
        self.secrets.now = self.clock.now
        self.actions = MemoryActions(catalogue.load())
        self.directory = MemoryDirectory({"acme": TENANT})
        self.status = IntegrationStatus()
        self.annotations: dict[str, str] = {}
        self.webhook: dict[str, Any] = {"register": True, "rotation": {"overlap": "2h"}}
        self.projects = ["acme/pay", "acme/shop"]
        self.connector = "github"
        self.url = "https://hooks.example/"
        self.deleted: datetime | None = None
        self.next_look: timedelta | None = None
        self.writes = 0

    def subject(self) -> Integration:
        metadata: dict[str, Any] = {"name": "github", "namespace": "acme", "uid": UID, "generation": 1}
        metadata["annotations"] = self.annotations
        if self.deleted is not None:
            metadata["deletionTimestamp"] = self.deleted.isoformat().replace("+00:00", "Z")
        spec = {
            "connector": self.connector,
            "credentials": {"secretRef": {"name": "github-token"}},
            "projects": self.projects,
            "webhook": self.webhook,
        }
        return Integration.parse({"metadata": metadata, "spec": spec, "status": self.status.dump()})

    async def look(self, at: int = 0) -> Any:
        fate = {"at": at, "count": 0}
        ports = RunnerPorts(
            cluster=Doomed(self.cluster, fate),
            directory=self.directory,
            routes=Doomed(self.routes, fate),
            triggers=MemoryTriggers(),
            secrets=Doomed(self.secrets, fate),
            sealer=Sealer(),
            journal=MemoryJournal(clock=self.clock),
            decisions=MemoryDecisions(),
            actions=Doomed(self.actions, fate),
            imports=MemoryImport(()),
            **dict.fromkeys(("compute", "artifacts", "trainings", "windows", "pointers")),  # type: ignore[arg-type]
        )
        try:
            outcome = await reconcile(self.subject(), ports=ports, clock=self.clock, gateway_url=self.url)
        finally:
            self.writes += fate["count"]
        self.status, self.next_look = outcome.status, outcome.next_look
        return outcome

    async def killed(self, at: int) -> bool:
        """Look until the process dies after the n-th write; whether it did."""
        for _ in range(10 if at else 0):
            before = self.writes
            try:
                await self.look(at=at)
            except Killed:
                return True
            at -= self.writes - before
        return False

    async def settle(self) -> Any:
        """Look until nothing is done and nothing is due at once."""
        for _ in range(30):
            outcome = await self.look()
            soon = self.next_look is not None and self.next_look <= timedelta(seconds=1)
            if outcome.finished or (not outcome.results.done and not soon):
                return outcome
        pytest.fail("never at rest")

    def said(self) -> tuple[str, str]:
        (found,) = [told for told in self.status.conditions if told.type == "WebhookReady"]
        return found.status, found.reason

    def message(self) -> str:
        (found,) = [told for told in self.status.conditions if told.type == "WebhookReady"]
        return found.message

    def at_provider(self) -> dict[str, list[tuple[str, str]]]:
        """By project: address and secret of each webhook."""
        found: dict[str, list[tuple[str, str]]] = {}
        for (project, _), (hook, secret) in self.actions.hooks.items():
            found.setdefault(project, []).append((hook.url, secret.reveal()))
        return found

    async def shown(self) -> tuple[str, str]:
        """Address and secret for the provider, as the namespace's Secret has them."""
        ref = Ref(api_version="v1", kind="Secret", namespace="acme", name="github-webhook")
        found = await self.cluster.get(ref)
        assert found is not None
        fields = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
        return fields["url"], fields["secret"]

    async def noted(self) -> dict[str, Registered]:
        return {note.project: note for note in await self.routes.registrations(integration_uid=UID)}

    async def drop_credentials(self) -> None:
        ref = Ref(api_version="v1", kind="Secret", namespace="acme", name="github-token")
        found = await self.cluster.get(ref)
        assert found is not None
        await self.cluster.delete(ref, uid=found["metadata"]["uid"])


@pytest.fixture
async def world() -> World:
    made = World()
    await made.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    token = {"token": base64.b64encode(b"canary-token").decode()}
    secret = {"name": "github-token", "namespace": "acme"}
    await made.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": token})
    return made


async def test_each_project_gets_one_with_our_address_and_secret(world: World) -> None:
    await world.settle()
    shown = await world.shown()
    assert world.at_provider() == {"acme/pay": [shown], "acme/shop": [shown]}
    assert world.said() == REGISTERED
    assert {note.id for note in (await world.noted()).values()} == {"1", "2"}
    assert shown[1] not in str(world.status)


async def test_at_rest_nothing_is_written_but_when_the_provider_was_looked_at(world: World) -> None:
    await world.settle()
    assert world.next_look == timedelta(minutes=10)  # when missed deliveries are looked for
    before = world.writes
    assert not (await world.look()).results.done
    assert world.writes == before
    world.clock.time += HOUR
    looked = await world.look()
    assert not looked.results.done
    assert world.writes == before + 4  # for each project the notes of when
    assert world.said() == REGISTERED


@pytest.mark.parametrize("at", range(1, 14))
async def test_killed_after_any_write_there_is_one_for_each_project(world: World, at: int) -> None:
    assert await world.killed(at), "the sweep goes further than there are writes"
    world.status = IntegrationStatus()  # it was perhaps never written
    await world.settle()
    shown = await world.shown()
    assert world.at_provider() == {"acme/pay": [shown], "acme/shop": [shown]}
    assert world.said() == REGISTERED


async def test_one_that_was_entered_by_hand_is_adopted(world: World) -> None:
    world.webhook = {}
    await world.settle()
    url, _ = await world.shown()
    by_hand = ProviderHook(id="77", url=url, current=False)
    world.actions.hooks["acme/shop", "77"] = (by_hand, Secret("mistyped"))
    world.webhook = {"register": True}
    await world.settle()
    shown = await world.shown()
    assert world.at_provider() == {"acme/shop": [shown], "acme/pay": [shown]}
    assert (await world.noted())["acme/shop"].id == "77"


DRIFTS: dict[str, dict[str, Any]] = {
    "switched off, or for other events": {"current": False},
    "sent elsewhere": {"url": "https://elsewhere.example/x"},
}


@pytest.mark.parametrize("sentence", DRIFTS)
async def test_drift_is_repaired(world: World, sentence: str) -> None:
    await world.settle()
    for place, (hook, secret) in list(world.actions.hooks.items()):
        world.actions.hooks[place] = (replace(hook, **DRIFTS[sentence]), secret)
    world.clock.time += HOUR
    await world.settle()
    shown = await world.shown()
    assert world.at_provider() == {"acme/pay": [shown], "acme/shop": [shown]}
    assert all(hook.current for hook, _ in world.actions.hooks.values())


async def test_one_that_somebody_removed_is_made_again(world: World) -> None:
    await world.settle()
    world.actions.hooks.clear()
    world.clock.time += HOUR
    await world.settle()
    assert set(world.at_provider()) == {"acme/pay", "acme/shop"}


async def test_another_address_of_the_gateway_reaches_the_provider_at_once(world: World) -> None:
    await world.settle()
    world.url = "https://new.example"
    await world.settle()
    url, secret = await world.shown()
    assert url.startswith("https://new.example/hooks/")
    assert world.at_provider() == {"acme/pay": [(url, secret)], "acme/shop": [(url, secret)]}


async def test_a_rotation_reaches_the_provider_before_its_overlap_begins(world: World) -> None:
    await world.settle()
    world.clock.time += HOUR
    world.annotations = {names.ROTATE_ANNOTATION: "2026-03-01T01:00:00Z"}
    world.actions.refusals["acme/pay"] = errors.Unreachable("GitHub does not answer")
    await world.settle()
    url, secret = await world.shown()
    assert world.at_provider()["acme/shop"] == [(url, secret)]
    assert world.at_provider()["acme/pay"] != [(url, secret)]
    assert world.status.webhook is not None
    assert [key.ends_at for key in world.status.webhook.keys] == [None, None]
    world.actions.refusals.clear()
    world.clock.time += timedelta(minutes=5)
    await world.settle()
    assert world.at_provider()["acme/pay"] == [(url, secret)]
    ends = BEGIN + HOUR + timedelta(minutes=5) + 2 * HOUR
    assert [key.ends_at for key in world.status.webhook.keys] == [None, ends]


async def test_a_project_that_is_never_reached_keeps_no_old_secret_alive(world: World) -> None:
    await world.settle()
    world.annotations = {names.ROTATE_ANNOTATION: "2026-03-01T00:00:01Z"}
    world.clock.time += HOUR
    world.actions.refusals["acme/pay"] = errors.Stalled("ProviderRefused", "GitHub answered 404")
    await world.settle()
    world.clock.time += 2 * HOUR
    await world.settle()
    world.clock.time += 2 * HOUR
    await world.settle()
    assert world.status.webhook is not None
    assert [key.id for key in world.status.webhook.keys] == [2]
    assert world.said() == ("False", "ProviderRefused")


async def test_a_refusal_is_told_and_tried_again_later_and_keeps_no_other_project_out(world: World) -> None:
    world.actions.refusals["acme/pay"] = errors.Stalled("ProviderRefused", "GitHub answered 404: Not Found")
    await world.settle()
    assert set(world.at_provider()) == {"acme/shop"}
    assert world.said() == ("False", "ProviderRefused")
    assert "acme/pay" in world.message()
    assert world.next_look is not None
    assert timedelta(minutes=4) < world.next_look <= timedelta(minutes=5)
    world.actions.refusals.clear()
    await world.settle()
    assert set(world.at_provider()) == {"acme/shop"}, "not before its time"
    world.clock.time += timedelta(minutes=5)
    await world.settle()
    assert world.said() == REGISTERED


async def test_a_provider_that_is_down_takes_nothing_back(world: World) -> None:
    await world.settle()
    world.clock.time += HOUR
    for project in world.projects:
        world.actions.refusals[project] = errors.Unreachable("GitHub does not answer")
    await world.settle()
    assert world.said() == REGISTERED


async def test_without_good_credentials_nobody_is_asked(world: World) -> None:
    world.actions.answer = CredentialCheck(accepted=False, reason="CredentialsRefused", message="no")
    await world.settle()
    assert world.at_provider() == {}
    assert world.said() == ("False", "CredentialsNotValid")


async def test_more_projects_than_one_look_has_time_for_are_all_registered(world: World) -> None:
    world.projects = [f"acme/p{number:02}" for number in range(25)]
    await world.look()
    await world.look()
    assert 0 < len(world.at_provider()) < 25
    await world.settle()
    assert len(world.at_provider()) == 25
    assert world.said() == REGISTERED


@pytest.mark.parametrize(
    ("webhook", "projects"),
    [
        ({"register": False}, ["acme/pay", "acme/shop"]),
        ({"register": True, "enabled": False}, ["acme/pay", "acme/shop"]),
        ({"register": True}, ["acme/shop"]),
    ],
)
async def test_what_is_not_wanted_any_more_is_removed(
    world: World, webhook: dict[str, Any], projects: list[str]
) -> None:
    await world.settle()
    world.webhook, world.projects = webhook, projects
    await world.settle()
    left = {"acme/shop"} if len(projects) == 1 else set()
    assert set(world.at_provider()) == left
    assert set(await world.noted()) == left


async def test_a_connector_without_such_an_api_is_stalled_with_what_to_do(world: World) -> None:
    world.connector = "travis"
    await world.settle()
    assert world.said() == ("False", "RegistrationNotSupported")
    (stalled,) = [told for told in world.status.conditions if told.type == "Stalled"]
    assert stalled.status == "True"


# --- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(7))
async def test_a_deletion_killed_after_any_write_leaves_nothing_anywhere(world: World, at: int) -> None:
    await world.settle()
    world.deleted = world.clock.time
    assert await world.killed(at) is bool(at)
    assert (await world.settle()).finished
    assert world.at_provider() == {}
    assert await world.routes.find(integration_uid=UID) is None
    assert await world.secrets.version(f"{TENANT.id}/platform/integrations/{UID}") is None


async def test_a_deletion_waits_for_a_provider_that_is_down_and_says_so(world: World) -> None:
    await world.settle()
    world.deleted = world.clock.time
    world.actions.refusals["acme/pay"] = errors.Unreachable("GitHub does not answer")
    outcome = await world.settle()
    assert not outcome.finished
    assert set(world.at_provider()) == {"acme/pay"}
    assert world.said() == ("False", "Unreachable")
    assert "pipewright.dev/abandon=webhook" in world.message()
    assert world.next_look == timedelta(minutes=1)
    world.actions.refusals.clear()
    assert (await world.settle()).finished
    assert world.at_provider() == {}


async def test_a_deletion_does_not_wait_for_ever(world: World) -> None:
    await world.settle()
    world.deleted = world.clock.time
    world.actions.refusals["acme/pay"] = errors.Stalled("ProviderRefused", "GitHub answered 404")
    assert not (await world.settle()).finished
    world.clock.time += HOUR
    outcome = await world.look()
    assert [sentence for _, sentence in outcome.results.done] == [
        "leave the webhook of acme/pay at the CI system: GitHub answered 404"
    ]
    assert (await world.settle()).finished


async def test_a_provider_that_is_gone_for_good_is_skipped_when_that_is_asked_for(world: World) -> None:
    await world.settle()
    world.deleted = world.clock.time
    world.annotations = {names.ABANDON_ANNOTATION: "webhook"}
    for project in world.projects:
        world.actions.refusals[project] = errors.Unreachable("GitHub does not answer")
    assert (await world.settle()).finished
    assert set(world.at_provider()) == {"acme/pay", "acme/shop"}


async def test_credentials_that_went_first_keep_nothing_alive(world: World) -> None:
    await world.settle()
    await world.drop_credentials()
    world.deleted = world.clock.time
    assert (await world.settle()).finished


async def test_a_project_that_was_never_reached_keeps_no_deletion_waiting(world: World) -> None:
    for project in world.projects:
        world.actions.refusals[project] = errors.Unreachable("GitHub does not answer")
    await world.settle()
    world.deleted = world.clock.time
    assert (await world.settle()).finished


async def test_a_tenant_that_is_gone_keeps_nothing_alive(world: World) -> None:
    await world.settle()
    world.directory.tenants.clear()
    world.deleted = world.clock.time
    assert (await world.settle()).finished
    assert world.at_provider() == {}
