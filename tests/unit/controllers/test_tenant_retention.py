"""Retention: a sweep about once a day, of a tenant at rest; a failure shows and leaves it Ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.tenant.rules import retention
from controllers.tenant.rules.retention import EVERY, GO_ON
from pipewright import actions as act
from pipewright import conditions, errors
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.tenant import Retention
from pipewright.facts import Registration, Sweep
from pipewright.runtime.metrics import Metrics
from pipewright.runtime.sweeps import SweepBook
from tests.unit.controllers.test_tenant_isolation import World

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def tenant(**keep: str) -> Tenant:
    metadata = {"name": "a", "uid": "uid-a", "resourceVersion": "1", "generation": 1}
    return Tenant.parse(
        {
            "apiVersion": Tenant.api_version,
            "kind": Tenant.kind,
            "metadata": metadata,
            "spec": {"retention": keep} if keep else {},
        }
    )


def registration(**more: Any) -> Registration:
    fields = {"id": "a" * 12, "uid": "uid-a", "name": "a", "server": "main", "state": "Active"}
    return Registration(**{**fields, "namespaces": {}, "bundle_version": 1, "bundle_key": "k", **more})


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (registration(created_at=NOW), NOW + EVERY),
        (registration(created_at=NOW - 2 * DAY), NOW - DAY),
        (registration(created_at=NOW - 9 * DAY, sweep=Sweep(at=NOW, finished=True)), NOW + EVERY),
        (registration(created_at=NOW - 9 * DAY, sweep=Sweep(at=NOW - DAY, finished=True)), NOW),
        (registration(sweep=Sweep(at=NOW - timedelta(seconds=5), finished=False)), NOW),
    ],
)
def test_when_a_sweep_is_due(row: Registration, wanted: datetime) -> None:
    assert retention.due(row, NOW) == wanted
    assert bool(retention.retention(tenant(), row, NOW).quiet) is (wanted <= NOW)


@pytest.mark.parametrize(
    ("keep", "days"),
    [({}, (90, 400, 400)), ({"events": "7d", "runs": "30d", "audit": "3650d"}, (7, 30, 3650))],
)
def test_what_is_older_than_the_spec_says_goes(keep: dict[str, str], days: tuple[int, int, int]) -> None:
    found = retention.retention(tenant(**keep), registration(created_at=NOW - 9 * DAY), NOW)
    [chain] = found.quiet
    events, runs, audit = (NOW - timedelta(days=count) for count in days)
    assert chain.actions == (
        act.ExpireHistory(
            tenant_id="a" * 12, events_before=events, runs_before=runs, audit_before=audit, at=NOW
        ),
    )
    assert found.is_empty, "the steady state"
    assert found.check_after == GO_ON


def test_the_defaults_are_what_the_docs_say() -> None:
    kept = Retention()
    assert (kept.events, kept.runs, kept.audit) == (90 * DAY, 400 * DAY, 400 * DAY)


@pytest.fixture
async def world() -> World:
    made = World()
    made.at = datetime.now(UTC)
    await made.rest("a")
    made.passes(10)
    await made.look("a")  # the proof of isolation
    return made


async def test_a_tenant_is_swept_once_a_day_and_no_event_tells_of_it(world: World) -> None:
    old = world.at - timedelta(days=500)
    world.registry.audit[await world.id_of("a")] = [old, world.at]
    assert (await found(world)).sweep is None
    world.passes(EVERY.total_seconds())
    outcome = await world.look("a")
    assert outcome.results.done == ()
    assert conditions.is_true(outcome.status.conditions, "Ready")
    assert (await found(world)).sweep == Sweep(at=world.at, finished=True)
    assert world.registry.audit[await world.id_of("a")] == [world.at - EVERY]
    swept = world.at
    world.passes(3600)
    await world.look("a")
    assert (await found(world)).sweep == Sweep(at=swept, finished=True)


async def test_a_sweep_that_fails_is_told_and_tried_again_and_leaves_the_tenant_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise errors.Unreachable("a lock was not to be had in time")

    world.passes(EVERY.total_seconds())
    with monkeypatch.context() as broken:
        broken.setattr(world.ports.servers["main"].databases, "expire_history", refuse)
        outcome = await world.look("a")
    [failure] = outcome.results.failures
    assert failure.quiet
    assert "delete history" in failure.action
    assert conditions.is_true(outcome.status.conditions, "Ready")
    assert conditions.is_true(outcome.status.conditions, "DatabaseReady")
    assert not conditions.is_true(outcome.status.conditions, "Reconciling")
    assert (await found(world)).sweep is None
    assert (await world.look("a")).results.failures == ()
    assert (await found(world)).sweep == Sweep(at=world.at, finished=True)


async def test_a_tenant_that_is_not_at_rest_is_not_swept(world: World) -> None:
    world.passes(EVERY.total_seconds())
    await world.ports.grants.revoke(await world.id_of("a"))
    assert (await world.look("a")).results.done
    assert (await found(world)).sweep is None


def test_the_metrics_sum_up_what_went() -> None:
    metrics = Metrics()
    book = SweepBook(metrics)
    book.saw("a" * 12, Sweep(at=NOW, finished=True), counts={"events": 2, "runs": 30})
    book.saw("b" * 12, Sweep(at=NOW + DAY, finished=True), counts={"runs": 1})
    text = metrics.render().decode()
    assert 'pipewright_tenant_expired_total{table="runs"} 31.0' in text
    assert 'pipewright_tenant_expired_total{table="events"} 2.0' in text
    for which, at in (("oldest", NOW), ("newest", NOW + DAY)):
        [line] = [it for it in text.splitlines() if it.startswith("pipewright_tenant_sweep") and which in it]
        assert float(line.split()[-1]) == at.timestamp()
    assert "aaaa" not in text


async def found(world: World) -> Registration:
    row = await world.registry.find(uid="uid-a")
    assert row is not None
    return row
