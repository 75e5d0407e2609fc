"""One leader at a time: the same story on a dictionary and on a real API server."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipewright import errors
from pipewright.backends import kubernetes
from pipewright.plan import Manifest, Ref
from pipewright.runtime.leader import Leader, LeaseLost, Leases
from pipewright.runtime.metrics import Metrics

NAMESPACE = "default"


class Hand:
    """Time that moves when all `sleepers` sleep, to when the first of them wakes.

    Were it moved by one alone, a slow answer to another would look like its long silence.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleepers = 1
        self.naps: list[float] = []
        self._asleep: list[tuple[float, asyncio.Event]] = []
        self._moved = asyncio.Event()

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        awake = asyncio.Event()
        self._asleep.append((self.seconds + seconds, awake))
        if len(self._asleep) == self.sleepers:
            first = min(self._asleep, key=lambda nap: nap[0])
            self._asleep.remove(first)
            self.seconds = first[0]
            first[1].set()
            self._moved.set()
        await awake.wait()
        await asyncio.sleep(0)

    async def reach(self, seconds: float) -> None:
        while self.seconds < seconds:
            self._moved.clear()
            await self._moved.wait()


class MemoryLeases:
    """Leases in a dictionary, with versions."""

    def __init__(self) -> None:
        self._found: dict[Ref, dict[str, Any]] = {}
        self._version = 0

    async def get(self, ref: Ref) -> Manifest | None:
        return copy.deepcopy(self._found.get(ref))

    async def create(self, manifest: Manifest) -> Manifest | None:
        return None if Ref.of(manifest) in self._found else self._store(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        found = self._found.get(Ref.of(manifest))
        version = manifest["metadata"].get("resourceVersion")
        if found is None or found["metadata"]["resourceVersion"] != version:
            raise errors.Conflict("it changed")
        return self._store(manifest)

    def _store(self, manifest: Manifest) -> Manifest:
        self._version += 1
        stored = copy.deepcopy(dict(manifest))
        stored["metadata"]["resourceVersion"] = str(self._version)
        self._found[Ref.of(manifest)] = stored
        return copy.deepcopy(stored)


class Counted:
    """Leases that count the writes, and fail when told to."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.writes = 0
        self.down = False

    async def get(self, ref: Ref) -> Manifest | None:
        self._check()
        return await self._leases.get(ref)

    async def create(self, manifest: Manifest) -> Manifest | None:
        self._check()
        self.writes += 1
        return await self._leases.create(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        self._check()
        self.writes += 1
        return await self._leases.replace(manifest)

    def _check(self) -> None:
        if self.down:
            raise errors.Unreachable("the API server did not answer")


@pytest.fixture(params=["memory", "real"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Counted]:
    if request.param == "memory":
        yield Counted(MemoryLeases())
        return
    client = await kubernetes.connect(request.getfixturevalue("control_plane").kubeconfig)
    try:
        yield Counted(kubernetes.KubernetesCluster(client))
    finally:
        await client.close()


@pytest.fixture
def time() -> Hand:
    return Hand()


@pytest.fixture
def candidate(leases: Counted, time: Hand) -> Callable[..., Leader]:
    name = f"lease-{uuid.uuid4().hex[:8]}"

    def make(identity: str, **options: Any) -> Leader:
        return Leader(
            leases,
            name=name,
            namespace=NAMESPACE,
            identity=identity,
            clock=time,
            metrics=options.pop("metrics", Metrics()),
            monotonic=time.monotonic,
            sleep=time.sleep,
            **options,
        )

    return make


async def test_a_free_lease_is_taken_with_one_write(candidate, leases) -> None:
    one = candidate("one")
    await one.acquire()
    assert one.held
    assert leases.writes == 1


async def test_a_second_candidate_waits_until_the_lease_has_run_out(candidate, leases, time) -> None:
    await candidate("one").acquire()
    before, writes = time.seconds, leases.writes
    two = candidate("two")
    await two.acquire()
    assert 15 <= time.seconds - before <= 18
    assert leases.writes == writes + 1


async def test_a_renewed_lease_is_not_taken(candidate, time) -> None:
    one, two = candidate("one"), candidate("two")
    await one.acquire()
    time.sleepers = 2
    holding = asyncio.create_task(one.hold())
    waiting = asyncio.create_task(two.acquire())
    await time.reach(200)
    assert not waiting.done()
    assert not holding.done()
    for task in (holding, waiting):
        task.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)


async def test_a_restart_under_the_same_identity_takes_its_lease_back_at_once(candidate, time) -> None:
    await candidate("one").acquire()
    again = candidate("one")
    await again.acquire()
    assert again.held
    assert time.naps == []


async def test_the_older_incarnation_of_an_identity_sees_that_it_has_lost(candidate, time) -> None:
    old = candidate("one")
    await old.acquire()
    time.seconds += 1
    await candidate("one").acquire()
    with pytest.raises(LeaseLost, match="is held by one now"):
        await old.hold()


async def test_a_released_lease_is_free_at_once(candidate, time) -> None:
    one, two = candidate("one"), candidate("two")
    await one.acquire()
    await one.release()
    assert not one.held
    await two.acquire()
    assert time.naps == []


async def test_a_renewal_cut_off_after_it_reached_the_server_does_not_stop_the_release(
    candidate, leases, time
) -> None:
    one = candidate("one")
    await one.acquire()
    found = await leases.get(one._ref)
    assert found is not None
    await leases.replace(one._wish(found))  # its answer never came
    await one.release()
    await candidate("two").acquire()
    assert time.naps == []


async def test_each_renewal_is_one_write(candidate, leases, time) -> None:
    one = candidate("one")
    await one.acquire()
    writes, until = leases.writes, time.seconds + 50
    holding = asyncio.create_task(one.hold())
    await time.reach(until)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    assert set(time.naps) == {5.0}
    assert leases.writes - writes <= len(time.naps)


async def test_who_lost_the_lease_to_another_ends(candidate, time) -> None:
    one, two = candidate("one"), candidate("two")
    await one.acquire()
    await two.acquire()  # one slept meanwhile
    with pytest.raises(LeaseLost):
        await one.hold()
    assert two.held


async def test_an_api_server_that_stays_away_ends_the_leadership_before_others_may_take_it(
    candidate, leases, time
) -> None:
    metrics = Metrics()
    one = candidate("one", metrics=metrics)
    await one.acquire()
    assert metrics.registry.get_sample_value("pipewright_leader") == 1
    renewed, leases.down = time.seconds, True
    with pytest.raises(LeaseLost, match="was not renewed for 13 s"):
        await one.hold()
    assert time.seconds - renewed < 15
    assert metrics.registry.get_sample_value("pipewright_leader") == 0


async def test_a_short_outage_of_the_api_server_costs_nothing(candidate, leases, time) -> None:
    one = candidate("one")
    await one.acquire()
    leases.down = True
    holding = asyncio.create_task(one.hold())
    await time.reach(8)
    leases.down = False
    await time.reach(60)
    assert not holding.done()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_an_edit_of_the_leases_labels_does_not_cost_the_leadership(candidate, leases, time) -> None:
    one = candidate("one")
    await one.acquire()
    found = await leases.get(one._ref)
    assert found is not None
    edited = copy.deepcopy(dict(found))
    edited["metadata"]["labels"] = {"touched": "yes"}
    await leases.replace(edited)
    until = time.seconds + 20
    holding = asyncio.create_task(one.hold())
    await time.reach(until)
    assert not holding.done()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    kept = await leases.get(one._ref)
    assert kept is not None
    assert kept["metadata"]["labels"] == {"touched": "yes"}
