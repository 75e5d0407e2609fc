"""Perform a plan: each chain in order, a failure stops its chain and not its neighbours.

Which action becomes which port call is said once per process: `provisioner` and `runner` hold the two
matches, closed by `assert_never`, so a new action that nobody performs does not pass the type check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipewright.plan import Failure, Plan, Results

ActionT = TypeVar("ActionT")


async def apply(plan: Plan[ActionT], perform: Callable[[ActionT], Awaitable[None]]) -> Results:
    """What was done of the plan, and where each chain that failed stopped. Never raises a chain's error."""
    done: list[tuple[str, str]] = []
    failures: list[Failure] = []
    for chain in plan.chains:
        for action in chain.actions:
            try:
                await perform(action)
            except Exception as error:  # noqa: BLE001 - kept as a result; the driver sorts the kinds of trouble
                failures.append(Failure(serves=chain.serves, action=str(action), error=error))
                break
            done.append((getattr(action, "event", type(action).__name__), str(action)))
    return Results(done=tuple(done), failures=tuple(failures))
