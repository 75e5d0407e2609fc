"""The registry of tenants: one suite for memory and for the platform database."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from pipewright import errors
from pipewright.backends.memory_postgres import MemoryRegistry
from pipewright.backends.postgres import Pools, PostgresRegistry
from pipewright.facts import Server
from pipewright.ports import Dump, Registration, Registry, Secret

MAIN = (Server(name="main", region="local", database_class="standard"),)
OTHER = (replace(MAIN[0], name="other"),)


@pytest.fixture(params=["memory", "postgres"])
async def registry(
    request: pytest.FixtureRequest, platform_logins: Mapping[str, str]
) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    pools, dsn = Pools(), Secret(platform_logins["pipewright_provisioner"])
    yield PostgresRegistry(pools, dsn=dsn, revision=f"t-{uuid4().hex[:8]}")
    await pools.close()


@pytest.fixture
def uid() -> str:
    return str(uuid4())


async def test_a_tenant_that_was_never_registered_is_absent(registry: Registry, uid: str) -> None:
    assert await registry.find(uid=uid) is None


async def test_a_new_tenant_gets_an_id_of_12_letters_that_nobody_mistakes(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert len(made.id) == 12
    assert set(made.id) <= set("abcdefghijkmnpqrstuvwxyz23456789")
    assert (made.uid, made.name, made.server, made.state) == (uid, "acme", "main", "Active")
    assert (made.namespaces, made.bundle_version, made.bundle_key) == ({}, None, None)
    assert await registry.find(uid=uid) == made


async def test_the_same_uid_gets_the_same_id_again(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert await registry.register(uid=uid, name="acme", servers=OTHER) == made


async def test_a_recreated_tenant_of_the_same_name_gets_another_id(registry: Registry, uid: str) -> None:
    old = await registry.register(uid=uid, name="acme", servers=MAIN)
    new = await registry.register(uid=str(uuid4()), name="acme", servers=MAIN)
    assert old.id != new.id


async def test_a_namespace_that_was_released_can_be_bound_by_another_tenant(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    other = await registry.register(uid=str(uuid4()), name="other", servers=MAIN)
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace, owner=made.uid)
    await registry.unbind_namespace(other.id, name="acme", uid=namespace)
    await registry.unbind_namespace(made.id, name="acme", uid=str(uuid4()))
    found = await registry.find(uid=uid)
    assert found is not None
    assert found.namespaces == {"acme": namespace}
    for _ in range(2):
        await registry.unbind_namespace(made.id, name="acme", uid=namespace)
    assert await registry.find(uid=uid) == made
    await registry.bind_namespace(other.id, name="acme", uid=namespace, owner=other.uid)


async def test_a_namespace_is_bound_once_however_often_it_is_said(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    namespace = str(uuid4())
    for _ in range(2):
        await registry.bind_namespace(made.id, name="acme", uid=namespace, owner=made.uid)
    found = await registry.find(uid=uid)
    assert found
    assert found.namespaces == {"acme": namespace}


async def test_a_recreated_namespace_replaces_the_old_one_of_its_name(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    await registry.bind_namespace(made.id, name="acme", uid=str(uuid4()), owner=made.uid)
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace, owner=made.uid)
    found = await registry.find(uid=uid)
    assert found
    assert found.namespaces == {"acme": namespace}


async def test_a_namespace_of_another_tenant_is_refused(registry: Registry, uid: str) -> None:
    first = await registry.register(uid=uid, name="acme", servers=MAIN)
    second = await registry.register(uid=str(uuid4()), name="globex", servers=MAIN)
    namespace = str(uuid4())
    await registry.bind_namespace(first.id, name="shared", uid=namespace, owner=first.uid)
    with pytest.raises(errors.OwnedByOther, match="namespace shared belongs to another tenant"):
        await registry.bind_namespace(second.id, name="shared", uid=namespace, owner=second.uid)


async def test_only_the_owner_of_now_binds_and_destroys(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    await registry.confirm(made.id, uid=uid)
    heir = str(uuid4())
    await registry.rebind(made.id, uid=heir, name="heir", previous_uid=uid, namespaces=())
    with pytest.raises(errors.OwnedByOther, match=heir):
        await registry.confirm(made.id, uid=uid)
    with pytest.raises(errors.OwnedByOther, match=heir):
        await registry.bind_namespace(made.id, name="late", uid=str(uuid4()), owner=uid)
    found = await registry.get(made.id)
    assert found
    assert found.namespaces == {}
    await registry.confirm(made.id, uid=heir)
    with pytest.raises(errors.OwnedByOther, match="nobody"):
        await registry.confirm("aaaaaaaaaaaa", uid=uid)


async def test_a_name_passes_on_with_the_namespace_that_has_it_now(registry: Registry, uid: str) -> None:
    first = await registry.register(uid=uid, name="acme", servers=MAIN)
    other = str(uuid4())
    second = await registry.register(uid=other, name="globex", servers=MAIN)
    await registry.bind_namespace(first.id, name="team", uid=str(uuid4()), owner=first.uid)
    again = str(uuid4())
    await registry.bind_namespace(second.id, name="team", uid=again, owner=second.uid)
    before, after = await registry.find(uid=uid), await registry.find(uid=other)
    assert before
    assert after
    assert (before.namespaces, after.namespaces) == ({}, {"team": again})


async def test_a_data_key_is_never_overwritten(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    for version in (1, 2):
        await registry.store_bundle(
            made.id,
            version=version,
            key="k",
            address="db:5432/pw",
            bundle=b"b",
            wrapped_data_key="vault:v1:first",
        )
    with pytest.raises(errors.Conflict, match="another data key"):
        await registry.store_bundle(
            made.id, version=3, key="k", address="db:5432/pw", bundle=b"b", wrapped_data_key="vault:v1:second"
        )
    assert await registry.wrapped_data_key(made.id) == "vault:v1:first"


LATE = [
    ("Deleted", "Active"),
    ("Retained", "Deleting"),
    ("Deleting", "Active"),
    ("Deleting", "Suspended"),
    ("Deleted", "Suspended"),
    ("Deleted", "Retained"),
]


@pytest.mark.parametrize(("state", "late"), LATE)
async def test_a_late_mark_does_not_turn_the_clock_back(
    registry: Registry, uid: str, state: str, late: str
) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    for _ in range(2):
        await registry.mark(made.id, state=state)
    with pytest.raises(errors.Conflict, match=f"further than {late}"):
        await registry.mark(made.id, state=late)


async def test_a_suspended_tenant_keeps_its_namespaces_and_comes_back(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace, owner=made.uid)
    await registry.mark(made.id, uid=uid, state="Suspended")
    found = await registry.find(uid=uid)
    assert found is not None
    assert (found.state, found.namespaces) == ("Suspended", {"acme": namespace})
    await registry.mark(made.id, uid=uid, state="Active")
    found = await registry.find(uid=uid)
    assert found is not None
    assert found.state == "Active"
    await registry.mark(made.id, uid=uid, state="Suspended")
    await registry.mark(made.id, uid=uid, state="Deleting")


@pytest.mark.parametrize("state", ["Retained", "Deleted"])
async def test_a_tenant_that_is_gone_frees_its_namespaces(registry: Registry, uid: str, state: str) -> None:
    first = await registry.register(uid=uid, name="acme", servers=MAIN)
    second = await registry.register(uid=str(uuid4()), name="globex", servers=MAIN)
    namespace = str(uuid4())
    await registry.bind_namespace(first.id, name="shared", uid=namespace, owner=first.uid)
    await registry.mark(first.id, state=state)
    await registry.bind_namespace(second.id, name="shared", uid=namespace, owner=second.uid)
    found = await registry.find(uid=uid)
    assert found
    assert (found.state, found.namespaces) == (state, {})


async def test_a_deleting_tenant_keeps_its_namespaces(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    namespace = str(uuid4())
    await registry.bind_namespace(made.id, name="acme", uid=namespace, owner=made.uid)
    await registry.mark(made.id, state="Deleting")
    found = await registry.find(uid=uid)
    assert found
    assert (found.state, found.namespaces) == ("Deleting", {"acme": namespace})


async def test_the_bundle_is_known_by_its_version_and_the_key_it_is_sealed_to(
    registry: Registry, uid: str
) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert await registry.wrapped_data_key(made.id) is None
    await registry.store_bundle(
        made.id,
        version=3,
        key="sha256:aa",
        address="db:5432/pw",
        bundle=b"\x00sealed",
        wrapped_data_key="vault:v1:x",
    )
    found = await registry.find(uid=uid)
    assert found
    sealed = (found.bundle_version, found.bundle_key, found.bundle_address)
    assert sealed == (3, "sha256:aa", "db:5432/pw")
    assert await registry.wrapped_data_key(made.id) == "vault:v1:x"


async def test_a_data_key_is_wrapped_anew_only_as_it_was_seen(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert made.wrapped_by is None
    await registry.store_bundle(
        made.id, version=1, key="k", address="db:5432/pw", bundle=b"b", wrapped_data_key="vault:v1:x"
    )
    found = await registry.find(uid=uid)
    assert found
    assert found.wrapped_by == "vault:v1"
    await registry.replace_data_key(made.id, expected="vault:v1:x", wrapped="vault:v12:y")
    with pytest.raises(errors.Conflict, match="another data key"):
        await registry.replace_data_key(made.id, expected="vault:v1:x", wrapped="vault:v13:z")
    assert await registry.wrapped_data_key(made.id) == "vault:v12:y"
    found = await registry.find(uid=uid)
    assert found
    assert (found.wrapped_by, found.bundle_version) == ("vault:v12", 1)


async def test_a_deleted_tenant_leaves_nothing_sealed_behind(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    await registry.store_bundle(
        made.id, version=1, key="k", address="db:5432/pw", bundle=b"b", wrapped_data_key="vault:v1:x"
    )
    await registry.mark(made.id, state="Deleted")
    found = await registry.find(uid=uid)
    assert found
    assert (found.bundle_version, found.bundle_key) == (None, None)
    assert await registry.wrapped_data_key(made.id) is None


async def test_an_unknown_tenant_cannot_be_changed(registry: Registry) -> None:
    with pytest.raises(errors.Conflict, match="not in the registry"):
        await registry.mark("aaaaaaaaaaaa", state="Active")
    with pytest.raises(errors.Conflict, match="not in the registry"):
        await registry.bind_namespace("aaaaaaaaaaaa", name="acme", uid=str(uuid4()), owner=str(uuid4()))


# --- a place on a server --------------------------------------------------------------------------------


@pytest.fixture
def pair() -> tuple[Server, ...]:
    """Two servers that no other test knows: one takes two tenants, one takes four."""
    return tuple(
        Server(name=f"s-{uuid4().hex[:8]}", region="eu", database_class="standard", capacity=capacity)
        for capacity in (2, 4)
    )


async def test_tenants_are_spread_by_the_share_of_each_servers_capacity(
    registry: Registry, pair: tuple[Server, ...]
) -> None:
    small, large = pair
    made = [await registry.register(uid=str(uuid4()), name="acme", servers=pair) for _ in range(6)]
    assert [row.server for row in made] == [
        small.name,
        large.name,
        large.name,
        small.name,
        large.name,
        large.name,
    ]


async def test_full_servers_are_said_and_a_deleted_tenant_makes_room(
    registry: Registry, pair: tuple[Server, ...]
) -> None:
    first = await registry.register(uid=str(uuid4()), name="acme", servers=pair[:1])
    second = await registry.register(uid=str(uuid4()), name="globex", servers=pair[:1])
    late = str(uuid4())
    with pytest.raises(errors.Waiting, match=rf"full \({pair[0].name}\): raise its capacity") as refused:
        await registry.register(uid=late, name="late", servers=pair[:1])
    assert refused.value.reason == "NoCapacity"
    assert await registry.find(uid=late) is None
    assert await registry.register(uid=first.uid, name="acme", servers=pair[:1]) == first
    await registry.mark(first.id, state="Retained")
    with pytest.raises(errors.Waiting):  # its database is still there
        await registry.register(uid=late, name="late", servers=pair[:1])
    await registry.mark(second.id, state="Deleted")
    assert (await registry.register(uid=late, name="late", servers=pair[:1])).server == pair[0].name


async def test_those_who_come_at_once_never_get_more_places_than_there_are(
    registry: Registry, pair: tuple[Server, ...]
) -> None:
    outcomes = await asyncio.gather(
        *(registry.register(uid=str(uuid4()), name="rush", servers=pair) for _ in range(12)),
        return_exceptions=True,
    )
    placed = [found.server for found in outcomes if not isinstance(found, BaseException)]
    assert sorted(map(placed.count, {server.name for server in pair})) == [2, 4]
    assert {type(found) for found in outcomes if isinstance(found, BaseException)} == {errors.Waiting}


async def test_a_server_without_a_capacity_takes_what_comes(
    registry: Registry, pair: tuple[Server, ...]
) -> None:
    endless = replace(pair[0], capacity=None)
    made = [await registry.register(uid=str(uuid4()), name="acme", servers=(endless,)) for _ in range(3)]
    assert {row.server for row in made} == {endless.name}


# --- upgrades of the schema -----------------------------------------------------------------------------


async def _three(registry: Registry) -> list[Registration]:
    """Three tenants of a server that no other test knows."""
    server = Server(name=f"s-{uuid4().hex[:8]}", region="eu", database_class="standard")
    return [await registry.register(uid=str(uuid4()), name=f"t{n}", servers=(server,)) for n in range(3)]


async def _rollout(registry: Registry, tenant: Registration) -> tuple[str, str, str] | None:
    found = await registry.find(uid=tenant.uid)
    assert found
    rollout = found.rollout
    return (rollout.state, rollout.name, rollout.reason) if rollout else None


async def test_one_tenant_is_upgraded_first_then_the_others(registry: Registry) -> None:
    first, second, third = await _three(registry)
    assert await _rollout(registry, third) is None
    began = await asyncio.gather(*(registry.begin_upgrade(it.id) for it in (first, second, third)))
    assert began.count(True) == 1
    canary = (first, second, third)[began.index(True)]
    assert await registry.begin_upgrade(canary.id) is True  # after a crash
    assert await _rollout(registry, third) == ("Canary", canary.name, "")
    await registry.finish_upgrade(canary.id)
    assert await _rollout(registry, first) == ("Rolling", canary.name, "")
    assert [await registry.begin_upgrade(it.id) for it in (first, second, third)] == [True] * 3


async def test_a_failure_stops_the_others_until_that_tenant_is_upgraded(registry: Registry) -> None:
    first, second, third = await _three(registry)
    assert await registry.begin_upgrade(first.id)
    await registry.finish_upgrade(first.id)
    assert await registry.begin_upgrade(second.id)
    await registry.fail_upgrade(second.id, reason="a view is in the way")
    assert await _rollout(registry, third) == ("Failed", "t1", "a view is in the way")
    assert await registry.begin_upgrade(third.id) is False
    await registry.fail_upgrade(third.id, reason="the second failure is not the one that is told")
    assert await _rollout(registry, third) == ("Failed", "t1", "a view is in the way")
    await registry.finish_upgrade(first.id)  # not its turn
    assert await registry.begin_upgrade(third.id) is False
    assert await registry.begin_upgrade(second.id)  # tried again
    assert await registry.begin_upgrade(third.id) is False
    await registry.finish_upgrade(second.id)
    assert await registry.begin_upgrade(third.id)


@pytest.mark.parametrize("state", ["Deleting", "Deleted", "Retained"])
async def test_a_tenant_that_goes_away_holds_nobody_up(registry: Registry, state: str) -> None:
    first, second, third = await _three(registry)
    assert await registry.begin_upgrade(first.id)
    await registry.fail_upgrade(first.id, reason="it is broken")
    assert await registry.begin_upgrade(second.id) is False
    await registry.mark(first.id, state=state)
    assert await _rollout(registry, second) is None
    assert await registry.begin_upgrade(second.id)
    assert await _rollout(registry, third) == ("Canary", "t1", "")
    assert await registry.begin_upgrade(third.id) is False


async def test_servers_are_upgraded_apart(registry: Registry) -> None:
    here, there = (await _three(registry))[0], (await _three(registry))[0]
    assert await registry.begin_upgrade(here.id)
    assert await registry.begin_upgrade(there.id)


async def test_a_tenant_is_found_by_its_id_whoever_it_belongs_to(registry: Registry, uid: str) -> None:
    assert await registry.get("aaaaaaaaaaaa") is None
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    assert await registry.get(made.id) == made


async def _retained(registry: Registry, uid: str, **namespaces: str) -> str:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    for name, namespace in namespaces.items():
        await registry.bind_namespace(made.id, name=name, uid=namespace, owner=made.uid)
    await registry.store_bundle(
        made.id, version=1, key="k", address="db:5432/pw", bundle=b"b", wrapped_data_key="vault:v1:x"
    )
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
    second = await registry.register(uid=other, name="globex", servers=MAIN)
    await registry.bind_namespace(second.id, name="one", uid=space, owner=second.uid)
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
        await registry.register(uid=uid, name="acme", servers=MAIN),
        str(uuid4()),
        str(uuid4()),
    )
    await registry.bind_namespace(made.id, name="acme", uid=space, owner=made.uid)
    await registry.bind_namespace(made.id, name="other", uid=str(uuid4()), owner=made.uid)
    await registry.rebind(made.id, uid=heir, name="acme", previous_uid=uid, namespaces=("acme",))
    found = await registry.find(uid=heir)
    assert found
    assert (found.state, found.namespaces) == ("Restoring", {"acme": space})


async def test_what_was_deleted_for_good_has_no_heir(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
    await registry.mark(made.id, state="Deleted", abandoned=("secrets",))
    with pytest.raises(errors.Conflict):
        await registry.rebind(made.id, uid=str(uuid4()), name="heir", previous_uid=uid, namespaces=())


async def test_the_last_dump_is_remembered_until_an_heir_comes(registry: Registry, uid: str) -> None:
    made = await registry.register(uid=uid, name="acme", servers=MAIN)
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
