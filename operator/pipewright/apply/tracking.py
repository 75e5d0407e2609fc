"""Records trainings in a registry beside everything else: trouble with it is a value, and stops nothing."""

from __future__ import annotations

import asyncio

from pipewright import errors
from pipewright.ports.training import Tracking
from pipewright.tracking_facts import Due, Recorded

LIMIT = 20.0
"""Seconds for all of it: a look at a Model waits no longer for a registry that is slow."""


async def record(due: Due, *, port: Tracking) -> Recorded:
    """Runs first, then the version; what failed is due again at a later look. Never raises."""
    runs: dict[int, str] = {}
    registered, trouble = None, None
    try:
        async with asyncio.timeout(LIMIT):
            for run in due.runs:
                runs[run.attempt] = await port.record(run)
            if due.version is not None:
                known = {**due.known, **runs}
                number = await port.register(due.version, run_id=known[due.version.attempt])
                registered = (due.version.model, number)
    except TimeoutError:
        trouble = (errors.Unreachable.reason, f"MLflow took longer than {LIMIT:g} s; the rest comes later")
    except (errors.Waiting, errors.Stalled, errors.BackendError) as error:
        trouble = errors.explain(error)
    except Exception as error:  # noqa: BLE001 - no training fails by a registry, whatever it answers
        trouble = ("Internal", f"an unexpected {type(error).__name__}")
    return Recorded(runs=runs, registered=registered, trouble=trouble)
