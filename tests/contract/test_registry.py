"""The registry of tenants: one suite for memory and for the platform database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from pipewright import errors
from pipewright.backends.memory_postgres import MemoryRegistry
from pipewright.backends.postgres import Pools, PostgresRegistry
from pipewright.ports import Dump, Registry, Secret


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


async def test_a_tenant_is_found_by_its_id_whoever_it_belongs_to(registry: Registry, uid: str) -> None:
    assert await registry.get("aaaaaaaaaaaa") is None
    made = await registry.register(uid=uid, name="acme", server="main")
    assert await registry.get(made.id) == made


async def _retained(registry: Registry, uid: str, **namespaces: str) -> str:
    made = await registry.register(uid=uid, name="acme", server="main")
    for name, namespace in namespaces.items():
        await registry.bind_namespace(made.id, name=name, uid=namespace)
    await registry.store_bundle(made.id, version=1, key="k", bundle=b"b", wrapped_data_key="vault:v1:x")
    for _ in range(2):
        await registry.mark(made.id, state="Retained")
    return made.id


async def test_a_retained_tenant_passes_to_its_heir_with_the_namespaces_that_it_names(
    registry: Registry, uid: str
) -> None:
    heir, kept = str(uuid4()), str(uuid4())
    tenant_id = await _retained(registry, uid, one=kept, two=str(uuid4()))
    for _ in range(2):
        await registry.rebind(tenant_id, uid=heir, name="heir", previous_uid=uid, namespaces=("one", "new"))
    found = await registry.find(uid=heir)
    assert found
    assert (found.id, found.name, found.state, found.previous_uids) == (
        tenant_id,
        "heir",
        "Restoring",
        (uid,),
    )
    assert found.namespaces == {"one": kept}
    assert await registry.find(uid=uid) is None
    assert await registry.wrapped_data_key(tenant_id) == "vault:v1:x"
    await registry.mark(tenant_id, state="Active")
    found = await registry.find(uid=heir)
    assert found
    assert (found.state, found.previous_uids) == ("Active", ())


async def test_a_namespace_that_went_to_somebody_else_meanwhile_stays_there(
    registry: Registry, uid: str
) -> None:
    space, other, heir = str(uuid4()), str(uuid4()), str(uuid4())
    tenant_id = await _retained(registry, uid, one=space)
    second = await registry.register(uid=other, name="globex", server="main")
    await registry.bind_namespace(second.id, name="one", uid=space)
    await registry.rebind(tenant_id, uid=heir, name="heir", previous_uid=uid, namespaces=("one",))
    mine, theirs = await registry.find(uid=heir), await registry.find(uid=other)
    assert mine
    assert theirs
    assert (mine.namespaces, theirs.namespaces) == ({}, {"one": space})


async def test_of_two_heirs_one_is_late(registry: Registry, uid: str) -> None:
    tenant_id = await _retained(registry, uid)
    await registry.rebind(tenant_id, uid=str(uuid4()), name="first", previous_uid=uid, namespaces=())
    with pytest.raises(errors.Conflict, match="no longer that of UID"):
        await registry.rebind(tenant_id, uid=str(uuid4()), name="second", previous_uid=uid, namespaces=())


async def test_an_heir_that_went_half_way_is_remembered_by_the_next(registry: Registry, uid: str) -> None:
    first, second = str(uuid4()), str(uuid4())
    tenant_id = await _retained(registry, uid)
    await registry.rebind(tenant_id, uid=first, name="first", previous_uid=uid, namespaces=())
    await registry.rebind(tenant_id, uid=second, name="second", previous_uid=first, namespaces=())
    found = await registry.find(uid=second)
    assert found
    assert found.previous_uids == (uid, first)


async def test_a_living_tenants_namespaces_pass_on_when_its_cluster_was_restored(
    registry: Registry, uid: str
) -> None:
    made, heir, space = (
        await registry.register(uid=uid, name="acme", server="main"),
        str(uuid4()),
        str(uuid4()),
    )
    await registry.bind_namespace(made.id, name="acme", uid=space)
    await registry.bind_namespace(made.id, name="other", uid=str(uuid4()))
    await registry.rebind(made.id, uid=heir, name="acme", previous_uid=uid, namespaces=("acme",))
    found = await registry.find(uid=heir)
    assert found
    assert (found.state, found.namespaces) == ("Restoring", {"acme": space})


async def test_what_was_deleted_for_good_has_no_heir(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    await registry.mark(made.id, state="Deleted", abandoned=("secrets",))
    with pytest.raises(errors.Conflict):
        await registry.rebind(made.id, uid=str(uuid4()), name="heir", previous_uid=uid, namespaces=())


async def test_the_last_dump_is_remembered_until_an_heir_comes(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", server="main")
    dump = Dump(
        path=f"{made.id}/dumps/x.dump", sha256="0" * 64, bytes=9, taken_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    await registry.record_dump(made.id, dump)
    found = await registry.find(uid=uid)
    assert found
    assert found.dump == dump
    heir = str(uuid4())
    await registry.rebind(made.id, uid=heir, name="heir", previous_uid=uid, namespaces=())
    found = await registry.find(uid=heir)
    assert found
    assert found.dump is None


async def test_a_late_mark_of_the_old_owner_does_not_touch_the_heirs_tenant(
    registry: Registry, uid: str
) -> None:
    heir, tenant_id = str(uuid4()), await _retained(registry, uid)
    await registry.rebind(tenant_id, uid=heir, name="heir", previous_uid=uid, namespaces=())
    for state in ("Retained", "Deleting", "Deleted"):
        with pytest.raises(errors.Conflict):
            await registry.mark(tenant_id, uid=uid, state=state)
    found = await registry.find(uid=heir)
    assert found
    assert found.state == "Restoring"
    await registry.mark(tenant_id, uid=heir, state="Active")
