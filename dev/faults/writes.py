"""The sequence of writes across the three servers, and the switch where a fault meets a call.

A write is known by its label and by how often that label has come since the last `begin`: random ids, names
and values are masked, so the same write has the same label in every run, whatever runs beside it.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

SYSTEMS = ("kubernetes", "vault", "postgres")

UNNUMBERED = re.compile(r"/(leases|events)(/|$)")
"""Kubernetes resources whose writes are not numbered: a Lease is renewed by time, an Event is best effort."""

TENANT_NAME = re.compile(r"\bft-[0-9a-f]{8}\b")
"""The harness's tenants; `masked` takes names of this form out of labels and states."""

_MASKS = (
    (TENANT_NAME, "<name>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\bpw_[a-z2-9]{12}"), "pw_<id>"),
    (re.compile(r"(?<=pipewright-tenant-)[a-z2-9]{12}"), "<id>"),
    (re.compile(r"(?<=/)[a-z2-9]{12}(?=/(?:platform|user)\b)"), "<id>"),
    (
        re.compile(r"(\btransit/(?:keys|datakey/plaintext|decrypt)/|\btenants/metadata/)[a-z2-9]{12}\b"),
        r"\1<id>",
    ),
)


def masked(text: str) -> str:
    """The text without what is random in it."""
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of the operator as a proxy sees it."""

    system: str
    label: str
    """Masked: what a person reads, and what a fault is aimed at."""
    writes: bool = False
    watches: bool = False
    lists: bool = False


@dataclass(slots=True, kw_only=True)
class Write:
    """One numbered write and what became of it."""

    number: int
    system: str
    label: str
    occurrence: int
    """How many writes with this label there were, this one included."""
    transaction: int = 0
    """The transaction that it is in and does not end: a crash here leaves what was before that. 0: none."""
    outcome: str = "sent"
    """sent, applied, refused, lost (never forwarded), or rolled back."""
    tag: str = ""
    """PostgreSQL's command tag: how many rows."""

    @property
    def target(self) -> tuple[str, int]:
        """What this write is known by in every run."""
        return self.label, self.occurrence

    @property
    def inner(self) -> bool:
        """Whether only a rollback can follow a crash here."""
        return self.transaction > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What one committed transaction of PostgreSQL changed (or one statement outside of any)."""

    database: str
    writes: tuple[Write, ...]


# --- what a fault does to a call --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the operator before the write is forwarded, or after it was applied, its answer unheard."""

    before: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer in the server's place; PostgreSQL's connection is closed instead."""

    code: int
    reason: str = ""
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """Forward later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Forward, then end the connection in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A watch on which nothing comes any more, and which never ends."""


@dataclass(frozen=True, slots=True)
class DropFrames:
    """A watch without the frames that contain one of these texts."""

    having: bytes
    types: tuple[bytes, ...]
    dropped: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Replay:
    """An old answer instead of a new one."""

    body: bytes


Treatment = Kill | Refuse | Delay | Cut | Hole | DropFrames | Replay


class Fault(Protocol):
    """Decides, for each call, whether something happens to it."""

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """What is done to the call; None: nothing. Called in the proxies' thread."""
        ...


@dataclass(slots=True)
class Switch:
    """Numbers writes and lets the fault of the moment at every call. Shared by all proxies."""

    kill: Callable[[], None] = lambda: None
    """SIGKILL to the operator; set by the rig."""
    fault: Fault | None = None
    standing: Fault | None = None
    """What holds for all stories: asked where the fault of the moment does nothing."""
    writes: list[Write] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    killed: threading.Event = field(default_factory=threading.Event)
    begun: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Numbers for transactions, of all connections."""
    _seen: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Count from one again."""
        with self._lock:
            self.writes, self.transactions, self._seen = [], [], Counter()
            self.killed.clear()

    def arrive(self, call: Call, *, transaction: int = 0) -> tuple[Write | None, Treatment | None]:
        """Number the call if it writes, and ask the fault."""
        with self._lock:
            write = None
            if call.writes:
                self._seen[call.label] += 1
                write = Write(
                    number=len(self.writes) + 1,
                    system=call.system,
                    label=call.label,
                    occurrence=self._seen[call.label],
                    transaction=transaction,
                )
                self.writes.append(write)
            faults = [each for each in (self.fault, self.standing) if each is not None]
        treatments = (each.meet(call, write) for each in faults)
        return write, next((each for each in treatments if each is not None), None)

    def strike(self) -> None:
        """Kill the operator, now."""
        self.kill()
        self.killed.set()

    def commit(self, transaction: Transaction) -> None:
        """Note what was committed."""
        with self._lock:
            self.transactions.append(transaction)


def distinct(writes: Sequence[Write]) -> list[Write]:
    """The writes at which a crash can leave something different.

    Of the statements inside a transaction only the first: whichever of them is the last, the server rolls all
    back. The COMMIT is one of the writes and no inner one. Other connections' writes come in between.
    """
    chosen: list[Write] = []
    entered = set[int]()
    for write in writes:
        if write.transaction not in entered:
            chosen.append(write)
        if write.inner:
            entered.add(write.transaction)
    return chosen
