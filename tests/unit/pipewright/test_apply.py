"""A plan's chains are independent: side by side, each in order, and a failure stops its own only."""

from __future__ import annotations

import asyncio

import pytest

from pipewright.apply import apply
from pipewright.plan import Chain, Plan, merge, upkeep


def plan(**chains: tuple[str, ...]) -> Plan[str]:
    return Plan(chains=tuple(Chain(serves=name, actions=actions) for name, actions in chains.items()))


async def test_chains_go_on_while_another_waits() -> None:
    gate, order = asyncio.Event(), list[str]()

    async def perform(action: str) -> None:
        if action == "waits":
            await gate.wait()
        order.append(action)
        if action == "opens":
            gate.set()

    async with asyncio.timeout(5):
        results = await apply(plan(first=("waits", "after"), second=("before", "opens")), perform)
    assert order == ["before", "opens", "waits", "after"]
    assert [note for _, note in results.done] == ["waits", "after", "before", "opens"], "told in plan order"


async def test_chains_for_one_condition_follow_one_another() -> None:
    order = list[str]()

    async def perform(action: str) -> None:
        await asyncio.sleep(0)
        order.append(action)
        if action == "breaks":
            raise ValueError(action)

    chains = (
        Chain(serves="same", actions=("one", "breaks", "never")),
        Chain(serves="same", actions=("two",)),
    )
    results = await apply(Plan(chains=chains), perform)
    assert order == ["one", "breaks", "two"]
    assert len(results.failures) == 1


async def test_a_failure_stops_its_chain_and_not_its_neighbours() -> None:
    async def perform(action: str) -> None:
        if action == "breaks":
            raise ValueError(action)

    results = await apply(plan(first=("one", "breaks", "never"), second=("two", "three")), perform)
    assert [note for _, note in results.done] == ["one", "two", "three"]
    assert [(it.serves, it.action) for it in results.failures] == [("first", "breaks")]


class Killed(BaseException):
    """The process is gone."""


async def test_what_ends_the_process_ends_every_chain_and_leaves_as_it_came() -> None:
    ended = list[str]()

    async def perform(action: str) -> None:
        if action == "kills":
            raise Killed
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(action)

    with pytest.raises(Killed):
        await apply(plan(first=("waits",), second=("kills",)), perform)
    assert ended == ["waits"]


async def test_a_chain_waits_for_those_that_it_comes_after() -> None:
    order = list[str]()

    async def perform(action: str) -> None:
        await asyncio.sleep(0.01 if action.startswith("slow") else 0)
        order.append(action)

    chains = (
        Chain(serves="first", actions=("slow", "slower")),
        Chain(serves="second", actions=("quick",)),
        Chain(serves="third", actions=("last",), after=("first", "second", "not in this plan")),
    )
    results = await apply(Plan(chains=chains), perform)
    assert order == ["quick", "slow", "slower", "last"]
    assert [note for _, note in results.done] == ["slow", "slower", "quick", "last"]


async def test_after_a_failure_what_depends_on_it_is_left_to_the_next_look() -> None:
    performed = list[str]()

    async def perform(action: str) -> None:
        performed.append(action)
        if action == "breaks":
            raise ValueError(action)

    chains = (
        Chain(serves="first", actions=("breaks", "never")),
        Chain(serves="second", actions=("left out",), after=("first",)),
        Chain(serves="second", actions=("done",)),
        Chain(serves="third", actions=("left out too",), after=("second",)),
    )
    results = await apply(Plan(chains=chains), perform)
    assert performed == ["breaks", "done"]
    assert [(it.serves, it.action) for it in results.failures] == [("first", "breaks")]
    assert [note for _, note in results.done] == ["done"]


async def test_chains_that_name_each_other_do_not_wait_for_ever() -> None:
    performed = list[str]()

    async def perform(action: str) -> None:
        performed.append(action)

    chains = (
        Chain(serves="first", actions=("one",), after=("second",)),
        Chain(serves="second", actions=("two",), after=("first",)),
    )
    async with asyncio.timeout(5):
        await apply(Plan(chains=chains), perform)
    assert performed == ["one", "two"], "only what stands before it is waited for"


async def test_upkeep_comes_last_tells_nothing_when_done_and_is_quiet_when_it_fails() -> None:
    order = list[str]()

    async def perform(action: str) -> None:
        order.append(action)
        if action == "breaks":
            raise ValueError(action)

    wanted = merge(upkeep("late", "sweeps"), upkeep("later", "breaks"), plan(first=("works",)))
    results = await apply(wanted, perform)
    assert order == ["works", "sweeps", "breaks"]
    assert [note for _, note in results.done] == ["works"]
    assert [(it.serves, it.quiet) for it in results.failures] == [("later", True)]
    assert upkeep("late", "sweeps").is_empty, "the steady state"
