"""Every other fault than a crash: each a function that plays a story with something wrong, and is judged.

To add one: write a function that takes the judge and returns what is broken, and decorate it. `sampled` puts
it into `make test`, which has three minutes for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dev.faults.judge import Judge
from dev.faults.oracles import Broken
from dev.faults.writes import (
    Call,
    Treatment,
    Write,
)

Play = Callable[[Judge], list[Broken]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A fault with its name in reports."""

    id: str
    play: Play
    sampled: bool = False

    @property
    def key(self) -> str:
        """What it is known by in every learning."""
        return self.id

    def run(self, judge: Judge) -> list[Broken]:
        """Do it, and judge."""
        return self.play(judge)


KINDS: list[Kind] = []


def kind(name: str, *, sampled: bool = False) -> Callable[[Play], Play]:
    """Register a fault under a name."""

    def register(play: Play) -> Play:
        KINDS.append(Kind(id=name, play=play, sampled=sampled))
        return play

    return register


# --- what a fault is aimed at -----------------------------------------------------------------------------


@dataclass(slots=True)
class Some:
    """Treats the first few calls that match, or every so-manieth of them."""

    treatment: Treatment
    matches: Callable[[Call], bool]
    times: int = 4
    every: int = 1
    met: int = 0
    seen: int = 0

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Treat it if it is one of them."""
        if self.met >= self.times or not self.matches(call):
            return None
        self.seen += 1
        if self.seen % self.every:
            return None
        self.met += 1
        return self.treatment


def writes(system: str) -> Callable[[Call], bool]:
    """Writes to one of the servers."""
    return lambda call: call.writes and call.system == system


def calls(system: str) -> Callable[[Call], bool]:
    """All calls to one of the servers but watches."""
    return lambda call: call.system == system and not call.watches


@dataclass(slots=True)
class Frames:
    """What is done to every watch of Tenants that is opened while the fault is on."""

    treatment: Treatment
    opened: int = 0
    dropped: int = field(default=0)

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Treat watches of Tenants."""
        if not call.watches or not call.label.endswith(" tenants"):
            return None
        self.opened += 1
        return self.treatment

    def count(self) -> None:
        """A frame was dropped."""
        self.dropped += 1


def met(fault: Some, broken: list[Broken]) -> list[Broken]:
    """A fault that met nothing proves nothing."""
    return broken if fault.met else [*broken, Broken("O6", "the fault met no call: nothing was tried")]
