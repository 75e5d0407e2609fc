"""A tenant's passwords in one pass: a version is made or read once, and what others made counts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipewright import errors, names
from pipewright.apply.credentials import Credentials
from pipewright.backends.memory import MemorySecretStore
from pipewright.ports import LOGINS, Secret

ID = "aaaaaaaaaaaa"
PATH = names.platform_path(ID)


class Store(MemorySecretStore):
    """Counts what is read."""

    reads = 0

    async def read(self, path: str, *, version: int | None = None) -> Mapping[str, Secret] | None:
        self.reads += 1
        return await super().read(path, version=version)


async def test_what_the_pass_made_is_not_read_again() -> None:
    store = Store()
    credentials = Credentials(store)
    await credentials.issue(ID, owner="uid")
    found = await credentials.of(ID, version=1)
    assert (set(found), store.reads) == (set(LOGINS), 0)
    assert await store.read(PATH) == found


async def test_a_version_is_read_once_and_each_pass_reads_for_itself() -> None:
    store = Store()
    await Credentials(store).issue(ID, owner="uid")
    for reads in (1, 2):
        credentials = Credentials(store)
        assert await credentials.of(ID, version=1) == await credentials.find(ID, version=1)
        assert store.reads == reads


async def test_what_another_pass_made_counts() -> None:
    store = Store()
    await Credentials(store).issue(ID, owner="uid")
    theirs = await store.read(PATH)
    late = Credentials(store)
    await late.issue(ID, owner="uid")
    assert await late.of(ID, version=1) == theirs


async def test_a_rotation_keeps_the_login_in_use_and_changes_the_others() -> None:
    store = Store()
    credentials = Credentials(store)
    await credentials.issue(ID, owner="uid")
    before = await credentials.of(ID, version=1)
    await credentials.rotate(ID, expected=1)
    after = await credentials.of(ID, version=2)
    assert {login for login in LOGINS if after[login] == before[login]} == {"app_a"}
    await credentials.rotate(ID, expected=1)  # somebody was first
    assert await credentials.newest(ID) == after


async def test_absent_ones_are_waited_for_and_looked_for_again() -> None:
    store = Store()
    credentials = Credentials(store)
    assert await credentials.find(ID, version=1) is None
    for absent in (credentials.of(ID, version=1), credentials.newest(ID)):
        with pytest.raises(errors.Waiting, match=PATH):
            await absent
    await store.create(PATH, {login: Secret(login) for login in LOGINS}, owner="uid")
    assert (await credentials.of(ID, version=1))["ingest"] == Secret("ingest")
