"""What the runner tells the gateway through the platform database, and how the gateway hears of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from pipewright import errors
from pipewright.backends.postgres import Pools, PostgresRegistry
from pipewright.facts import Server
from pipewright.ports import Registration, Secret
from pipewright.store import changes, routes, tenants
from pipewright.store.records import ModelPointer, Route, Trigger

MAIN = (Server(name="main", region="local", database_class="standard"),)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
Connections = Mapping[str, psycopg.AsyncConnection]


@pytest.fixture
def registry(platform_logins: Mapping[str, str], pools: Pools) -> PostgresRegistry:
    return PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))


@pytest.fixture
async def tenant(registry: PostgresRegistry) -> Registration:
    return await registry.register(
        uid=str(uuid4()),
        name="acme",
        servers=MAIN,
    )


@pytest.fixture
def route(tenant: Registration, integration: str) -> Route:
    return Route(
        hook_id=routes.new_hook_id(),
        tenant_id=tenant.id,
        namespace="acme",
        integration="github",
        integration_uid=integration,
        connector="github",
        projects=("acme/shop",),
        config={"baseUrl": "https://ci.example"},
        sealed_secret=b"\x00sealed",
        secret_key="key-1",
        allow_unsigned=True,
        webhook_keys=(2, 1),
    )


@pytest.fixture
def pointer(tenant: Registration) -> ModelPointer:
    return ModelPointer(
        model_uid=str(uuid4()),
        tenant_id=tenant.id,
        namespace="acme",
        model="failures",
        task="RunFailure",
        is_default=True,
        version="v1",
        artifact_uri="file:///m",
        artifact_sha256="a" * 64,
        metrics={"accuracy": 0.9},
        promoted_at=AT,
    )


async def test_a_hook_id_is_32_characters_that_fit_a_path() -> None:
    made = {routes.new_hook_id() for _ in range(50)}
    assert len(made) == 50
    assert all(len(hook) == 32 and hook.replace("-", "").replace("_", "").isalnum() for hook in made)


async def test_a_route_is_written_whole_and_read_by_the_gateway(platform: Connections, route: Route) -> None:
    await routes.upsert_route(platform["runner"], route)
    assert await routes.find_route(platform["gateway"], integration_uid=route.integration_uid) == route
    assert route in await routes.load_routes(platform["gateway"])


async def test_a_route_written_again_replaces_the_old_one_hook_id_included(
    platform: Connections, route: Route
) -> None:
    await routes.upsert_route(platform["runner"], route)
    moved = replace(
        route,
        hook_id=routes.new_hook_id(),
        enabled=False,
        allow_unsigned=False,
        webhook_keys=(2,),
        projects=(),
        secret_key="key-2",
    )
    await routes.upsert_route(platform["runner"], moved)
    assert await routes.find_route(platform["runner"], integration_uid=route.integration_uid) == moved


async def test_a_deleted_route_is_gone_and_may_be_deleted_again(platform: Connections, route: Route) -> None:
    await routes.upsert_route(platform["runner"], route)
    for _ in range(2):
        await routes.delete_route(platform["runner"], integration_uid=route.integration_uid)
    assert await routes.find_route(platform["runner"], integration_uid=route.integration_uid) is None


async def test_triggers_are_replaced_all_at_once(platform: Connections, tenant: Registration) -> None:
    workflow = str(uuid4())
    first = Trigger(
        workflow_uid=workflow,
        position=0,
        tenant_id=tenant.id,
        namespace="acme",
        workflow="heal",
        revision="r1",
        event="pipelinerun.finished",
        condition="event.outcome == 'failure'",
    )
    second = replace(first, position=1, integration="github", condition="")
    await routes.replace_triggers(platform["runner"], workflow_uid=workflow, triggers=[first, second])
    assert await routes.find_triggers(platform["gateway"], workflow_uid=workflow) == [first, second]
    await routes.replace_triggers(
        platform["runner"], workflow_uid=workflow, triggers=[replace(first, revision="r2")]
    )
    assert await routes.find_triggers(platform["gateway"], workflow_uid=workflow) == [
        replace(first, revision="r2")
    ]
    await routes.replace_triggers(platform["runner"], workflow_uid=workflow, triggers=[])
    assert await routes.find_triggers(platform["gateway"], workflow_uid=workflow) == []


async def test_a_model_is_promoted_only_from_the_generation_that_was_seen(
    platform: Connections, pointer: ModelPointer
) -> None:
    runner = platform["runner"]
    assert await routes.promote(runner, pointer, expected=None)
    assert not await routes.promote(runner, pointer, expected=None)
    second = replace(pointer, version="v2", artifact_sha256="b" * 64)
    assert await routes.promote(runner, second, expected=1)
    assert not await routes.promote(runner, replace(pointer, version="v3"), expected=1)
    found = await routes.find_model(platform["gateway"], model_uid=pointer.model_uid)
    assert found == replace(second, generation=2)


async def test_of_many_promotions_at_once_one_wins(
    platform_logins: Mapping[str, str], platform: Connections, pointer: ModelPointer
) -> None:
    async def promote(number: int) -> bool:
        dsn = platform_logins["pipewright_runner"]
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            return await routes.promote(conn, replace(pointer, version=f"v{number}"), expected=1)

    await routes.promote(platform["runner"], pointer, expected=None)
    assert sorted(await asyncio.gather(*(promote(number) for number in range(8)))) == [False] * 7 + [True]


async def test_a_namespace_has_one_default_model_for_a_task(
    platform_logins: Mapping[str, str], pools: Pools, pointer: ModelPointer
) -> None:
    dsn = Secret(platform_logins["pipewright_runner"])
    other = replace(pointer, model_uid=str(uuid4()), model="other")
    async with pools.connection("runner", dsn) as conn:
        await routes.promote(conn, pointer, expected=None)
        await routes.promote(conn, replace(other, is_default=False), expected=None)
    with pytest.raises(errors.Conflict):
        async with pools.connection("runner", dsn) as conn:
            await routes.change_serving(conn, model_uid=other.model_uid, is_default=True, control_share=0.1)
    async with pools.connection("runner", dsn) as conn:
        await routes.change_serving(conn, model_uid=pointer.model_uid, is_default=False, control_share=0)
        await routes.change_serving(conn, model_uid=other.model_uid, is_default=True, control_share=0.1)
        found = await routes.find_model(conn, model_uid=other.model_uid)
        assert found
        assert (found.is_default, found.control_share) == (True, 0.1)
        await routes.delete_model(conn, model_uid=other.model_uid)
        assert await routes.find_model(conn, model_uid=other.model_uid) is None


async def test_a_namespaces_tenant_is_found_by_its_uid(
    platform: Connections, registry: PostgresRegistry, tenant: Registration
) -> None:
    namespace = str(uuid4())
    await registry.bind_namespace(tenant.id, name="acme", uid=namespace, owner=tenant.uid)
    found = await tenants.of_namespace(platform["runner"], uid=namespace)
    assert found
    assert (found.id, found.name, found.namespaces, found.bundle) == (
        tenant.id,
        "acme",
        {"acme": namespace},
        None,
    )
    assert await tenants.of_namespace(platform["runner"], uid=str(uuid4())) is None


async def test_the_gateway_loads_tenants_with_their_bundles_until_they_are_deleted(
    platform: Connections, registry: PostgresRegistry, tenant: Registration
) -> None:
    await registry.store_bundle(
        tenant.id,
        version=1,
        key="k",
        address="db:5432/pw",
        bundle=b"\x00sealed",
        wrapped_data_key="vault:v1:x",
    )
    loaded = {found.id: found for found in await tenants.load(platform["gateway"])}
    assert (loaded[tenant.id].bundle, loaded[tenant.id].bundle_version) == (b"\x00sealed", 1)
    await registry.mark(tenant.id, state="Deleted")
    assert tenant.id not in {found.id for found in await tenants.load(platform["gateway"])}


async def test_a_change_is_heard_by_the_name_of_its_table(
    platform_logins: Mapping[str, str], platform: Connections, registry: PostgresRegistry, route: Route
) -> None:
    heard = changes.changes(Secret(platform_logins["pipewright_gateway"]))
    assert await anext(heard) == "*"
    await routes.upsert_route(platform["runner"], route)
    assert await asyncio.wait_for(anext(heard), 5) == "routes"
    await registry.mark(route.tenant_id, state="Deleting")
    assert await asyncio.wait_for(anext(heard), 5) == "registry"
    await heard.aclose()


async def test_a_quiet_listener_says_to_load_everything_again(platform_logins: Mapping[str, str]) -> None:
    heard = changes.changes(Secret(platform_logins["pipewright_gateway"]), idle_seconds=0.05)
    assert [await anext(heard), await anext(heard)] == ["*", "*"]
    await heard.aclose()


async def test_a_listener_whose_connection_dies_says_so(
    platform_logins: Mapping[str, str], postgres_server
) -> None:
    heard = changes.changes(Secret(f"{platform_logins['pipewright_gateway']}?application_name=doomed"))
    assert await anext(heard) == "*"
    async with await psycopg.AsyncConnection.connect(postgres_server.admin_dsn, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'"
        )
    with pytest.raises(errors.Unreachable):
        await asyncio.wait_for(anext(heard), 5)
