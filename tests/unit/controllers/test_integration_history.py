"""When and where a history is read on, and what is told of it; no crash or trouble loses or blocks a part."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import catalogue
from controllers.integration import history
from controllers.integration.history import Pass
from controllers.integration.reconcile import reconcile
from pipewright import errors
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
from pipewright.events import RunRecord
from pipewright.ports import RunnerPorts
from pipewright.runner_facts import CredentialCheck, HistoryPart, TenantRef, Trouble

TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SYNC = {"backfill": "30d", "every": "1h"}
READ = ("False", "Reading")
CURRENT = ("True", "SyncCurrent")


def run(number: int, project: str = "acme/shop") -> RunRecord:
    return RunRecord(
        project=project,
        pipeline="ci",
        id=str(number),
        attempt=1,
        phase="finished",
        outcome="success",
        started_at=BEGIN,
        finished_at=BEGIN,
    )


def part(*numbers: int, cursor: str | None = None, trouble: Trouble | None = None) -> HistoryPart:
    return HistoryPart(records=tuple(run(number) for number in numbers), cursor=cursor, trouble=trouble)


class Clock:
    time = BEGIN

    def now(self) -> datetime:
        return self.time


class Sealer:
    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        return plaintext


class World:
    """One Integration, its servers, and looks at it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster, self.secrets, self.routes = MemoryCluster(), MemorySecretStore(), MemoryRoutes()
        self.actions = MemoryActions(catalogue.load())
        self.imports = MemoryImport({("acme", "github")})
        self.status = IntegrationStatus()
        self.spec: dict[str, Any] = {
            "connector": "github",
            "credentials": {"secretRef": {"name": "github-token"}},
            "projects": ["acme/shop"],
            "sync": SYNC,
        }
        self.next_look: timedelta | None = None

    async def look(self, *, keep: bool = True) -> tuple[str, str] | None:
        """One look; `keep` is False when the process dies before the status is written."""
        ports = RunnerPorts(
            cluster=self.cluster,
            directory=MemoryDirectory({"acme": TENANT}),
            routes=self.routes,
            triggers=MemoryTriggers(),
            secrets=self.secrets,
            sealer=Sealer(),
            journal=MemoryJournal(clock=self.clock),
            decisions=MemoryDecisions(),
            actions=self.actions,
            imports=self.imports,
            **dict.fromkeys(("compute", "artifacts", "trainings", "windows", "pointers")),  # type: ignore[arg-type]
        )
        metadata = {"name": "github", "namespace": "acme", "uid": "u", "generation": 1}
        subject = Integration.parse({"metadata": metadata, "spec": self.spec, "status": self.status.dump()})
        outcome = await reconcile(
            subject, ports=ports, clock=self.clock, gateway_url="https://hooks.example/"
        )
        self.next_look = outcome.next_look
        if keep:
            self.status = outcome.status
        told = [each for each in outcome.status.conditions if each.type == "SyncCurrent"]
        return (told[0].status, told[0].reason) if told else None

    @property
    def stored(self) -> list[str]:
        return sorted(record.id for record in self.imports.stored.get(("acme", "github"), {}).values())


@pytest.fixture
async def world() -> World:
    made = World()
    await made.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
    await made.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "github-token", "namespace": "acme"},
            "data": {"token": base64.b64encode(b"canary-token").decode()},
        }
    )
    assert await made.look() == ("False", "WebhookNotReady")
    return made


async def test_a_history_is_read_part_by_part_and_then_on_and_on(world: World) -> None:
    world.actions.histories = [part(1, 2, cursor="a"), part(3)]
    assert await world.look() == READ
    assert world.next_look == timedelta(seconds=1)
    assert await world.look() == CURRENT
    assert world.stored == ["1", "2", "3"]
    assert world.actions.read == [("acme/shop", ""), ("acme/shop", "a")]
    assert world.next_look == timedelta(hours=1)
    assert await world.look() == CURRENT
    assert len(world.actions.read) == 2, "not before its time"
    world.clock.time = BEGIN + timedelta(hours=1)
    assert await world.look() == CURRENT
    assert len(world.actions.read) == 3
    assert world.status.sync is not None
    assert (world.status.sync.through, world.status.sync.cursor) == (BEGIN + timedelta(hours=1), "")


async def test_the_first_pass_goes_back_and_the_next_ones_overlap(world: World) -> None:
    subject = Integration.parse(
        {"metadata": {"name": "github", "namespace": "acme", "uid": "u", "generation": 1}, "spec": world.spec}
    )
    first = history.due(subject, now=BEGIN)
    assert first == Pass(since=BEGIN - timedelta(days=30), until=BEGIN, project="acme/shop")
    await world.look()
    later = subject.model_copy(update={"status": world.status})
    assert history.due(later, now=BEGIN + timedelta(minutes=59)) is None
    assert history.due(later, now=BEGIN + timedelta(hours=2)) == Pass(
        since=BEGIN - timedelta(hours=6), until=BEGIN + timedelta(hours=2), project="acme/shop"
    )


async def test_every_project_is_read_in_its_turn(world: World) -> None:
    world.spec["projects"] = ["acme/web", "acme/pay"]
    world.actions.histories = [part(1, cursor="p"), part(2), part(3)]
    assert [await world.look() for _ in range(3)] == [READ, READ, CURRENT]
    assert world.actions.read == [("acme/pay", ""), ("acme/pay", "p"), ("acme/web", "")]


async def test_what_a_reading_left_out_is_told_until_the_next_one(world: World) -> None:
    world.actions.histories = [
        replace(part(1, cursor="a"), left_out=("run: a", "run: b")),
        replace(part(2), left_out=("run: b", "job: c")),
    ]
    told = []
    for _ in range(2):
        await world.look()
        assert world.status.sync is not None
        told.append(world.status.sync.left_out)
    assert told == [("run: a", "run: b"), ("run: a", "run: b", "job: c")]
    world.clock.time = BEGIN + timedelta(hours=1)
    await world.look()
    assert world.status.sync.left_out == ()


async def test_reading_on_is_no_news(world: World) -> None:
    assert await world.look() == CURRENT
    world.clock.time = BEGIN + timedelta(hours=1)
    world.actions.histories = [part(1, cursor="a"), part(2)]
    assert [await world.look() for _ in range(2)] == [CURRENT, CURRENT]
    assert world.stored == ["1", "2"]


async def test_a_release_without_the_connector_keeps_how_far_it_was(world: World) -> None:
    world.actions.histories = [part(1, cursor="a")]
    await world.look()
    world.actions = MemoryActions({})
    assert await world.look() is None
    world.actions = MemoryActions(catalogue.load())
    await world.look()
    assert world.actions.read == [("acme/shop", "a")]


@pytest.mark.parametrize("change", [{"projects": ["acme/shop", "acme/new"]}, {"sync": {"backfill": "60d"}}])
async def test_another_project_or_backfill_is_read_from_the_begin(
    world: World, change: dict[str, Any]
) -> None:
    assert await world.look() == CURRENT
    world.spec |= change
    world.actions.histories = [part(7, cursor="x")]
    assert await world.look() == READ
    assert world.stored == ["7"]


async def test_a_part_whose_cursor_was_lost_comes_again_and_changes_nothing(world: World) -> None:
    world.actions.histories = [part(1, 2, cursor="a"), part(1, 2, cursor="a"), part(3)]
    await world.look(keep=False)
    await world.look()
    await world.look()
    assert world.actions.read == [("acme/shop", ""), ("acme/shop", ""), ("acme/shop", "a")]
    assert world.stored == ["1", "2", "3"]


class Refusing:
    """A gateway that does not store."""

    def __init__(self, trouble: Exception) -> None:
        self._trouble = trouble

    async def send(self, **_: Any) -> None:
        raise self._trouble


@pytest.mark.parametrize(
    ("trouble", "reason", "after"),
    [
        (
            errors.Waiting("GatewayBusy", "x", after=timedelta(seconds=30)),
            "GatewayBusy",
            timedelta(seconds=30),
        ),
        (errors.Unreachable("x"), "Unreachable", timedelta(minutes=5)),
        (errors.Forbidden("x"), "Forbidden", timedelta(minutes=5)),
        (errors.Stalled("NotConfigured", "x"), "NotConfigured", timedelta(minutes=5)),
    ],
)
async def test_the_cursor_stands_while_the_gateway_does_not_store(
    world: World, trouble: Exception, reason: str, after: timedelta
) -> None:
    stores = world.imports
    world.actions.histories = [part(1, cursor="a"), part(1, cursor="a")]
    world.imports = Refusing(trouble)  # type: ignore[assignment]
    assert await world.look() == ("False", reason)
    assert world.next_look == after
    world.imports = stores
    await world.look()
    assert world.actions.read == [("acme/shop", ""), ("acme/shop", "")]
    assert world.stored == ["1"]


async def test_what_was_read_before_a_trouble_is_stored_and_the_provider_is_asked_when_it_said(
    world: World,
) -> None:
    busy = Trouble(reason="ProviderBusy", message="it asks to wait", after=timedelta(minutes=17))
    world.actions.histories = [part(1, cursor="a", trouble=busy), part(2)]
    assert await world.look() == ("False", "ProviderBusy")
    assert (world.stored, world.next_look) == (["1"], timedelta(minutes=17))
    (told,) = [each for each in world.status.conditions if each.type == "SyncCurrent"]
    assert told.message == "acme/shop: it asks to wait"
    assert await world.look() == CURRENT
    assert world.actions.read[1] == ("acme/shop", "a")


@pytest.mark.parametrize(
    ("accepted", "reason", "after"),
    [(False, "CredentialsNotValid", timedelta(seconds=30)), (None, "Down", timedelta(minutes=1))],
)
async def test_nothing_is_read_until_the_credentials_are_accepted(
    world: World, accepted: bool | None, reason: str, after: timedelta
) -> None:
    world.actions.answer = CredentialCheck(accepted=accepted, reason="Down", message="it is down")
    assert await world.look() == ("False", reason)
    assert (world.actions.read, world.next_look) == ([], after)


async def test_a_provider_that_is_down_between_two_readings_says_nothing_against_the_last(
    world: World,
) -> None:
    assert await world.look() == CURRENT
    world.actions.answer = CredentialCheck(accepted=None, reason="Down", message="it is down")
    assert await world.look() == CURRENT


async def test_a_provider_that_asks_for_no_credentials_is_read(world: World) -> None:
    del world.spec["credentials"]
    world.spec["connector"] = "prow"
    world.spec["config"] = {
        "baseUrl": "https://prow.example",
        "audience": "https://hooks.example",
        "serviceAccount": "push@example.iam.gserviceaccount.com",
    }
    world.actions.histories = [part(1, 2)]
    assert await world.look() == CURRENT
    assert world.stored == ["1", "2"]


async def test_a_connector_without_a_history_is_told(world: World) -> None:
    without = replace(catalogue.load()["github"], sync=None)
    world.actions = MemoryActions({"github": without})
    assert await world.look() == ("False", "NotSupported")
    assert world.next_look is None


async def test_without_sync_nothing_is_read_or_told(world: World) -> None:
    await world.look()
    del world.spec["sync"]
    assert await world.look() is None
    assert world.status.sync is None
    assert len(world.actions.read) == 1


async def test_history_says_nothing_against_being_ready(world: World) -> None:
    world.actions.histories = [part(1, cursor="a")]
    await world.look()
    ready = {each.type: each.status for each in world.status.conditions}
    assert (ready["Ready"], ready["SyncCurrent"]) == ("True", "False")


@pytest.mark.parametrize("text", ["", "x", "{}", "[1,2,3,4]", '["2026-01-01T00:00:00Z"]', "[" * 5000])
def test_what_is_no_pass_is_none(text: str) -> None:
    assert Pass.parse(text) is None


def test_a_pass_is_kept_as_it_is() -> None:
    kept = Pass(since=BEGIN, until=BEGIN, project="acme/shop", cursor='["x","ü\\"",1]')
    assert Pass.parse(kept.text()) == kept
