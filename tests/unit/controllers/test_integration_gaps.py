"""Deliveries that never arrived are asked for again, and the status says since when and how many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipewright import errors
from pipewright.api.v1alpha1.integration import MissedDeliveries
from pipewright.runner_facts import MissedDelivery
from tests.unit.controllers.test_integration_registration import BEGIN, World, world

__all__ = ["world"]

MINUTE = timedelta(minutes=1)


def missed(number: int, *, tries: int = 1, at: timedelta = timedelta(), last: timedelta | None = None) -> Any:
    when = BEGIN + (at if last is None else last)
    return MissedDelivery(id=str(number), at=BEGIN + at, last=when, tries=tries)


def told(world: World) -> MissedDeliveries | None:
    assert world.status.webhook is not None
    return world.status.webhook.missed


async def test_where_nothing_failed_nothing_is_told_and_looks_go_on(world: World) -> None:
    await world.settle()
    assert told(world) is None
    assert {project for project, _ in world.actions.looked} == {"acme/pay", "acme/shop"}
    assert world.next_look == 10 * MINUTE
    world.actions.looked.clear()
    world.clock.time += 10 * MINUTE
    await world.settle()
    assert world.actions.looked == [("acme/pay", BEGIN), ("acme/shop", BEGIN)]


async def test_what_failed_is_asked_for_again_and_the_gap_is_told_until_it_is_filled(world: World) -> None:
    await world.settle()
    world.clock.time += 10 * MINUTE
    world.actions.missed["acme/shop"] = [missed(1, at=2 * MINUTE), missed(2, at=3 * MINUTE)]
    await world.settle()
    assert world.actions.redelivered == [("acme/shop", "1"), ("acme/shop", "2")]
    assert told(world) == MissedDeliveries(count=2, since=BEGIN + 2 * MINUTE)
    assert world.next_look is not None
    assert world.next_look <= timedelta(seconds=30)
    world.actions.missed.clear()
    world.actions.filled_at = BEGIN + 10 * MINUTE
    world.clock.time += MINUTE
    await world.settle()
    assert told(world) == MissedDeliveries(count=0, filled_at=BEGIN + 10 * MINUTE)


async def test_the_next_look_begins_with_what_is_still_missed(world: World) -> None:
    await world.settle()
    world.clock.time += 10 * MINUTE
    world.actions.missed["acme/shop"] = [missed(1, at=2 * MINUTE)]
    await world.settle()
    world.actions.looked.clear()
    world.clock.time += 10 * MINUTE
    await world.settle()
    assert ("acme/shop", BEGIN + 2 * MINUTE) in world.actions.looked
    assert ("acme/pay", BEGIN + 9 * MINUTE) in world.actions.looked


TRIED: dict[str, tuple[int, timedelta, bool]] = {
    "the first time at once": (1, timedelta(), True),
    "the second after ten minutes": (2, 10 * MINUTE, True),
    "and not before": (2, 9 * MINUTE, False),
    "the third after twenty": (3, 19 * MINUTE, False),
    "the seventh after five hours": (7, 320 * MINUTE, True),
    "then it is given up": (8, timedelta(days=2), False),
}


@pytest.mark.parametrize("sentence", TRIED)
async def test_it_is_tried_again_ever_later(world: World, sentence: str) -> None:
    tries, since_last, asked = TRIED[sentence]
    await world.settle()
    world.clock.time += timedelta(days=3)
    last = world.clock.time - BEGIN - since_last
    world.actions.missed["acme/shop"] = [missed(1, tries=tries, last=last)]
    await world.look()
    assert bool(world.actions.redelivered) is asked


async def test_a_provider_that_does_not_tell_is_asked_later_and_keeps_nothing_back(world: World) -> None:
    await world.settle()
    world.clock.time += 10 * MINUTE
    world.actions.refusals["acme/shop"] = errors.Stalled("ProviderRefused", "GitHub answered 403")
    outcome = await world.look()
    (failure,) = outcome.results.failures
    assert failure.quiet
    assert "acme/shop" in str(failure.error)
    assert world.said() == ("True", "Registered")
    world.actions.looked.clear()
    await world.settle()
    assert world.actions.looked == []


async def test_after_a_repair_what_failed_is_looked_for_at_once(world: World) -> None:
    await world.settle()
    world.actions.looked.clear()
    world.actions.missed["acme/shop"] = [missed(1, tries=3)]
    world.url = "https://new.example"
    await world.settle()
    assert {project for project, _ in world.actions.looked} == {"acme/pay", "acme/shop"}
    assert world.actions.redelivered == [("acme/shop", "1")], "once, though its next try was not due"


async def test_without_registration_nobody_looks(world: World) -> None:
    world.webhook = {}
    await world.settle()
    assert world.actions.looked == []
