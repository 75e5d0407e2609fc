"""Which key is next: the pure half of the work queue.

No event loop and no clock in here: time is an argument, so that every rule is a table of values in a test.
A key is in at most one of three places (ready, delayed, active); an active one may be marked to run again.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 49
"""So many ready keys may overtake the low-priority ones in a row; then one of those has its turn."""


@dataclass(frozen=True, slots=True)
class Key:
    """Names one object of ours. It says nothing of what happened: the worker looks at the world."""

    kind: str
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def lane_of(key: Key) -> str:
    """The lane that a key shares with its neighbours: its namespace; a cluster-scoped object has its own."""
    return key.namespace or f"/{key.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A key for a worker, and how many seconds it was ready before."""

    key: Key
    waited: float


class Lanes:
    """Ready keys of one priority: first come, first served within a lane, and the lanes in turn."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, OrderedDict[Key, float]] = OrderedDict()
        self._lane: dict[Key, str] = {}

    def __len__(self) -> int:
        return len(self._lane)

    def __contains__(self, key: Key) -> bool:
        return key in self._lane

    @property
    def since(self) -> float:
        """Since when the first key of some lane has waited, the longest; needs a key."""
        return min(next(iter(keys.values())) for keys in self._lanes.values())

    def push(self, key: Key, *, lane: str, since: float, first: bool = False) -> None:
        """Append a key that is not here yet; or put it, and its lane, before all others."""
        self._lane[key] = lane
        keys = self._lanes.setdefault(lane, OrderedDict())
        keys[key] = since
        if first:
            keys.move_to_end(key, last=False)
            self._lanes.move_to_end(lane, last=False)

    def remove(self, key: Key) -> float:
        """Take out a key that is here; return since when it was."""
        lane = self._lane.pop(key)
        keys = self._lanes[lane]
        since = keys.pop(key)
        if not keys:
            del self._lanes[lane]
        return since

    def pop(self, has_room: Callable[[str], bool]) -> tuple[Key, float] | None:
        """Take the first key of the lane whose turn it is, passing over the lanes without room."""
        lane = next((lane for lane in self._lanes if has_room(lane)), None)
        if lane is None:
            return None
        self._lanes.move_to_end(lane)
        key = next(iter(self._lanes[lane]))
        return key, self.remove(key)


class Schedule:
    """The queue's state: ready keys in fair order, delayed keys by time, and the active ones."""

    def __init__(self, *, lane_of: Callable[[Key], str] = lane_of) -> None:
        self.lane_limit: int | None = None
        """So many keys of one lane may be active at a time; None: any number."""
        self.low_limit: int | None = None
        """So many of low priority may be, and one beside others: what is new finds the process free."""
        self._lane_of = lane_of
        self._normal, self._low = Lanes(), Lanes()
        self._overtaken = 0
        self._active: dict[Key, float] = {}
        self._active_low: set[Key] = set()
        self._active_in: Counter[str] = Counter()
        self._again: dict[Key, bool] = {}
        self._onward: set[Key] = set()
        self._asked: Counter[Key] = Counter()
        self._delayed: dict[Key, tuple[float, bool]] = {}
        self._dues: list[tuple[float, int, Key]] = []
        self._number = 0

    # -- what goes in ------------------------------------------------------------------------------------

    def add(self, key: Key, *, now: float, after: float = 0.0, low: bool = False) -> None:
        """Make the key ready, now or later. What is there already and comes sooner stays as it is.

        A key that is active runs again afterwards. Whatever runs decides anew when to look next, so an add
        for now also drops a pending delay.
        """
        if after > 0:
            self._delay(key, due=now + after, low=low)
            return
        self._delayed.pop(key, None)
        self._asked[key] += 1
        self._add_now(key, since=now, low=low)

    def _add_now(self, key: Key, *, since: float, low: bool) -> None:
        if key in self._active:
            self._again[key] = low and self._again.get(key, True)
        else:
            self._make_ready(key, since=since, low=low)

    def go_on(self, key: Key, *, now: float) -> None:
        """The active key got further and is not done: it runs again, before those that wait for their start.

        So what was begun is finished first, and the first to come are not served as late as the last.
        """
        if key not in self._active:
            self._delayed.pop(key, None)
            self._add_now(key, since=now, low=False)
            return
        self._again[key] = False
        self._onward.add(key)

    def postpone(self, key: Key, *, due: float) -> None:
        """Let the active key, if it is to run again, do so then and not at once."""
        if (low := self._again.pop(key, None)) is not None:
            self._onward.discard(key)
            self._delay(key, due=due, low=low)

    def _make_ready(self, key: Key, *, since: float, low: bool, first: bool = False) -> None:
        if key in self._normal or (low and key in self._low):
            return
        if key in self._low:
            since = self._low.remove(key)
        (self._low if low else self._normal).push(key, lane=self._lane_of(key), since=since, first=first)

    def _delay(self, key: Key, *, due: float, low: bool) -> None:
        comes_anyway = key in self._again or key in self._normal or key in self._low
        if comes_anyway or (key in self._delayed and self._delayed[key][0] <= due):
            return
        self._delayed[key] = (due, low)
        self._number += 1
        heapq.heappush(self._dues, (due, self._number, key))
        if len(self._dues) > 2 * len(self._delayed) + 64:  # mostly dropped delays: sweep them out
            self._dues = [entry for entry in self._dues if self._is_current(entry)]
            heapq.heapify(self._dues)

    def _is_current(self, entry: tuple[float, int, Key]) -> bool:
        return self._delayed.get(entry[2], (None,))[0] == entry[0]

    # -- what comes out ----------------------------------------------------------------------------------

    def take(self, *, now: float) -> Taken | None:
        """The key whose turn it is, active from now on; None when there is none, or no lane has room."""
        self.release(now=now)
        low_first = self._overtaken >= PATIENCE
        for lanes in (self._low, self._normal) if low_first else (self._normal, self._low):
            if lanes is self._low and not self._has_room_for_low():
                continue
            if found := lanes.pop(self._has_room):
                key, since = found
                overtakes = lanes is self._normal and len(self._low) > 0
                self._overtaken = self._overtaken + 1 if overtakes else 0
                self._active[key] = now
                self._active_in[self._lane_of(key)] += 1
                if lanes is self._low:
                    self._active_low.add(key)
                return Taken(key=key, waited=now - since)
        return None

    def _has_room_for_low(self) -> bool:
        """One at a time while something else is looked at or waits: the looks share the processor with it."""
        if self.low_limit is None:
            return True
        others = len(self._normal) or len(self._active) > len(self._active_low)
        return len(self._active_low) < (1 if others else self.low_limit)

    def _has_room(self, lane: str) -> bool:
        return self.lane_limit is None or self._active_in[lane] < self.lane_limit

    def finish(self, key: Key, *, now: float) -> float:
        """The worker is done with the key; return how many seconds it took."""
        lane = self._lane_of(key)
        self._active_in[lane] -= 1
        if not self._active_in[lane]:
            del self._active_in[lane]
        started = self._active.pop(key)
        self._active_low.discard(key)
        if (low := self._again.pop(key, None)) is not None:
            self._delayed.pop(key, None)
            self._make_ready(key, since=now, low=low, first=key in self._onward)
        else:
            del self._asked[key]
        self._onward.discard(key)
        return now - started

    def release(self, *, now: float) -> None:
        """Make ready what was delayed until now."""
        while self._dues and (not self._is_current(self._dues[0]) or self._dues[0][0] <= now):
            entry = heapq.heappop(self._dues)
            if self._is_current(entry):
                _, low = self._delayed.pop(entry[2])
                self._add_now(entry[2], since=entry[0], low=low)

    # -- what there is -----------------------------------------------------------------------------------

    @property
    def next_due(self) -> float | None:
        """When the next delay ends."""
        while self._dues and not self._is_current(self._dues[0]):
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def asks(self, key: Key) -> int:
        """How often the key was added for now since it was last at rest."""
        return self._asked[key]

    @property
    def ready(self) -> int:
        """Keys that wait for a worker."""
        return len(self._normal) + len(self._low)

    @property
    def ready_since(self) -> float | None:
        """Since when the longest waiting of them waits."""
        return min((lanes.since for lanes in (self._normal, self._low) if len(lanes)), default=None)

    @property
    def ready_low(self) -> int:
        """Those of them with low priority."""
        return len(self._low)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    @property
    def started(self) -> tuple[float, ...]:
        """When each of the active keys was taken, the oldest first."""
        return tuple(self._active.values())
