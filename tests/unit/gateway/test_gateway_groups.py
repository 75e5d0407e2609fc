"""Deliveries that wait at the same moment are one transaction, and each is answered by itself."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from gateway import groups as room
from gateway.groups import Groups
from gateway.ingest import Received, Stored, Surroundings, turns
from gateway.metrics import Metrics
from gateway.problems import Problem
from pipewright import errors
from pipewright.records import JobRecord, RunRecord
from pipewright.store.records import Delivery, Route, Trigger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROUTE = Route(
    hook_id="h", tenant_id="t", namespace="n", integration="i", integration_uid="u", connector="github"
)


def received(
    name: str, *, body: bytes = b"", records: Any = (), triggers: Any = (), model: Any = None
) -> Received:
    delivery = Delivery(integration="u", delivery_id=name, event="e", received_at=AT)
    return Received(
        route=ROUTE,
        delivery=delivery,
        body=body,
        records=records,
        around=Surroundings(triggers=triggers, predictor=model),
    )


class Databases:
    """Transactions that end when they are let, and remember what was stored in each."""

    def __init__(self) -> None:
        self.stored: list[list[str]] = []
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Callable[[list[str]], Exception | None] = lambda _names: None
        self.away = False

    def expect(self, _tenant: str) -> None:
        if self.away:
            raise errors.Unreachable("a moment ago")

    async def ensure_days(self, _tenant: str, _days: Any) -> None:
        pass

    @asynccontextmanager
    async def pipeline(self, _tenant: str) -> AsyncIterator["Databases"]:
        self.begun += 1
        yield self
        await self.gate.wait()

    async def take(self, some: Sequence[Received]) -> list[Stored]:
        names = [each.delivery.delivery_id for each in some]
        await asyncio.sleep(0)
        if (error := self.fails(names)) is not None:
            raise error
        self.stored.append(names)
        return [Stored(fired=int(name.removeprefix("d"))) for name in names]


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Databases:
    async def store(conn: Any, some: Sequence[Received], _models: Any) -> list[Stored]:
        return await cast("Databases", conn).take(some)

    monkeypatch.setattr(room.ingest, "store", store)
    return Databases()


def made(databases: Databases, **options: Any) -> Groups:
    unused = cast("Any", None)
    return Groups(databases=cast("Any", databases), models=unused, metrics=Metrics(), **options)


def going(groups: Groups, *names: str, tenant: str = "t", **options: Any) -> asyncio.Task[list[Stored]]:
    return asyncio.create_task(groups.store(tenant, [received(name, **options) for name in names]))


async def held(databases: Databases, groups: Groups) -> asyncio.Task[list[Stored]]:
    """One whose transaction is under way until the gate opens."""
    databases.gate.clear()
    first = going(groups, "d0")
    while not databases.stored:  # noqa: ASYNC110 - it is another task's doing
        await asyncio.sleep(0)
    return first


async def test_who_is_alone_is_a_transaction_at_once_and_leaves_nothing(databases: Databases) -> None:
    groups = made(databases)
    assert await groups.store("t", [received("d1")]) == [Stored(fired=1)]
    assert await groups.store("t", [received("d2"), received("d3")]) == [Stored(fired=2), Stored(fired=3)]
    await asyncio.sleep(0)
    assert (databases.stored, len(groups)) == ([["d1"], ["d2", "d3"]], 0)


async def test_who_comes_meanwhile_is_the_next_transaction_and_gets_its_own_answer(
    databases: Databases,
) -> None:
    groups = made(databases)
    first = await held(databases, groups)
    others = [going(groups, f"d{number}") for number in range(1, 6)]
    await asyncio.sleep(0)
    databases.gate.set()
    assert [await each for each in (first, *others)] == [[Stored(fired=number)] for number in range(6)]
    assert databases.stored == [["d0"], ["d1", "d2", "d3", "d4", "d5"]]


async def test_who_has_arrived_and_is_read_a_turn_later_goes_along(databases: Databases) -> None:
    groups = made(databases)
    first = going(groups, "d1")
    await asyncio.sleep(0)  # it waits, and its transaction may begin
    second = going(groups, "d2")
    await asyncio.gather(first, second)
    assert databases.stored == [["d1", "d2"]]


@pytest.mark.parametrize("size", [1, 30])
async def test_after_several_the_next_group_waits_for_more_and_after_one_it_does_not(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    groups, loop = made(databases), asyncio.get_running_loop()
    monkeypatch.setattr(room, "PACE", 0.5)
    monkeypatch.setattr(room, "LONGEST", 1.0)
    begun = loop.time()
    await asyncio.gather(*(going(groups, f"d{number}") for number in range(size)))
    first = going(groups, "d1")
    for _ in range(100):
        await asyncio.sleep(0)
    assert first.done() == (size == 1)
    await asyncio.gather(first, going(groups, "d2"))
    assert databases.stored[-1] == (["d2"] if size == 1 else ["d1", "d2"])
    assert size == 1 or 1.0 <= loop.time() - begun < 10.0


async def test_a_group_has_its_bounds_and_a_larger_one_goes_alone(databases: Databases) -> None:
    groups = made(databases, most=3, most_bytes=100)
    first = await held(databases, groups)
    others = [
        going(groups, "d1", "d2", "d3", "d4"),
        going(groups, "d5"),
        going(groups, "d6", body=b"x" * 60),
        going(groups, "d7", body=b"x" * 60),
        going(groups, "d8", body=b"x" * 500),
    ]
    await asyncio.sleep(0)
    databases.gate.set()
    await asyncio.gather(first, *others)
    assert databases.stored[1:] == [["d1", "d2", "d3", "d4"], ["d5", "d6"], ["d7"], ["d8"]]


async def test_one_that_is_bad_costs_the_others_nothing(databases: Databases) -> None:
    groups = made(databases)
    first = await held(databases, groups)
    databases.fails = lambda names: errors.BackendError("bad") if "d2" in names else None
    others = [going(groups, f"d{number}") for number in range(1, 4)]
    await asyncio.sleep(0)
    databases.gate.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [[Stored(fired=number)] for number in (0, 1, 3)]
    assert isinstance(answers[2], errors.BackendError)
    assert databases.stored == [["d0"], ["d1"], ["d3"]]


async def test_a_database_that_is_away_is_told_to_all_and_not_asked_again_for_each(
    databases: Databases,
) -> None:
    groups = made(databases, most=2)
    first = await held(databases, groups)

    def away(_names: list[str]) -> Exception:
        databases.away = True
        return errors.Unreachable("away")

    databases.fails = away
    others = [going(groups, f"d{number}") for number in range(1, 6)]
    await asyncio.sleep(0)
    databases.gate.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(each, errors.Unreachable) for each in answers[1:])
    assert databases.begun == 2


async def test_a_group_that_another_transaction_beat_is_tried_again_as_it_is(databases: Databases) -> None:
    groups, left = made(databases), [errors.Conflict("beaten"), errors.Conflict("beaten")]
    first = await held(databases, groups)
    databases.fails = lambda _names: left.pop() if left else None
    others = [going(groups, f"d{number}") for number in (1, 2)]
    await asyncio.sleep(0)
    databases.gate.set()
    await asyncio.gather(first, *others)
    assert databases.stored == [["d0"], ["d1", "d2"]]


async def test_one_that_is_always_beaten_is_told_after_three_times(databases: Databases) -> None:
    databases.fails = lambda _names: errors.Conflict("beaten")
    with pytest.raises(errors.Conflict):
        await made(databases).store("t", [received("d1")])
    assert databases.begun == 3


async def test_whose_turn_does_not_come_in_time_is_told_and_not_stored(databases: Databases) -> None:
    groups = made(databases, patience=0.02)
    first = await held(databases, groups)
    with pytest.raises(Problem) as busy:
        await groups.store("t", [received("d1")])
    assert (busy.value.status, busy.value.reason) == (503, "Busy")
    databases.gate.set()
    assert await first == [Stored()]
    await asyncio.sleep(0)
    assert (databases.stored, len(groups)) == ([["d0"]], 0)


async def test_who_is_gone_before_its_turn_is_not_stored(databases: Databases) -> None:
    groups = made(databases)
    first = await held(databases, groups)
    gone, stays = going(groups, "d1"), going(groups, "d2")
    await asyncio.sleep(0)
    gone.cancel()
    databases.gate.set()
    await asyncio.gather(first, stays)
    assert databases.stored == [["d0"], ["d2"]]


async def test_a_tenant_does_not_wait_for_another(databases: Databases) -> None:
    groups = made(databases)
    first = await held(databases, groups)
    other = going(groups, "d1", tenant="another")
    while len(databases.stored) < 2:  # noqa: ASYNC110 - it is another task's doing
        await asyncio.sleep(0)
    assert databases.stored == [["d0"], ["d1"]]
    databases.gate.set()
    await asyncio.gather(first, other)


# --- turns ------------------------------------------------------------------------------------------------


def run(number: int, *, attempt: int = 1) -> RunRecord:
    return RunRecord(
        project="acme/shop", pipeline="ci", id=str(number), attempt=attempt, phase="queued", queued_at=AT
    )


def ended(number: int) -> RunRecord:
    return dataclasses.replace(run(number), phase="finished", outcome="success", finished_at=AT)


def job(number: int, *, of: int) -> JobRecord:
    return JobRecord(
        project="acme/shop", run=str(of), attempt=1, id=str(number), name="unit", phase="queued", queued_at=AT
    )


def trigger(event: str) -> Trigger:
    return Trigger(
        workflow_uid="w", position=0, tenant_id="t", namespace="n", workflow="heal", revision="r", event=event
    )


JOBS = (trigger("taskrun.queued"),)
TURNS: dict[str, tuple[list[Received], list[int]]] = {
    "nothing": ([], []),
    "different runs": ([received("a", records=[run(1)]), received("b", records=[run(2)])], [2]),
    "attempts of a run": ([received("a", records=[run(1)]), received("b", records=[run(1, attempt=2)])], [2]),
    "an attempt that nobody reads": ([received("a", records=[run(1)]), received("b", records=[run(1)])], [2]),
    "an attempt that a model reads": (
        [received(name, records=[run(1)], model=object()) for name in "ab"],
        [1, 1],
    ),
    "an attempt that ends": (
        [received("a", records=[run(1)]), received("b", records=[ended(1)]), received("c", records=[run(2)])],
        [1, 2],
    ),
    "an attempt that has ended": (
        [received("a", records=[ended(1)]), received("b", records=[run(1)])],
        [1, 1],
    ),
    "the same delivery": ([received("a", records=[run(1)]), received("a", records=[run(2)])], [1, 1]),
    "jobs that nobody waits for": (
        [
            received("a", records=[job(7, of=1)]),
            received("b", records=[run(1)]),
            received("c", records=[job(7, of=1)]),
        ],
        [3],
    ),
    "a job that somebody waits for, and then its run": (
        [received("a", records=[job(7, of=1)], triggers=JOBS), received("b", records=[run(1)])],
        [1, 1],
    ),
    "a run, and then its job that somebody waits for": (
        [received("a", records=[run(1)]), received("b", records=[job(7, of=1)], triggers=JOBS)],
        [1, 1],
    ),
    "a run and its job in one delivery": (
        [received("a", records=[run(1), job(7, of=1)], triggers=JOBS)],
        [1],
    ),
}


@pytest.mark.parametrize(("given", "sizes"), TURNS.values(), ids=TURNS)
def test_what_another_one_reads_takes_a_turn_of_its_own(given: list[Received], sizes: list[int]) -> None:
    found = list(turns(given))
    assert [len(turn) for turn in found] == sizes
    assert [each for turn in found for each in turn] == given
