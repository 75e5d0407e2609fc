"""Whoever answers predictions, asked at a constant rate: the one that is kept, and how long it takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.ingest import load
from tests.bench.ingest.load import Seen
from tests.bench.lines import say

AIM_MS = 20.0
"""The p99 that a rate must keep."""
RATE = 500.0
"""The rate that is aimed at."""
CONNECTIONS = 12
"""Fewer than the 16 calls of one tenant that the gateway has under way; what finds none free waits, on its
clock all the same."""
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2)
"""Of what it does at its own pace: rates that are tried, until one is kept."""
TRIES = 2
"""How often a rate is tried: a stall that comes from outside must not decide alone."""
PACE = 1000
"""Requests by which its own pace is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who answers: 200, or it is a mistake."""

    name: str
    port: int
    messages: Sequence[bytes]
    """Asked again and again, in this order."""
    cpu: Callable[[], float]
    """Seconds of CPU that its processes have taken."""
    folder: Path

    def ask(self, *, rate: float, count: int, connections: int = CONNECTIONS) -> Seen:
        """So many requests at this rate, at its own pace if it is 0."""
        path = self.folder / "messages"
        load.write(path, itertools.islice(itertools.cycle(self.messages), count))
        cpu = self.cpu()
        seen = load.send(path, port=self.port, rate=rate, connections=connections)
        late = seen.statuses.pop("none", 0)
        assert set(seen.statuses) == {"200"}, f"{self.name}: {seen.statuses}"
        told = f"{rate:.0f}/s" if rate else "its own pace"
        say(
            f"{self.name}, {told}: {seen.answered} of {count} answered in {seen.seconds:.1f} s,"
            f" p50 {seen.p50:.1f} ms, p99 {seen.p99:.1f}, p99.9 {seen.p999:.1f}, longest {seen.longest:.0f};"
            f" {1000 * (self.cpu() - cpu) / max(1, seen.answered):.2f} ms of CPU each, generator"
            f" {100 * seen.cpu / seen.seconds:.0f} % of a core{f'; {late} not answered' if late else ''}"
        )
        return seen

    def pace(self) -> float:
        """Answers a second when it is asked as fast as it answers."""
        self.ask(rate=0, count=200)  # caches and connections
        seen = self.ask(rate=0, count=PACE)
        return seen.answered / seen.seconds

    def kept(self, *, seconds: float) -> tuple[float, Seen]:
        """The largest rate tried that keeps the aim, and what was seen at it; 0.0 where none does."""
        most = self.pace()
        for share in [share for share in SHARES for _ in range(TRIES)]:
            seen = self.ask(rate=most * share, count=int(most * share * seconds))
            if seen.p99 < AIM_MS:
                return most * share, seen
        say(f"{self.name}: none of the rates was kept")
        return 0.0, seen
