"""Perform a plan: chains in order, those for other conditions beside them; a failure stops its chain only.

Which action becomes which port call is said once per process: `provisioner` and `runner` hold the two
matches, closed by `assert_never`, so a new action that nobody performs does not pass the type check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pipewright.plan import Chain, Failure, Plan, Results

ActionT = TypeVar("ActionT")


async def apply(plan: Plan[ActionT], perform: Callable[[ActionT], Awaitable[None]]) -> Results:
    """What was done of the plan, and where each chain that failed stopped. Never raises a chain's error."""
    lines: dict[str, list[Chain[ActionT]]] = {}
    for chain in plan.chains:  # those for one condition are about the same things: one after the other
        lines.setdefault(chain.serves, []).append(chain)
    try:
        async with asyncio.TaskGroup() as together:  # cancelled together: nothing goes on after a shutdown
            tasks = [together.create_task(_in_turn(chains, perform)) for chains in lines.values()]
    except BaseExceptionGroup as ending:
        raise ending.exceptions[0] from None  # only what ends the process gets here; it leaves as it came
    quiet = await _in_turn(plan.quiet, perform)
    failures = tuple(replace(failure, quiet=True) for failure in quiet.failures)
    return _together([*(task.result() for task in tasks), Results(failures=failures)])


async def _in_turn(
    chains: Sequence[Chain[ActionT]], perform: Callable[[ActionT], Awaitable[None]]
) -> Results:
    return _together([await _perform(chain, perform) for chain in chains])


def _together(found: Sequence[Results]) -> Results:
    return Results(
        done=tuple(pair for results in found for pair in results.done),
        failures=tuple(failure for results in found for failure in results.failures),
        apart=frozenset().union(*(results.apart for results in found)),
    )


async def _perform(chain: Chain[ActionT], perform: Callable[[ActionT], Awaitable[None]]) -> Results:
    done: list[tuple[str, str]] = []
    apart: set[str] = set()
    for action in chain.actions:
        try:
            await perform(action)
        except Exception as error:  # noqa: BLE001 - kept as a result; the driver sorts the kinds of trouble
            failure = Failure(serves=chain.serves, action=str(action), error=error)
            return Results(done=tuple(done), failures=(failure,), apart=frozenset(apart))
        reason: str = getattr(action, "event", type(action).__name__)
        if reason != type(action).__name__:
            apart.add(reason)
        done.append((reason, str(action)))
    return Results(done=tuple(done), apart=frozenset(apart))
