"""What the gateway knows without asking: announced changes, an absent database, mistaken bindings."""

import asyncio

import psycopg
import pytest

from gateway.problems import Problem


def through(dsn: str, proxy) -> str:
    return psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


async def test_a_new_route_is_served_because_it_was_announced(world, tenant, github, eventually):
    hook = await world.hook(tenant)  # loads by hand
    await world.runner.execute(
        "UPDATE pipewright.routes SET enabled = false WHERE integration_uid = %s", [hook.uid]
    )

    async def gone():
        return (await world.deliver(hook, "workflow_run", github("requested"))).status == 404

    await eventually(gone, within=2)


async def test_until_the_first_load_everything_is_503_and_never_404_and_afterwards_it_is(
    serve, platform_logins, proxied, eventually
):
    await proxied.down()
    dsn = through(platform_logins["pipewright_gateway"], proxied)
    async with serve(platform_dsn=dsn, load=False) as world:
        for path in ("/hooks/unknown", "/v1/namespaces/acme/integrations/github/history"):
            answer = await world.rest("POST", path, data=b"{}")
            assert (answer.status, answer.body["reason"]) == (503, "Starting")
            assert answer.headers["Retry-After"] == "2"
        assert (await world.ask("GET", "/healthz")).status == 200
        assert (await world.ask("GET", "/readyz")).status == 503
        await proxied.up()

        async def ready():
            return (await world.ask("GET", "/readyz")).status == 200

        await eventually(ready, within=20)
        assert (await world.ask("POST", "/hooks/unknown", data=b"{}")).status == 404


async def test_the_last_known_state_serves_while_the_platform_database_is_down(
    serve, platform_logins, proxied, github
):
    dsn = through(platform_logins["pipewright_gateway"], proxied)
    async with serve(platform_dsn=dsn) as world:
        hook = await world.hook(await world.tenant())
        await proxied.down()
        assert (await world.deliver(hook, "workflow_run", github("requested"))).status == 202
        await proxied.up()


async def test_a_namespace_bound_to_two_active_tenants_is_nobodys(world):
    one, other = await world.tenant(), await world.tenant()
    await world.bind(other.id, one.namespace)
    await world.parts.directory.load()
    with pytest.raises(Problem) as refused:
        world.parts.directory.view.tenant_of(one.namespace)
    assert refused.value.status == 404
    assert world.parts.directory.view.tenant_of(other.namespace).id == other.id


async def test_two_loads_at_once_leave_the_newer_state(world, tenant):
    hooks = [await world.hook(tenant, name=f"i{n}") for n in range(3)]
    await asyncio.gather(*(world.parts.directory.load() for _ in range(5)))
    assert {hook.id for hook in hooks} <= set(world.parts.directory.view.routes)


async def test_a_webhook_whose_namespace_passed_to_another_tenant_is_404(world, github):
    one, other = await world.tenant(), await world.tenant()
    hook = await world.hook(one)
    await world.provisioner.execute(
        "DELETE FROM pipewright.registry_namespaces WHERE tenant_id = %s", [one.id]
    )
    await world.bind(other.id, one.namespace)
    await world.parts.directory.load()
    assert (await world.deliver(hook, "workflow_run", github("requested"))).status == 404
