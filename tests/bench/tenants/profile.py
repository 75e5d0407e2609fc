"""Where the time goes while tenants are made: CPU by process and waits by port, for each fifth of them.

What costs more for the last fifth than for the first grows with what is there already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from dev import process
from tests.bench.tenants import counts

PARTS = 5
LONGEST = 10
"""Calls that are told of, those that took the longest in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What had been used when so many tenants were ready."""

    at: float
    ready: int
    cpu: Mapping[str, float]
    """Process → its CPU seconds, those of its children included."""
    calls: Mapping[str, float]
    """Port and method → the seconds of all calls; many wait at the same time."""

    def since(self, before: Moment) -> str:
        """For one of the tenants that became ready between the two, in words."""
        count = max(1, self.ready - before.ready)
        spent = {name: seconds - before.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        waited = {name: seconds - before.calls.get(name, 0.0) for name, seconds in self.calls.items()}
        return (
            f"{before.ready} to {self.ready}: {count / (self.at - before.at):.2f}/s; for a tenant"
            f" CPU ms {_each(spent, count)} of {1000 * (self.at - before.at) * _CORES / count:.0f},"
            f" waits ms {_each(waited, count)}"
        )


_CORES = os.cpu_count() or 1


def _each(spent: Mapping[str, float], count: int) -> dict[str, int]:
    longest = sorted(spent, key=spent.__getitem__, reverse=True)[:LONGEST]
    return {name: round(1000 * spent[name] / count) for name in longest}


class Profile:
    """Moments of one round."""

    def __init__(self, folder: Path, metrics: Callable[[], Awaitable[str]]) -> None:
        """`folder` is the stack's, `metrics` gives the provisioner's."""
        self._folder, self._metrics = folder, metrics
        self.moments = list[Moment]()

    async def note(self, ready: int) -> None:
        """So many are ready now."""
        calls = counts.seconds(await self._metrics())
        self.moments.append(Moment(at=time.perf_counter(), ready=ready, cpu=cpu(self._folder), calls=calls))

    def told(self) -> list[str]:
        """A line for each part."""
        return [later.since(before) for before, later in zip(self.moments, self.moments[1:], strict=False)]


def cpu(folder: Path) -> dict[str, float]:
    """CPU seconds so far of each of the stack's processes with their children, and of the bench itself."""
    found = {name: running for name in process.names(folder) if (running := process.find(folder, name))}
    return {"bench": _seconds(psutil.Process()), **{name: _family(it) for name, it in found.items()}}


def _family(parent: psutil.Process) -> float:
    seconds = _seconds(parent, ended=True)
    for child in parent.children(recursive=True):
        try:
            seconds += _seconds(child, ended=True)
        except psutil.NoSuchProcess:
            continue  # ended meanwhile: its parent has its time
    return seconds


def _seconds(running: psutil.Process, *, ended: bool = False) -> float:
    times = running.cpu_times()
    children = times.children_user + times.children_system if ended else 0.0
    return float(times.user + times.system + children)
