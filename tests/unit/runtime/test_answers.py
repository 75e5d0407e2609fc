"""An answer of the API server that stands for a read: once, for a moment, and never for what is watched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from pipewright.backends.memory import MemoryCluster
from pipewright.plan import Manifest, Ref
from pipewright.runtime.answers import LIVE_S, Answers


class Reads(MemoryCluster):
    """A cluster that notes what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read = list[str]()

    async def get(self, ref: Ref) -> Manifest | None:
        self.read.append(str(ref))
        return await super().get(ref)

    async def get_all(self, refs: Collection[Ref]) -> Mapping[Ref, Manifest | None]:
        return {ref: await self.get(ref) for ref in refs}


class World:
    """Two objects in a namespace, seen through the answers."""

    def __init__(self, *, watched: Collection[str] = ()) -> None:
        self.now = 100.0
        self.behind = Reads()
        self.cluster = Answers(self.behind, watched=watched, clock=lambda: self.now)

    async def start(self) -> World:
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}}
        await self.behind.create(home)
        return self


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "acme"},
        "data": data,
    }


ONE = Ref.of(config_map())
TWO = Ref.of(config_map("two"))


async def test_the_answer_is_the_next_read_and_no_other() -> None:
    world = await World().start()
    answer = await world.cluster.apply(config_map(a="1"))
    assert await world.cluster.get(ONE) == answer
    assert world.behind.read == []
    assert await world.cluster.get(ONE) == answer
    assert world.behind.read == [str(ONE)]


async def test_of_several_only_the_others_are_read() -> None:
    world = await World().start()
    created = await world.cluster.create(config_map(a="1"))
    assert await world.cluster.get_all([ONE, TWO]) == {ONE: created, TWO: None}
    assert world.behind.read == [str(TWO)]


async def test_when_all_are_known_nothing_is_asked() -> None:
    world = await World().start()
    await world.cluster.apply(config_map(a="1"))
    await world.cluster.apply(config_map("two", a="1"))
    assert set(await world.cluster.get_all([ONE, TWO])) == {ONE, TWO}
    assert world.behind.read == []


async def test_an_answer_gets_old() -> None:
    world = await World().start()
    await world.cluster.apply(config_map(a="1"))
    await world.behind.apply(config_map(a="2"))
    world.now += LIVE_S + 0.1
    found = await world.cluster.get(ONE)
    assert found is not None
    assert found["data"] == {"a": "2"}


async def test_old_answers_that_nobody_asked_for_are_let_go() -> None:
    world = await World().start()
    await world.cluster.apply(config_map(a="1"))
    world.now += LIVE_S + 0.1
    await world.cluster.apply(config_map("two", a="1"))
    assert list(world.cluster._answers) == [TWO]


async def test_what_is_watched_is_always_read() -> None:
    world = await World(watched=["ConfigMap"]).start()
    await world.cluster.apply(config_map(a="1"))
    await world.cluster.get(ONE)
    assert world.behind.read == [str(ONE)]


@pytest.mark.parametrize("change", ["delete", "metadata", "finalizers", "lost"])
async def test_a_later_change_of_ours_ends_the_answer(change: str) -> None:
    world = await World().start()
    metadata = (await world.cluster.apply(config_map(a="1")))["metadata"]
    if change == "delete":
        await world.cluster.delete(ONE, uid=metadata["uid"])
    elif change == "metadata":
        await world.cluster.remove_metadata(ONE, uid=metadata["uid"], labels=["x"], annotations=[])
    elif change == "finalizers":
        version = metadata["resourceVersion"]
        await world.cluster.set_finalizers(ONE, finalizers=["a.dev/b"], resource_version=version)
    else:  # whoever does not hear of a write does not know how it ended
        world.behind.apply = lost  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            await world.cluster.apply(config_map(a="2"))
    await world.cluster.get(ONE)
    assert world.behind.read == [str(ONE)]


async def lost(*_: object, **__: object) -> Manifest:
    raise ConnectionError
