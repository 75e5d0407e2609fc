"""A run killed before or after any of its writes ends in a state that it could have ended in without.

The ports are the in-memory ones (held to the same contract as the real); the kill is real: nothing after it
runs, and the next process starts from the journal.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import catalogue
from controllers.workflow import objects as workflows
from controllers.workflowrun.reconcile import reconcile
from pipewright import events
from pipewright.api.v1alpha1 import Workflow, WorkflowRun
from pipewright.api.v1alpha1.workflowrun import WorkflowRunStatus
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
from pipewright.errors import Unreachable, Waiting
from pipewright.plan import Ref
from pipewright.ports import RunnerPorts
from pipewright.runner_facts import Decision, Performed, TenantRef

TENANT = TenantRef(id="abcdefghjkmn", uid="tenant-uid", name="acme", state="Active", server="main")
GITHUB = catalogue.load()["github"]
REPEATABLE = replace(
    GITHUB, actions={name: replace(action, idempotent=True) for name, action in GITHUB.actions.items()}
)
EVENT = {
    "type": "pipelinerun.finished",
    "id": "delivery-1",
    "integration": "github",
    "project": "acme/shop",
    "pipeline": "ci",
    "branch": "main",
    "sha": "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665",
    "trigger": "push",
    "actor": "",
    "outcome": "failure",
    "run": {"id": "77", "number": 7, "attempt": 1, "url": "https://github.com/acme/shop/actions/runs/77"},
}
STEPS = [
    {
        "name": "rerun",
        "uses": "github/rerun-failed-jobs",
        "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
    },
    {
        "name": "tell",
        "needs": ["rerun"],
        "uses": "github/comment",
        "with": {"project": "${{ event.project }}", "sha": "${{ event.sha }}", "body": "again"},
    },
]
BOTH = ["github/rerun-failed-jobs", "github/comment"]


NOT_NEEDED: dict[str, Any] = dict.fromkeys(("compute", "artifacts", "trainings", "windows", "pointers"))
"""The Model's ports: a run that reached for one would fail."""


class Killed(BaseException):
    """The process is gone."""


class Clock:
    """A clock that goes on by a second with each look."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


class Doomed:
    """A port whose process is killed before or after its n-th effect; the count is shared."""

    def __init__(self, port: Any, fate: dict[str, Any]) -> None:
        self._port, self._fate = port, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in ("begin", "finish", "begin_step", "finish_step", "perform"):
            return found

        async def effect(*args: Any, **kwargs: Any) -> Any:
            self._fate["count"] += 1
            due = self._fate["count"] == self._fate["at"]
            if due and self._fate["when"] == "before":
                raise Killed
            answer = await found(*args, **kwargs)
            if due:
                raise Killed
            return answer

        return effect


class World:
    """A cluster, a tenant and a run in it; `process` gives the ports of a new process."""

    def __init__(self, *, connector: Any = GITHUB, steps: list[dict[str, Any]] | None = None) -> None:
        self.clock = Clock()
        self.cluster = MemoryCluster()
        self.journal = MemoryJournal(clock=self.clock)
        self.decisions = MemoryDecisions()
        self.actions = MemoryActions({"github": connector})
        self._steps = steps or STEPS
        self.status = WorkflowRunStatus()
        self.passes = 0

    async def prepare(self) -> None:
        await self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})
        metadata = {"namespace": "acme", "uid": "workflow-uid", "generation": 1}
        spec = {"triggers": [{"event": "pipelinerun.finished"}], "steps": self._steps}
        workflow = Workflow.parse({"metadata": {"name": "heal", **metadata}, "spec": spec})
        self.revision = workflows.revision_name(workflow)
        await self.cluster.create(workflows.revision(workflow))
        await self.cluster.create(workflow.dump())
        integration = {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": "Integration",
            "metadata": {"name": "github", "namespace": "acme"},
            "spec": {
                "connector": "github",
                "credentials": {"secretRef": {"name": "github-token"}},
                "projects": ["acme/shop"],
            },
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "github-token", "namespace": "acme"},
            "data": {"token": "Y2FuYXJ5"},
        }
        await self.cluster.create(integration)
        await self.cluster.create(secret)
        decision = Decision(event=events.event_from_json(EVENT))
        self.decisions.decisions["acme", "heal", self.revision, "github", "delivery-1"] = decision

    def run(self, *, deleting: bool = False) -> WorkflowRun:
        metadata: dict[str, Any] = {"name": "heal-1", "namespace": "acme", "uid": "run-uid", "generation": 1}
        if deleting:
            metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        spec = {
            "workflow": {"name": "heal", "revision": self.revision},
            "event": {"integration": "github", "deliveryId": "delivery-1", "type": "pipelinerun.finished"},
        }
        return WorkflowRun.parse({"metadata": metadata, "spec": spec, "status": self.status.dump()})

    def process(self, fate: dict[str, Any] | None = None) -> RunnerPorts:
        doom = fate or {"at": 0, "count": 0, "when": "before"}
        return RunnerPorts(
            cluster=self.cluster,
            directory=MemoryDirectory({"acme": TENANT}),
            routes=MemoryRoutes(),
            triggers=MemoryTriggers(),
            secrets=MemorySecretStore(),
            sealer=NoSealer(),
            journal=Doomed(self.journal, doom),
            decisions=self.decisions,
            actions=Doomed(self.actions, doom),
            imports=MemoryImport({("acme", "github")}),
            **NOT_NEEDED,
        )

    async def one_pass(self, ports: RunnerPorts, *, deleting: bool = False) -> Any:
        self.passes += 1
        outcome = await reconcile(
            self.run(deleting=deleting), ports=ports, clock=self.clock, gateway_url="http://gateway"
        )
        self.status = outcome.status
        return outcome

    async def until_quiet(self, ports: RunnerPorts) -> None:
        for _ in range(40):
            outcome = await self.one_pass(ports)
            if not outcome.results.done and not outcome.results.failures:
                if self.status.finished_at is not None:
                    return
                for _ in range(int((outcome.next_look or timedelta(0)).total_seconds())):
                    self.clock.now()
        pytest.fail(f"never ends: {self.status}")

    def phases(self) -> dict[str, str]:
        return {step.name: step.phase for step in self.status.steps}

    def done(self) -> list[str]:
        return [what for what, _ in self.actions.performed]

    def succeeded(self) -> str:
        return next(condition.status for condition in self.status.conditions if condition.type == "Succeeded")


class NoSealer:
    """Nothing is sealed for a run."""

    key = "key"

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        raise AssertionError


@pytest.fixture
async def world() -> World:
    made = World()
    await made.prepare()
    return made


async def test_a_run_performs_its_steps_in_order_and_each_once(world: World) -> None:
    await world.until_quiet(world.process())
    assert world.done() == BOTH
    assert world.phases() == {"rerun": "Succeeded", "tell": "Succeeded"}
    assert world.succeeded() == "True"


async def test_a_run_that_has_ended_asks_nobody(world: World) -> None:
    await world.until_quiet(world.process())
    nobody = RunnerPorts(
        **dict.fromkeys(RunnerPorts.__dataclass_fields__)  # type: ignore[arg-type]
    )
    before = world.status
    outcome = await world.one_pass(nobody)
    assert outcome.status == before
    assert outcome.results.done == ()
    assert (await world.one_pass(nobody, deleting=True)).finished


EFFECTS = 8
"""Of the whole run: begin, two times (intent, action, outcome), finish."""
LOST_RERUN = {(2, "after"), (3, "before"), (3, "after"), (4, "before")}
"""Between the intent and the outcome of the first step: nobody knows whether it happened."""
LOST_TELL = {(at + 3, when) for at, when in LOST_RERUN}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, EFFECTS + 1))
async def test_killed_at_any_effect_no_action_is_done_twice(world: World, at: int, when: str) -> None:
    with pytest.raises(Killed):
        await world.until_quiet(world.process({"at": at, "count": 0, "when": when}))
    await world.until_quiet(world.process())
    assert len(world.done()) == len(set(world.done()))
    if (at, when) in LOST_RERUN:
        assert world.phases() == {"rerun": "Unknown", "tell": "Skipped"}
    elif (at, when) in LOST_TELL:
        assert world.phases() == {"rerun": "Succeeded", "tell": "Unknown"}
    else:
        assert world.phases() == {"rerun": "Succeeded", "tell": "Succeeded"}
    assert world.succeeded() == ("False" if "Unknown" in world.phases().values() else "True")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, EFFECTS + 1))
async def test_killed_at_any_effect_repeatable_actions_still_succeed(at: int, when: str) -> None:
    world = World(connector=REPEATABLE)
    await world.prepare()
    with pytest.raises(Killed):
        await world.until_quiet(world.process({"at": at, "count": 0, "when": when}))
    await world.until_quiet(world.process())
    assert world.phases() == {"rerun": "Succeeded", "tell": "Succeeded"}
    assert world.succeeded() == "True"


async def test_a_run_that_is_deleted_midway_is_cancelled_in_the_journal(world: World) -> None:
    ports = world.process()
    await world.one_pass(ports)
    await world.one_pass(ports)
    first = await world.one_pass(ports, deleting=True)
    assert not first.finished
    assert (await world.one_pass(ports, deleting=True)).finished
    journal = await world.journal.read(TENANT, run_uid="run-uid")
    assert journal is not None
    assert (journal.phase, journal.reason) == ("Cancelled", "Cancelled: the WorkflowRun was deleted")


async def test_a_failed_action_is_tried_again_as_often_as_the_step_says() -> None:
    world = World(steps=[{**STEPS[0], "retry": {"limit": 2, "backoff": "5s"}}])
    await world.prepare()
    world.actions.results = [Performed(phase="Failed", message="busy")] * 2
    await world.until_quiet(world.process())
    assert world.done() == ["github/rerun-failed-jobs"] * 3
    assert [(step.phase, step.attempt) for step in world.status.steps] == [("Succeeded", 3)]


async def test_an_output_that_cannot_be_read_leaves_the_step_unknown_and_is_not_repeated() -> None:
    world = World(steps=[{**STEPS[0], "retry": {"limit": 2}, "outputs": {"id": "result.id"}}])
    await world.prepare()
    await world.until_quiet(world.process())
    assert world.done() == ["github/rerun-failed-jobs"]
    assert world.phases() == {"rerun": "Unknown"}


async def test_outputs_reach_the_steps_that_need_them() -> None:
    tell = {**STEPS[1], "with": {"project": "a/b", "sha": "x", "body": "${{ steps.rerun.outputs.status }}"}}
    world = World(steps=[{**STEPS[0], "outputs": {"status": "result.status"}}, tell])
    await world.prepare()
    world.actions.results = [Performed(phase="Succeeded", result={"status": 201})]
    await world.until_quiet(world.process())
    assert world.actions.performed[1][1]["body"] == "201"


async def test_a_secret_that_is_missing_fails_the_step_with_its_name(world: World) -> None:
    ref = Ref(api_version="v1", kind="Secret", namespace="acme", name="github-token")
    found = await world.cluster.get(ref)
    assert found is not None
    await world.cluster.delete(ref, uid=found["metadata"]["uid"])
    await world.until_quiet(world.process())
    assert world.done() == []
    assert world.status.steps[0].message == "there is no Secret github-token"


class ClusterDown(MemoryCluster):
    """A cluster that does not tell of these kinds; `answers` counts how often it does at first."""

    def __init__(self, cluster: MemoryCluster, kind: str, *, answers: int = 0) -> None:
        super().__init__()
        self._cluster, self._kind, self._answers = cluster, kind, answers

    async def get(self, ref: Ref) -> Any:
        if ref.kind == self._kind:
            self._answers -= 1
            if self._answers < 0:
                raise Unreachable("the API server did not answer")
        return await self._cluster.get(ref)


async def test_an_api_server_that_is_down_before_the_intent_leaves_no_attempt(world: World) -> None:
    ports = world.process()
    await world.one_pass(ports)
    for _ in range(3):
        await world.one_pass(replace(ports, cluster=ClusterDown(world.cluster, "Secret")))
    journal = await world.journal.read(TENANT, run_uid="run-uid")
    assert journal is not None
    assert journal.attempts == ()
    assert world.succeeded() == "Unknown"
    await world.until_quiet(ports)
    assert world.done() == BOTH
    assert [step.attempt for step in world.status.steps] == [1, 1]


async def test_an_api_server_that_goes_down_after_the_intent_costs_no_retry(world: World) -> None:
    ports = world.process()
    await world.one_pass(ports)
    await world.one_pass(replace(ports, cluster=ClusterDown(world.cluster, "Secret", answers=1)))
    journal = await world.journal.read(TENANT, run_uid="run-uid")
    assert journal is not None
    assert [(tried.phase, tried.not_before == tried.finished_at) for tried in journal.attempts] == [
        ("Failed", True)
    ]
    await world.until_quiet(ports)
    assert world.phases() == {"rerun": "Succeeded", "tell": "Succeeded"}


async def test_a_provider_that_asks_to_wait_is_asked_again_then_without_any_retry(world: World) -> None:
    world.actions.results = [Performed(phase="Failed", message="busy", after=timedelta(seconds=90))]
    ports = world.process()
    await world.one_pass(ports)
    await world.one_pass(ports)
    waiting = await world.one_pass(ports)
    assert timedelta(seconds=80) < waiting.next_look < timedelta(seconds=90)
    assert world.phases()["rerun"] == "Pending"
    await world.until_quiet(ports)
    assert world.done() == ["github/rerun-failed-jobs", *BOTH]
    assert world.succeeded() == "True"


async def test_an_integration_whose_spec_cannot_be_read_fails_the_step_and_nothing_is_sent(
    world: World,
) -> None:
    ref = Ref(api_version="pipewright.dev/v1alpha1", kind="Integration", namespace="acme", name="github")

    class Older(ClusterDown):
        async def get(self, asked: Ref) -> Any:
            found = await self._cluster.get(asked)
            return {**found, "spec": {"connector": "github"}} if asked == ref else found

    await world.until_quiet(replace(world.process(), cluster=Older(world.cluster, "")))
    assert world.done() == []
    assert world.phases() == {"rerun": "Failed", "tell": "Skipped"}
    assert (world.status.steps[0].message or "").startswith("the spec of the Integration github cannot be")


@pytest.mark.parametrize(
    "trouble",
    [Unreachable("the database is down"), Waiting("CredentialsMissing", "Vault has no password")],
    ids=lambda trouble: trouble.reason,
)
async def test_a_run_goes_with_a_tenant_whose_database_cannot_be_reached(
    world: World, trouble: Exception
) -> None:
    class Down(MemoryJournal):
        async def read(self, tenant: TenantRef, *, run_uid: str) -> Any:
            raise trouble

    ports = world.process()
    await world.one_pass(ports)
    down = replace(ports, journal=Down(clock=world.clock))
    assert not (await world.one_pass(down, deleting=True)).finished
    leaving = MemoryDirectory({"acme": replace(TENANT, state="Deleting")})
    assert (await world.one_pass(replace(down, directory=leaving), deleting=True)).finished


async def test_a_database_that_does_not_answer_is_no_failure_of_the_run(world: World) -> None:
    class Down(MemoryJournal):
        async def read(self, tenant: TenantRef, *, run_uid: str) -> Any:
            raise Unreachable("PostgreSQL: no answer")

    outcome = await world.one_pass(replace(world.process(), journal=Down(clock=world.clock)))
    assert world.succeeded() == "Unknown"
    assert [failure.error.message for failure in outcome.results.failures] == ["PostgreSQL: no answer"]


async def test_no_credential_is_in_what_a_run_leaves_behind(world: World) -> None:
    await world.until_quiet(world.process())
    journal = await world.journal.read(TENANT, run_uid="run-uid")
    assert "canary" not in f"{journal}{world.status}{world.actions.performed}"
