"""Perform a plan: chains in order, those for other conditions beside them; a failure stops its chain only.

A chain that comes `after` others waits for them, and is left to the next look when one of them failed.

Which action becomes which port call is said once per process: `provisioner` and `runner` hold the two
matches, closed by `assert_never`, so a new action that nobody performs does not pass the type check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pipewright.plan import Chain, Failure, Plan, Results

ActionT = TypeVar("ActionT")


async def apply(plan: Plan[ActionT], perform: Callable[[ActionT], Awaitable[None]]) -> Results:
    """What was done of the plan, and where each chain that failed stopped. Never raises a chain's error."""
    tasks: list[asyncio.Task[_Ending]] = []
    try:
        async with asyncio.TaskGroup() as together:  # cancelled together: nothing goes on after a shutdown
            for position, chain in enumerate(plan.chains):  # each waits only for what stands before it
                before = tuple(zip(plan.chains[:position], tasks, strict=True))
                tasks.append(together.create_task(_in_turn(chain, before, perform)))
    except BaseExceptionGroup as ending:
        raise ending.exceptions[0] from None  # only what ends the process gets here; it leaves as it came
    quiet = _together([await _perform(chain, perform) for chain in plan.quiet])
    failures = tuple(replace(failure, quiet=True) for failure in quiet.failures)
    return _together([*(task.result().results for task in tasks), Results(failures=failures)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """What came of one chain."""

    results: Results
    whole: bool
    """It was performed to its end."""


async def _in_turn(
    chain: Chain[ActionT],
    before: Sequence[tuple[Chain[ActionT], asyncio.Task[_Ending]]],
    perform: Callable[[ActionT], Awaitable[None]],
) -> _Ending:
    whole = True
    for other, task in before:
        if other.serves == chain.serves:  # those for one condition are about the same things
            await task
        elif other.serves in chain.after:
            whole = (await task).whole and whole
    results = await _perform(chain, perform) if whole else Results()
    return _Ending(results=results, whole=whole and not results.failures)


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
