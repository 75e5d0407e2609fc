"""Secrets without Vault: whatever write the process dies at, a version counts only when all can read it."""

from __future__ import annotations

from typing import Any

import pytest

from pipewright import names
from pipewright.backends.kubernetes_secrets import KubernetesSecretStore
from pipewright.backends.memory import MemoryCluster
from pipewright.ports import Secret

PATH = names.platform_path("abcdefghjkmn")
OWN, SHARED = names.SECRETS_NAMESPACE, names.RUNNER_SECRETS_NAMESPACE
FIRST = {"runner": Secret("r1"), "ingest": Secret("i1")}
SECOND = {"runner": Secret("r2"), "ingest": Secret("i2")}


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """A cluster that answers no write after so many of them."""

    def __init__(self, cluster: MemoryCluster, *, after: int) -> None:
        self._cluster, self._left = cluster, after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._cluster, name)
        if name not in ("create", "apply"):
            return call

        async def counted(*args: Any, **kwargs: Any) -> Any:
            if not self._left:
                raise Killed
            self._left -= 1
            return await call(*args, **kwargs)

        return counted


@pytest.fixture
async def cluster() -> MemoryCluster:
    made = MemoryCluster()
    for name in (OWN, SHARED):
        await made.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return made


def store(cluster: Any) -> KubernetesSecretStore:
    return KubernetesSecretStore(cluster, namespace=OWN, shared_with=SHARED)


def runners(cluster: Any) -> KubernetesSecretStore:
    return KubernetesSecretStore(cluster, namespace=SHARED)


@pytest.mark.parametrize("after", [0, 1])
async def test_what_was_issued_and_not_shared_does_not_count_yet(cluster: MemoryCluster, after: int) -> None:
    with pytest.raises(Killed):
        await store(Dying(cluster, after=after)).create(PATH, FIRST, owner="uid")
    assert await store(cluster).version(PATH) is None
    made = await store(cluster).create(PATH, SECOND, owner="uid")
    counts = FIRST if after else SECOND
    assert made == (None if after else 1)
    assert await store(cluster).read(PATH) == counts
    assert await runners(cluster).read(PATH) == {"runner": counts["runner"]}
    assert (await store(cluster).version(PATH), await runners(cluster).version(PATH)) == (1, 1)


@pytest.mark.parametrize("after", [0, 1])
async def test_what_was_rotated_and_not_shared_is_finished_by_the_next_try(
    cluster: MemoryCluster, after: int
) -> None:
    await store(cluster).create(PATH, FIRST, owner="uid")
    with pytest.raises(Killed):
        await store(Dying(cluster, after=after)).replace(PATH, SECOND, expected=1)
    assert await store(cluster).version(PATH) == 1
    third = {"runner": Secret("r3"), "ingest": Secret("i3")}
    done = await store(cluster).replace(PATH, third, expected=1)
    assert done is (after == 0)
    counts = SECOND if after else third
    assert await store(cluster).version(PATH) == 2
    assert await store(cluster).read(PATH) == counts
    assert await runners(cluster).read(PATH) == {"runner": counts["runner"]}
    assert await runners(cluster).read(PATH, version=1) == {"runner": FIRST["runner"]}


async def test_nothing_is_written_that_is_there(cluster: MemoryCluster) -> None:
    await store(cluster).create(PATH, FIRST, owner="uid")
    before = list(cluster.writes)
    await store(cluster).issued(PATH)
    await store(cluster).read(PATH)
    assert await store(cluster).create(PATH, SECOND, owner="uid") is None
    assert cluster.writes == before


async def test_two_versions_are_kept(cluster: MemoryCluster) -> None:
    await store(cluster).create(PATH, FIRST, owner="uid")
    for expected in (1, 2):
        assert await store(cluster).replace(PATH, SECOND, expected=expected)
    assert await store(cluster).read(PATH, version=1) is None
    assert await store(cluster).read(PATH, version=2) == SECOND
    assert await store(cluster).version(PATH) == 3


async def test_a_path_that_is_no_tenants_is_refused(cluster: MemoryCluster) -> None:
    for path in ("abcdefghjkmn", "abcdefghjkmn/../other", "abcdefghjkmn/a.b", "short/a"):
        with pytest.raises(ValueError, match="tenant's id"):
            await store(cluster).read(path)
