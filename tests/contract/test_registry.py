"""The registry of tenants: one suite for memory and for the platform database."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from pipewright import errors
from pipewright.backends.memory_postgres import MemoryRegistry
from pipewright.backends.postgres import Pools, PostgresRegistry
from pipewright.ports import Registry, Secret


@pytest.fixture(params=["memory", "postgres"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    dsn = request.getfixturevalue("platform_logins")["pipewright_provisioner"]
    pools = Pools()
    yield PostgresRegistry(pools, dsn=Secret(dsn))
    await pools.close()


@pytest.fixture
def uid() -> str:
    return str(uuid4())


async def test_a_tenant_that_was_never_registered_is_absent(registry: Registry, uid: str) -> None:
    assert await registry.find(uid=uid) is None


async def test_a_new_tenant_gets_an_id_of_12_letters_that_nobody_mistakes(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    assert len(made.id) == 12
    assert set(made.id) <= set("abcdefghijkmnpqrstuvwxyz23456789")
    assert (made.uid, made.name, made.server, made.state) == (uid, "acme", "main", "Active")
    assert (made.namespaces, made.bundle_version, made.bundle_key) == ({}, None, None)
    assert await registry.find(uid=uid) == made


async def test_the_same_uid_gets_the_same_id_again(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    assert await registry.register(uid=uid, name="acme", server="other") == made


async def test_a_recreated_tenant_of_the_same_name_gets_another_id(registry: Registry, uid: str) -> None:
    old = await registry.register(uid=uid, name="acme", server="main")
    new = await registry.register(uid=str(uuid4()), name="acme", server="main")
    assert old.id != new.id


async def test_a_namespace_that_was_released_can_be_bound_by_another_tenant(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    other = await registry.register(uid=str(uuid4()), name="other", server="main")
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace)
    await registry.unbind_namespace(other.id, name="acme", uid=namespace)
    await registry.unbind_namespace(made.id, name="acme", uid=str(uuid4()))
    found = await registry.find(uid=uid)
    assert found is not None
    assert found.namespaces == {"acme": namespace}
    for _ in range(2):
        await registry.unbind_namespace(made.id, name="acme", uid=namespace)
    assert await registry.find(uid=uid) == made
    await registry.bind_namespace(other.id, name="acme", uid=namespace)


async def test_a_namespace_is_bound_once_however_often_it_is_said(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    namespace = str(uuid4())
    for _ in range(2):
        await registry.bind_namespace(made.id, name="acme", uid=namespace)
    found = await registry.find(uid=uid)
    assert found
    assert found.namespaces == {"acme": namespace}


async def test_a_recreated_namespace_replaces_the_old_one_of_its_name(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    await registry.bind_namespace(made.id, name="acme", uid=str(uuid4()))
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace)
    found = await registry.find(uid=uid)
    assert found
    assert found.namespaces == {"acme": namespace}


async def test_a_namespace_of_another_tenant_is_refused(registry: Registry, uid: str) -> None:
    first = await registry.register(uid=uid, name="acme", server="main")
    second = await registry.register(uid=str(uuid4()), name="globex", server="main")
    namespace = str(uuid4())
    await registry.bind_namespace(first.id, name="shared", uid=namespace)
    with pytest.raises(errors.OwnedByOther, match="namespace shared belongs to another tenant"):
        await registry.bind_namespace(second.id, name="shared", uid=namespace)


async def test_a_name_passes_on_with_the_namespace_that_has_it_now(registry: Registry, uid: str) -> None:
    first = await registry.register(uid=uid, name="acme", server="main")
    other = str(uuid4())
    second = await registry.register(uid=other, name="globex", server="main")
    await registry.bind_namespace(first.id, name="team", uid=str(uuid4()))
    again = str(uuid4())
    await registry.bind_namespace(second.id, name="team", uid=again)
    before, after = await registry.find(uid=uid), await registry.find(uid=other)
    assert before
    assert after
    assert (before.namespaces, after.namespaces) == ({}, {"team": again})


async def test_a_data_key_is_never_overwritten(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    for version in (1, 2):
        await registry.store_bundle(
            made.id, version=version, key="k", bundle=b"b", wrapped_data_key="vault:v1:first"
        )
    with pytest.raises(errors.Conflict, match="another data key"):
        await registry.store_bundle(
            made.id, version=3, key="k", bundle=b"b", wrapped_data_key="vault:v1:second"
        )
    assert await registry.wrapped_data_key(made.id) == "vault:v1:first"


LATE = [("Deleted", "Active"), ("Retained", "Deleting"), ("Deleting", "Active"), ("Deleted", "Retained")]


@pytest.mark.parametrize(("state", "late"), LATE)
async def test_a_late_mark_does_not_turn_the_clock_back(
    registry: Registry, uid: str, state: str, late: str
) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    for _ in range(2):
        await registry.mark(made.id, state=state)
    with pytest.raises(errors.Conflict, match=f"further than {late}"):
        await registry.mark(made.id, state=late)


@pytest.mark.parametrize("state", ["Retained", "Deleted"])
async def test_a_tenant_that_is_gone_frees_its_namespaces(registry: Registry, uid: str, state: str) -> None:
    first = await registry.register(uid=uid, name="acme", server="main")
    second = await registry.register(uid=str(uuid4()), name="globex", server="main")
    namespace = str(uuid4())
    await registry.bind_namespace(first.id, name="shared", uid=namespace)
    await registry.mark(first.id, state=state)
    await registry.bind_namespace(second.id, name="shared", uid=namespace)
    found = await registry.find(uid=uid)
    assert found
    assert (found.state, found.namespaces) == (state, {})


async def test_a_deleting_tenant_keeps_its_namespaces(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace)
    await registry.mark(made.id, state="Deleting")
    found = await registry.find(uid=uid)
    assert found
    assert (found.state, found.namespaces) == ("Deleting", {"acme": namespace})


async def test_the_bundle_is_known_by_its_version_and_the_key_it_is_sealed_to(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    assert await registry.wrapped_data_key(made.id) is None
    await registry.store_bundle(
        made.id, version=3, key="sha256:aa", bundle=b"\x00sealed", wrapped_data_key="vault:v1:x"
    )
    found = await registry.find(uid=uid)
    assert found
    assert (found.bundle_version, found.bundle_key) == (3, "sha256:aa")
    assert await registry.wrapped_data_key(made.id) == "vault:v1:x"


async def test_a_deleted_tenant_leaves_nothing_sealed_behind(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    await registry.store_bundle(made.id, version=1, key="k", bundle=b"b", wrapped_data_key="vault:v1:x")
    await registry.mark(made.id, state="Deleted")
    found = await registry.find(uid=uid)
    assert found
    assert (found.bundle_version, found.bundle_key) == (None, None)
    assert await registry.wrapped_data_key(made.id) is None


async def test_an_unknown_tenant_cannot_be_changed(registry: Registry) -> None:
    with pytest.raises(errors.Conflict, match="not in the registry"):
        await registry.mark("aaaaaaaaaaaa", state="Active")
    with pytest.raises(errors.Conflict, match="not in the registry"):
        await registry.bind_namespace("aaaaaaaaaaaa", name="acme", uid=str(uuid4()))
