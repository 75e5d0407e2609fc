"""The rules of the work queue, without an event loop."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipewright.runtime.schedule import PATIENCE, Key, Schedule

A, B, C = Key("Model", "a", "red"), Key("Model", "b", "red"), Key("Model", "c", "blue")


def drain(schedule: Schedule, now: float = 0.0) -> list[Key]:
    """Take and finish everything that is ready, one at a time."""
    order = []
    while taken := schedule.take(now=now):
        order.append(taken.key)
        schedule.finish(taken.key, now=now)
    return order


# A step is (verb, key, options); "take" notes which key comes out.
STORIES = {
    "a key that is added three times comes out once": (
        [("add", A, {}), ("add", A, {}), ("add", A, {}), ("take",), ("take",)],
        [A, None],
    ),
    "an active key is given to nobody else": (
        [("add", A, {}), ("take",), ("add", A, {}), ("take",)],
        [A, None],
    ),
    "a key that was added while active comes out again afterwards": (
        [("add", A, {}), ("take",), ("add", A, {}), ("finish", A), ("take",), ("finish", A), ("take",)],
        [A, A, None],
    ),
    "within a lane first come is first served": (
        [("add", A, {}), ("add", B, {}), ("take",), ("take",)],
        [A, B],
    ),
    "lanes take turns": (
        [("add", A, {}), ("add", B, {}), ("add", C, {}), ("take",), ("take",), ("take",)],
        [A, C, B],
    ),
    "low priority waits for the others": (
        [("add", A, {"low": True}), ("add", B, {}), ("take",), ("take",)],
        [B, A],
    ),
    "a normal add promotes a key of low priority": (
        [("add", C, {"low": True}), ("add", A, {"low": True}), ("add", A, {}), ("take",), ("take",)],
        [A, C],
    ),
    "a low add does not demote a key": (
        [("add", A, {}), ("add", A, {"low": True}), ("add", C, {"low": True}), ("take",), ("take",)],
        [A, C],
    ),
    "a delayed key comes when its time has come": (
        [("add", A, {"after": 5}), ("take",), ("pass", 4.9), ("take",), ("pass", 0.1), ("take",)],
        [None, None, A],
    ),
    "of two delays the sooner counts": (
        [("add", A, {"after": 5}), ("add", A, {"after": 2}), ("pass", 2), ("take",), ("pass", 5), ("take",)],
        [A, None],
    ),
    "a later delay changes nothing": (
        [("add", A, {"after": 2}), ("add", A, {"after": 5}), ("pass", 2), ("take",)],
        [A],
    ),
    "an add for now drops the delay": (
        [("add", A, {"after": 5}), ("add", A, {}), ("take",), ("finish", A), ("pass", 5), ("take",)],
        [A, None],
    ),
    "a delay does not hold back a ready key": ([("add", A, {}), ("add", A, {"after": 5}), ("take",)], [A]),
    "a delay that a worker asks for begins after it": (
        [
            ("add", A, {}),
            ("take",),
            ("add", A, {"after": 5}),
            ("finish", A),
            ("take",),
            ("pass", 5),
            ("take",),
        ],
        [A, None, A],
    ),
    "a delay that ends while the key is active makes it run again": (
        [
            ("add", A, {}),
            ("take",),
            ("add", A, {"after": 1}),
            ("pass", 2),
            ("take",),
            ("finish", A),
            ("take",),
        ],
        [A, None, A],
    ),
    "a delayed key keeps its low priority": (
        [("add", A, {"after": 1, "low": True}), ("pass", 1), ("add", C, {}), ("take",), ("take",)],
        [C, A],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_schedule_keeps_its_rules(story: str) -> None:
    steps, expected = STORIES[story]
    schedule, now, found = Schedule(), 0.0, []
    for step in steps:
        match step:
            case ("add", key, options):
                schedule.add(key, now=now, **options)
            case ("take",):
                taken = schedule.take(now=now)
                found.append(taken.key if taken else None)
            case ("finish", key):
                schedule.finish(key, now=now)
            case ("pass", seconds):
                now += seconds
    assert found == expected


def test_a_quiet_tenant_is_served_beside_a_hundred_times_busier_one() -> None:
    schedule = Schedule()
    for number in range(1000):
        schedule.add(Key("Model", f"busy-{number}", "busy"), now=0)
    for number in range(10):
        schedule.add(Key("Model", f"quiet-{number}", "quiet"), now=0)
    first = [key.namespace for key in drain(schedule)[:20]]
    assert Counter(first) == {"busy": 10, "quiet": 10}


def test_one_lane_may_not_occupy_every_worker() -> None:
    schedule = Schedule()
    schedule.lane_limit = 2
    for key in (A, B, Key("Model", "d", "red")):
        schedule.add(key, now=0)
    assert [taken.key if (taken := schedule.take(now=0)) else None for _ in range(3)] == [A, B, None]
    schedule.add(C, now=0)
    taken = schedule.take(now=0)
    assert taken is not None
    assert taken.key == C
    schedule.finish(A, now=0)
    assert schedule.take(now=0) is not None


def test_low_priority_leaves_workers_to_what_comes_later() -> None:
    schedule = Schedule()
    schedule.low_limit = 2
    keys = [Key("Tenant", f"old-{number}") for number in range(4)]
    for key in keys:
        schedule.add(key, now=0.0, low=True)
    taken = [schedule.take(now=0.0), schedule.take(now=0.0)]
    assert [it.key for it in taken if it] == keys[:2]
    assert schedule.take(now=0.0) is None
    new = Key("Tenant", "new")
    schedule.add(new, now=1.0)
    assert (found := schedule.take(now=1.0))
    assert found.key == new
    assert schedule.take(now=1.0) is None
    schedule.finish(new, now=2.0)
    assert schedule.take(now=2.0) is None
    schedule.finish(keys[0], now=3.0)
    assert (found := schedule.take(now=3.0))
    assert found.key == keys[2]


def test_beside_others_one_of_low_priority_is_looked_at() -> None:
    schedule = Schedule()
    schedule.low_limit = 4
    new, keys = Key("Tenant", "new"), [Key("Tenant", f"old-{number}") for number in range(4)]
    for key in keys:
        schedule.add(key, now=0.0, low=True)
    schedule.add(new, now=0.0)
    taken = [schedule.take(now=0.0) for _ in range(3)]
    assert [it and it.key for it in taken] == [new, keys[0], None]
    schedule.finish(new, now=1.0)
    taken = [schedule.take(now=1.0) for _ in range(4)]
    assert [it and it.key for it in taken] == [*keys[1:], None]


def test_low_priority_has_its_turn_under_lasting_load() -> None:
    schedule = Schedule()
    schedule.add(C, now=0, low=True)
    for number in range(2 * PATIENCE):
        schedule.add(Key("Model", f"m{number}", "red"), now=0)
    assert drain(schedule).index(C) == PATIENCE


def test_the_next_due_time_is_known_and_dropped_delays_do_not_count() -> None:
    schedule = Schedule()
    assert schedule.next_due is None
    schedule.add(A, now=0, after=5)
    schedule.add(C, now=0, after=9)
    assert schedule.next_due == 5
    schedule.add(A, now=1)
    assert schedule.next_due == 9


def test_dropped_delays_do_not_pile_up() -> None:
    schedule = Schedule()
    for _ in range(10_000):
        schedule.add(A, now=0, after=3600)
        schedule.add(A, now=0)
        drain(schedule)
    assert len(schedule._dues) < 100


def test_waiting_time_counts_from_the_first_add() -> None:
    schedule = Schedule()
    schedule.add(A, now=1, low=True)
    schedule.add(A, now=3)
    taken = schedule.take(now=7)
    assert taken is not None
    assert taken.waited == 6
    assert schedule.finish(A, now=9.5) == 2.5


KEYS = st.sampled_from([A, B, C, Key("Tenant", "t"), Key("Tenant", "u")])


class AnySchedule(RuleBasedStateMachine):
    """Whatever happens in whatever order: no add is lost, and no key is worked on twice at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule()
        self.schedule.lane_limit = 2
        self.now = 0.0
        self.owed: dict[Key, float] = {}
        self.active: set[Key] = set()

    @rule(key=KEYS, after=st.sampled_from([0.0, 0.0, 1.0, 5.0]), low=st.booleans())
    def add(self, key: Key, after: float, low: bool) -> None:
        self.schedule.add(key, now=self.now, after=after, low=low)
        self.owed[key] = min(self.owed.get(key, float("inf")), self.now + after)

    @rule()
    def take(self) -> None:
        taken = self.schedule.take(now=self.now)
        if taken is None:
            return
        assert taken.key not in self.active
        assert self.owed.pop(taken.key) <= self.now
        self.active.add(taken.key)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.active, key=str)))
        self.active.remove(key)
        self.schedule.finish(key, now=self.now)

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.schedule.started) == len(self.active)

    def teardown(self) -> None:
        for key in self.active:
            self.schedule.finish(key, now=self.now)
        assert set(drain(self.schedule, self.now + 10)) == set(self.owed)


AnySchedule.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySchedule = AnySchedule.TestCase


def test_a_key_that_got_further_goes_on_before_those_that_wait_for_their_first_turn() -> None:
    schedule = Schedule()
    first, second, third = (Key("Tenant", name) for name in ("a", "b", "c"))
    for key in (first, second, third):
        schedule.add(key, now=0.0)
    order = []
    for _ in range(6):
        taken = schedule.take(now=0.0)
        if taken is None:
            break
        order.append(taken.key)
        if order.count(taken.key) < 2:
            schedule.go_on(taken.key, now=0.0)
        schedule.finish(taken.key, now=0.0)
    assert order == [first, first, second, second, third, third]


def test_a_lane_that_always_goes_on_leaves_workers_to_others() -> None:
    schedule = Schedule()
    schedule.lane_limit = 1
    for key in (A, B, C):
        schedule.add(key, now=0.0)
    taken = schedule.take(now=0.0)
    assert taken is not None
    schedule.go_on(taken.key, now=0.0)
    other = schedule.take(now=0.0)
    assert other is not None
    assert (taken.key, other.key) == (A, C)


def test_going_on_drops_a_pending_delay_and_a_key_that_is_not_active_is_simply_added() -> None:
    schedule = Schedule()
    schedule.add(A, now=0.0)
    assert schedule.take(now=0.0) is not None
    schedule.add(A, now=0.0, after=60.0)
    schedule.go_on(A, now=0.0)
    schedule.finish(A, now=0.0)
    assert (schedule.ready, schedule.delayed) == (1, 0)
    schedule.go_on(C, now=0.0)
    assert set(drain(schedule)) == {A, C}


def test_asks_are_counted_until_the_key_rests_and_going_on_is_none() -> None:
    schedule = Schedule()
    schedule.add(A, now=0.0, after=1.0)
    assert schedule.asks(A) == 0
    schedule.add(A, now=0.0)
    schedule.take(now=0.0)
    schedule.go_on(A, now=0.0)
    before = schedule.asks(A)
    schedule.finish(A, now=0.0)
    assert schedule.asks(A) == before
    schedule.add(A, now=0.0)
    assert schedule.asks(A) != before
    schedule.take(now=0.0)
    schedule.finish(A, now=0.0)
    assert A not in schedule._asked
