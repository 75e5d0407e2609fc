"""From a key to a reconcile and back to the queue, on a cluster in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from pipewright import errors
from pipewright.api.meta import Condition
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.tenant import TenantStatus
from pipewright.backends.memory import MemoryCluster
from pipewright.outcome import Outcome
from pipewright.plan import Failure, Manifest, Ref, Results
from pipewright.runtime.drive import Controller, Driver
from pipewright.runtime.events import Events
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.queue import Key, WorkQueue

FINALIZER = "pipewright.dev/tenant"
ACME = Key("Tenant", "acme")
REF = Ref(api_version="pipewright.dev/v1alpha1", kind="Tenant", name="acme")
READY_AT = datetime(2030, 1, 1, tzinfo=UTC)


def ready(status: bool = True) -> TenantStatus:
    word = "True" if status else "False"
    condition = Condition(
        type="Ready",
        status="True" if status else "False",
        reason="Ready" if status else "Progressing",
        message=word,
        last_transition_time=READY_AT,
        observed_generation=1,
    )
    return TenantStatus(observed_generation=1, conditions=(condition,))


class Adds(WorkQueue):
    """A queue that notes what the driver asks of it."""

    def __init__(self, timer: Any) -> None:
        super().__init__(timer=timer, uniform=lambda low, high: high)
        self.asked: list[str] = []

    def add(self, key: Key, *, after: float = 0.0, low: bool = False) -> None:
        super().add(key, after=after, low=low)
        self.asked.append(f"{'low ' if low else ''}{after:g}")

    def go_on(self, key: Key) -> None:
        super().go_on(key)
        self.asked.append("on")

    def retry(self, key: Key) -> float:
        self.asked.append("retry")
        return super().retry(key)

    def forget(self, key: Key) -> None:
        super().forget(key)
        self.asked.append("forget")


class World:
    """A driver with everything around it, and one Tenant."""

    def __init__(self, timer: Any) -> None:
        self.cluster, self.queue, self.metrics = MemoryCluster(), Adds(timer), Metrics()
        self.timer = timer
        self.seen: list[Tenant] = []
        self.answer: Callable[[Tenant], Awaitable[Outcome[Any]]] | Outcome[Any] | Exception
        self.answer = Outcome(status=ready())
        self.controller = Controller(kind=Tenant, reconcile=self._reconcile, finalizer=FINALIZER)
        self.namespaces_made = False

    async def _reconcile(self, tenant: Tenant) -> Outcome[Any]:
        self.seen.append(tenant)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Outcome):
            return self.answer
        return await self.answer(tenant)

    def driver(self, controller: Controller[Any] | None = None, cluster: Any = None) -> Driver:
        events = Events(
            cluster or self.cluster,
            component="provisioner",
            instance="provisioner-0",
            clock=self.timer,
            metrics=self.metrics,
        )
        return Driver(
            cluster=cluster or self.cluster,
            queue=self.queue,
            controllers=[controller or self.controller],
            events=events,
            clock=self.timer,
            metrics=self.metrics,
            uniform=lambda low, high: 1.0,
        )

    async def create(self, **spec: Any) -> None:
        await self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
        metadata = {"name": "acme", "finalizers": [FINALIZER]}
        manifest = {"apiVersion": REF.api_version, "kind": "Tenant", "metadata": metadata, "spec": spec}
        await self.cluster.create(manifest)
        self.cluster.writes.clear()

    async def found(self) -> Mapping[str, Any]:
        found = await self.cluster.get(REF)
        assert found is not None
        return found

    async def condition(self, name: str) -> tuple[str, str, str]:
        raw = (await self.found())["status"]["conditions"]
        [found] = [condition for condition in raw if condition["type"] == name]
        return found["status"], found["reason"], found.get("message", "")

    async def delete(self) -> None:
        found = await self.found()
        await self.cluster.delete(REF, uid=found["metadata"]["uid"])
        self.cluster.writes.clear()

    async def events(self) -> list[tuple[str, str, str]]:
        found = await self.cluster.list(api_version="events.k8s.io/v1", kind="Event")
        return [(event["type"], event["reason"], event["note"]) for event in found]

    def result(self, name: str) -> float | None:
        labels = {"kind": "Tenant", "result": name}
        return self.metrics.registry.get_sample_value("pipewright_reconcile_total", labels)


@pytest.fixture
async def world(timer) -> World:
    world = World(timer)
    await world.create()
    return world


# -- the life of an object ---------------------------------------------------------------------------


async def test_an_object_that_is_gone_is_forgotten(timer) -> None:
    world = World(timer)
    await world.driver().drive(ACME)
    assert world.queue.asked == ["forget"]
    assert world.seen == []
    assert world.result("gone") == 1


async def test_the_finalizer_is_on_before_anything_else_happens(timer) -> None:
    world = World(timer)
    await world.create()
    found = await world.found()
    version = found["metadata"]["resourceVersion"]
    await world.cluster.set_finalizers(REF, finalizers=["other/one"], resource_version=version)
    finalizers: list[Sequence[str]] = []

    async def look(_: Tenant) -> Outcome[Any]:
        finalizers.append((await world.found())["metadata"]["finalizers"])
        return Outcome(status=ready())

    world.answer = look
    await world.driver().drive(ACME)
    assert finalizers == [["other/one", FINALIZER]]


async def test_a_conflict_over_the_finalizer_is_retried_without_a_reconcile(world) -> None:
    class Contended(MemoryCluster):
        async def set_finalizers(self, ref: Ref, **_: Any) -> None:
            raise errors.Conflict(f"{ref} changed meanwhile")

    cluster = Contended()
    metadata = {"name": "acme"}
    await cluster.create({"apiVersion": REF.api_version, "kind": "Tenant", "metadata": metadata, "spec": {}})
    await world.driver(cluster=cluster).drive(ACME)
    assert world.seen == []
    assert "retry" in world.queue.asked


async def test_a_kind_without_finalizer_gets_none(timer) -> None:
    world = World(timer)
    await world.create()
    found = await world.found()
    version = found["metadata"]["resourceVersion"]
    await world.cluster.set_finalizers(REF, finalizers=[], resource_version=version)
    await world.driver(Controller(kind=Tenant, reconcile=world._reconcile)).drive(ACME)
    assert (await world.found())["metadata"]["finalizers"] == []
    assert len(world.seen) == 1


async def test_a_finished_teardown_takes_off_our_finalizer_and_no_other(world) -> None:
    found = await world.found()
    await world.cluster.set_finalizers(
        REF, finalizers=["a/b", FINALIZER, "c/d"], resource_version=found["metadata"]["resourceVersion"]
    )
    await world.delete()
    world.answer = Outcome(status=ready(False), finished=True)
    await world.driver().drive(ACME)
    assert (await world.found())["metadata"]["finalizers"] == ["a/b", "c/d"]
    assert world.queue.asked == ["forget"]
    world.seen.clear()
    await world.driver().drive(ACME)
    assert world.seen == []
    assert world.result("released") == 1


async def test_an_object_goes_when_its_teardown_has_finished(world) -> None:
    await world.delete()
    world.answer = Outcome(status=ready(False), finished=True)
    await world.driver().drive(ACME)
    assert await world.cluster.get(REF) is None


async def test_a_teardown_with_a_failure_keeps_the_finalizer(world) -> None:
    await world.delete()
    failure = Failure(serves="Ready", action="drop the database", error=errors.Unreachable("down"))
    world.answer = Outcome(status=ready(False), results=Results(failures=(failure,)), finished=True)
    await world.driver().drive(ACME)
    assert (await world.found())["metadata"]["finalizers"] == [FINALIZER]
    assert world.queue.asked[-1] == "retry" or "retry" in world.queue.asked


# -- status --------------------------------------------------------------------------------------------


async def test_the_status_is_written_once_and_not_again_while_it_is_the_same(world) -> None:
    driver = world.driver()
    await driver.drive(ACME)
    assert world.cluster.writes == ["apply Tenant acme"]
    await driver.drive(ACME)
    await driver.drive(ACME)
    assert world.cluster.writes == ["apply Tenant acme"]
    assert world.result("steady") == 3


def on_its_way(step: str, generation: int = 1) -> Outcome[Any]:
    """One pass of many: something new was done, and more is to come."""
    condition = Condition(
        type="Reconciling",
        status="True",
        reason="Progressing",
        message=step,
        last_transition_time=READY_AT,
        observed_generation=generation,
    )
    status = TenantStatus(observed_generation=generation, conditions=(condition,))
    return Outcome(status=status, results=Results(done=(("Step", step),)))


async def test_of_many_passes_in_a_row_the_first_and_the_last_write_the_status(world) -> None:
    driver = world.driver()
    for step in ("one", "two", "three"):
        world.answer = on_its_way(step)
        await driver.drive(ACME)
    assert world.cluster.writes.count("apply Tenant acme") == 1
    assert (await world.condition("Reconciling"))[0] == "True"
    world.answer = Outcome(status=ready())
    await driver.drive(ACME)
    assert world.cluster.writes.count("apply Tenant acme") == 2
    assert (await world.condition("Ready"))[0] == "True"


class Reads(MemoryCluster):
    """A cluster that counts how often the object is read."""

    reads = 0

    async def get(self, ref: Ref) -> Manifest | None:
        self.reads += ref == REF
        return await super().get(ref)


@pytest.mark.parametrize(("passed", "reads"), [(0.0, 1), (1.1, 2)])
async def test_the_answer_to_the_status_write_is_the_next_looks_read_for_a_second(
    passed: float, reads: int, timer, monkeypatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("pipewright.runtime.drive.time.monotonic", lambda: now[0])
    world = World(timer)
    world.cluster = cluster = Reads()
    await world.create()
    driver = world.driver()
    world.answer = on_its_way("one")
    await driver.drive(ACME)
    now[0] += passed
    world.answer = on_its_way("two")
    await driver.drive(ACME)
    assert cluster.reads == reads
    assert world.seen[-1].status.conditions  # what the first look has written
    await driver.drive(ACME)  # nothing was written in the look before: an answer serves once
    assert cluster.reads == reads + 1


async def test_what_was_asked_for_after_the_status_write_is_read(timer) -> None:
    """An edit right after the write would else be looked for in an answer that is older than it."""
    world = World(timer)
    world.cluster = cluster = Reads()
    await world.create()
    driver = world.driver()
    world.answer = on_its_way("one")
    await driver.drive(ACME)
    reads = cluster.reads
    world.queue.add(ACME)
    await driver.drive(ACME)
    assert cluster.reads == reads + 1


async def test_an_object_at_rest_is_read_at_each_look(timer) -> None:
    world = World(timer)
    world.cluster = cluster = Reads()
    await world.create()
    driver = world.driver()
    await driver.drive(ACME)  # it writes the status, and no look follows at once
    await driver.drive(ACME)
    assert cluster.reads == 2


async def test_a_pass_that_only_repeats_writes_the_status(world) -> None:
    driver = world.driver()
    world.answer = on_its_way("one")
    await driver.drive(ACME)
    world.answer = on_its_way("one, in other words")
    await driver.drive(ACME)
    assert world.cluster.writes.count("apply Tenant acme") == 1
    await driver.drive(ACME)  # it repeats itself: no further look comes at once, so what it says must stand
    assert world.cluster.writes.count("apply Tenant acme") == 2


async def test_the_status_of_a_namesake_created_meanwhile_is_left_alone(world) -> None:
    async def replaced(_: Tenant) -> Outcome[Any]:
        found = await world.found()
        await world.cluster.set_finalizers(
            REF, finalizers=[], resource_version=found["metadata"]["resourceVersion"]
        )
        await world.cluster.delete(REF, uid=found["metadata"]["uid"])
        await world.create()
        return Outcome(status=ready())

    world.answer = replaced
    await world.driver().drive(ACME)
    assert "status" not in await world.found()
    assert "retry" in world.queue.asked


async def test_a_reconcile_that_raises_shows_in_the_status_and_keeps_the_rest_of_it(world) -> None:
    driver = world.driver()
    await driver.drive(ACME)
    world.answer = errors.Unreachable("the database server main did not answer")
    await driver.drive(ACME)
    assert await world.condition("Ready") == (
        "False",
        "Unreachable",
        "the database server main did not answer",
    )
    assert (await world.condition("Stalled"))[0] == "False"
    assert (await world.condition("Reconciling"))[0] == "True"


async def test_of_a_foreign_error_only_the_class_is_told(world) -> None:
    world.answer = RuntimeError("dsn postgresql://u:canary-4711@h/db")
    await world.driver().drive(ACME)
    status, reason, message = await world.condition("Ready")
    assert (status, reason) == ("False", "Internal")
    assert "RuntimeError" in message
    assert "canary" not in json.dumps(await world.found())
    assert "canary" not in json.dumps(await world.events())


async def test_errors_in_a_group_are_told_apart_and_the_surprise_comes_first(world) -> None:
    world.answer = ExceptionGroup(
        "look", [errors.Waiting("Soon", "it comes"), errors.Unreachable("Vault is sealed")]
    )
    await world.driver().drive(ACME)
    assert await world.condition("Ready") == ("False", "Unreachable", "Vault is sealed")


async def test_a_reconcile_that_takes_too_long_is_stopped(world) -> None:
    async def hang(_: Tenant) -> Outcome[Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    world.answer = hang
    quick = Controller(
        kind=Tenant, reconcile=world._reconcile, finalizer=FINALIZER, timeout=timedelta(seconds=0.01)
    )
    await world.driver(quick).drive(ACME)
    assert (await world.condition("Ready"))[1] == "TimedOut"
    assert "retry" in world.queue.asked


async def test_a_shutdown_in_the_middle_of_a_reconcile_writes_nothing(world) -> None:
    started = asyncio.Event()

    async def hang(_: Tenant) -> Outcome[Any]:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    world.answer = hang
    task = asyncio.create_task(world.driver().drive(ACME))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.cluster.writes == []


# -- a spec that cannot be read ------------------------------------------------------------------------


async def test_a_spec_that_does_not_parse_is_stalled_and_names_its_fields_without_values(timer) -> None:
    world = World(timer)
    await world.create(
        deletionPolicy="canary-1",
        podSecurity="canary-2",
        displayName="canary-3" * 100,
        database={"connectionLimit": "canary-4"},
    )
    await world.driver().drive(ACME)
    status, reason, message = await world.condition("Stalled")
    assert (status, reason) == ("True", "InvalidSpec")
    assert "spec.deletionPolicy" in message
    assert message.endswith("; and 1 more: see `kubectl explain tenant.spec`")
    assert "canary" not in message
    assert (await world.condition("Ready"))[:2] == ("False", "InvalidSpec")
    assert (await world.found())["status"]["observedGeneration"] == 1
    assert world.seen == []
    assert "retry" not in world.queue.asked
    assert world.result("invalid") == 1


async def test_an_invalid_spec_is_told_once(timer) -> None:
    world = World(timer)
    await world.create(podSecurity="none")
    driver = world.driver()
    await driver.drive(ACME)
    writes = list(world.cluster.writes)
    await driver.drive(ACME)
    assert world.cluster.writes == writes


async def test_the_summary_of_a_bounded_kind_is_told_under_its_own_name(timer) -> None:
    world = World(timer)
    await world.create(podSecurity="none")
    bounded = Controller(kind=Tenant, reconcile=world._reconcile, finalizer=FINALIZER, summary="Succeeded")
    await world.driver(bounded).drive(ACME)
    assert (await world.condition("Succeeded"))[:2] == ("False", "InvalidSpec")


async def test_trouble_of_a_bounded_kind_is_not_its_end(timer) -> None:
    world = World(timer)
    await world.create()
    bounded = Controller(
        kind=Tenant, reconcile=world._reconcile, finalizer=FINALIZER, summary="Succeeded", bounded=True
    )
    world.answer = RuntimeError("a bug")
    await world.driver(bounded).drive(ACME)
    assert (await world.condition("Succeeded"))[:2] == ("Unknown", "Internal")
    assert (await world.condition("Reconciling"))[0] == "True"


async def test_a_teardown_runs_with_the_defaults_of_what_cannot_be_read(timer) -> None:
    world = World(timer)
    await world.create(deletionPolicy="Shred", podSecurity="none", displayName="Acme")
    await world.delete()
    world.answer = Outcome(status=ready(False), finished=True)
    await world.driver().drive(ACME)
    (seen,) = world.seen
    assert (seen.spec.deletion_policy, seen.spec.pod_security) == ("Retain", "restricted")
    assert seen.spec.display_name == "Acme"
    assert await world.cluster.get(REF) is None


# -- the queue -----------------------------------------------------------------------------------------


def failing(*found: Exception, done: Sequence[tuple[str, str]] = ()) -> Outcome[Any]:
    failures = tuple(Failure(serves="Ready", action="act", error=error) for error in found)
    return Outcome(status=ready(False), results=Results(done=tuple(done), failures=failures))


DOWN = errors.Unreachable("down")
SOON = errors.Waiting("Soon", "it comes", after=timedelta(seconds=7))
NEVER = errors.Stalled("Broken", "fix it")
STEP = (("ApplyObject", "apply Namespace acme"),)

QUEUE = {
    "nothing to do: the periodic check": (Outcome(status=ready()), ["low 3600", "forget"], "steady"),
    "the plan knows a time": (
        Outcome(status=ready(), next_look=timedelta(seconds=90)),
        ["low 3600", "low 90", "forget"],
        "steady",
    ),
    "a time that has passed does not spin": (
        Outcome(status=ready(), next_look=timedelta(0)),
        ["low 3600", "low 1", "forget"],
        "steady",
    ),
    "something was done: again at once": (failing(done=STEP), ["low 3600", "on", "forget"], "changed"),
    "waiting: again after that time": (failing(SOON), ["low 3600", "7", "forget"], "waiting"),
    "a surprise: backoff": (failing(DOWN), ["low 3600", "retry", "0.5"], "failed"),
    "a person must act: nothing more": (failing(NEVER), ["low 3600", "forget"], "stalled"),
    "a surprise beside progress: at once, for the neighbours' sake": (
        failing(DOWN, done=STEP),
        ["low 3600", "on"],
        "failed",
    ),
    "waiting beside what needs a person: after that time": (
        failing(NEVER, SOON),
        ["low 3600", "7", "forget"],
        "stalled",
    ),
    "raised waiting": (SOON, ["low 3600", "7", "forget"], "waiting"),
    "raised stalled": (NEVER, ["low 3600", "forget"], "stalled"),
    "raised surprise": (ValueError("x"), ["low 3600", "retry", "0.5"], "failed"),
}


@pytest.mark.parametrize("case", QUEUE)
async def test_what_came_of_it_decides_when_to_look_again(case: str, world) -> None:
    world.answer, asked, result = QUEUE[case]
    await world.driver().drive(ACME)
    assert world.queue.asked == asked
    assert world.result(result) == 1


async def test_doing_the_same_again_and_again_backs_off(world) -> None:
    driver = world.driver()
    world.answer = failing(done=STEP)
    for _ in range(3):
        await driver.drive(ACME)
    assert world.queue.asked == [
        "low 3600",
        "on",
        "forget",
        "low 3600",
        "retry",
        "0.5",
        "low 3600",
        "retry",
        "1",
    ]
    assert world.result("unsettled") == 2


async def test_a_long_row_of_new_steps_never_backs_off(world) -> None:
    driver = world.driver()
    for number in range(300):
        world.answer = failing(done=[("RunStep", f"step {number}")])
        await driver.drive(ACME)
    assert "retry" not in world.queue.asked


async def test_repairing_the_same_thing_later_is_progress_again(world) -> None:
    driver = world.driver()
    for answer in (failing(done=STEP), Outcome(status=ready()), failing(done=STEP)):
        world.answer = answer
        await driver.drive(ACME)
    assert "retry" not in world.queue.asked


async def test_a_chain_that_repeats_its_start_before_it_fails_backs_off(world) -> None:
    driver = world.driver()
    world.answer = failing(DOWN, done=STEP)
    await driver.drive(ACME)
    world.queue.asked.clear()
    await driver.drive(ACME)
    assert world.queue.asked == ["low 3600", "retry", "0.5"]


async def test_an_api_server_that_does_not_answer_is_retried(world) -> None:
    class Down(MemoryCluster):
        async def get(self, ref: Ref) -> Manifest | None:
            raise errors.Unreachable(f"read {ref}: no answer")

    await world.driver(cluster=Down()).drive(ACME)
    assert "retry" in world.queue.asked


# -- Events, logs --------------------------------------------------------------------------------------


async def test_what_was_done_and_what_failed_become_events(world) -> None:
    done = [*STEP, ("ApplyObject", "apply ResourceQuota acme/quota"), ("CreateDatabase", "create database")]
    world.answer = failing(errors.Forbidden("may not"), SOON, done=done)
    await world.driver().drive(ACME)
    assert sorted(await world.events()) == [
        ("Normal", "ApplyObject", "apply Namespace acme; apply ResourceQuota acme/quota; create database"),
        ("Warning", "Forbidden", "act: may not"),
    ]


async def test_a_failure_that_repeats_makes_one_event(world) -> None:
    driver = world.driver()
    world.answer = failing(DOWN)
    for _ in range(5):
        await driver.drive(ACME)
        world.timer.advance(20)
    assert await world.events() == [("Warning", "Unreachable", "act: down")]


async def test_each_reconcile_is_one_line_with_the_objects_key_and_no_foreign_text(world) -> None:
    driver = world.driver()
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        world.answer = failing(DOWN, done=STEP)
        await driver.drive(ACME)
        world.answer = RuntimeError("token canary-4711")
        await driver.drive(ACME)
    first, second = [line for line in lines if line["event"] == "reconciled"]
    assert (first["kind"], first["object"], first["result"]) == ("Tenant", "acme", "failed")
    assert first["done"] == ["apply Namespace acme"]
    assert first["failures"] == [{"reason": "Unreachable", "error": "down"}]
    assert (second["log_level"], second["failures"][0]["error"]) == ("error", "RuntimeError")
    assert any("test_drive.py" in frame for frame in second["failures"][0]["frames"])
    assert "canary" not in json.dumps(lines)
