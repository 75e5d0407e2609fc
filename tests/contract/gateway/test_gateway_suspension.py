"""A suspended tenant at the gateway: deliveries are verified and kept, and stored once when it is resumed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from gateway.parts import Limits
from pipewright.store import spool
from tests.contract.gateway.conftest import gone

FAILED = {"conclusion": "failure"}


def value(world, name, **labels):
    return world.parts.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_it_is_kept_encrypted_and_stored_when_the_tenant_is_resumed_as_if_it_had_come_then(
    world, tenant, hook, github, state, kept, eventually
):
    await world.trigger(tenant, condition="event.outcome == 'failure'")
    await state(tenant, "Suspended")
    answer = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-1")
    assert (answer.status, answer.body) == (202, {"accepted": True, "parked": True})
    again = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-1")
    assert (again.status, again.body) == (200, {"duplicate": True})
    assert await kept(tenant) == ["d-1"]
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]
    async with world.parts.hooks.spool.transaction() as conn:
        [(sealed, received)] = await (
            await conn.execute(
                "SELECT sealed, received_at FROM pipewright.spool WHERE tenant_id = %s", [tenant.id]
            )
        ).fetchall()
    assert b"octocat" not in bytes(sealed)
    assert b"x-hub-signature" not in bytes(sealed)

    await state(tenant, "Active")
    await eventually(lambda: tenant.rows("SELECT 1 FROM pipewright.runs WHERE outcome = 'failure'"))
    [(delivery, at)] = await tenant.rows("SELECT delivery_id, received_at FROM pipewright.deliveries")
    assert (delivery, at) == ("d-1", received)
    assert await tenant.rows("SELECT fired FROM pipewright.decisions") == [(True,)]
    await eventually(lambda: created(world, tenant))
    await eventually(lambda: gone(kept, tenant))
    late = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-1")
    assert (late.status, late.body) == (200, {"duplicate": True})


async def created(world, tenant):
    return [name for namespace, name in world.cluster.created if namespace == tenant.namespace]


async def test_a_signature_is_asked_of_it_all_the_same(world, tenant, hook, github, state, kept):
    await state(tenant, "Suspended")
    wrong = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    answer = await world.deliver(hook, "workflow_run", github("requested"), headers=wrong)
    assert (answer.status, answer.body["reason"]) == (401, "SignatureRefused")
    garbage = await world.deliver(hook, "workflow_run", None, body=b"{")
    assert (garbage.status, await kept(tenant)) == (400, [])


async def test_what_says_nothing_is_answered_as_always_and_not_kept(world, tenant, hook, state, kept):
    await state(tenant, "Suspended")
    answer = await world.deliver(hook, "ping", {"zen": "x"})
    assert (answer.status, answer.body) == (202, {"ignored": "events of the kind ping are not used"})
    assert await kept(tenant) == []


async def test_a_delivery_that_was_stored_before_the_suspension_stays_once(
    world, tenant, hook, github, state, kept, eventually
):
    await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-1")
    await state(tenant, "Suspended")
    assert (await world.deliver(hook, "workflow_run", github("completed"), id="d-1")).status == 202
    await state(tenant, "Active")
    await eventually(lambda: gone(kept, tenant))
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]
    assert await tenant.rows("SELECT outcome FROM pipewright.runs") == [("failure",)]


async def test_a_full_spool_is_503_and_says_why(serve, github, state, eventually):
    async with serve(limits=Limits(tenant_parked=2)) as small:
        tenant = await small.tenant(state="Suspended")
        hook = await small.hook(tenant)
        answers = [
            await small.deliver(hook, "workflow_run", github("requested", run=run)) for run in (1, 2, 3)
        ]
        assert [answer.status for answer in answers] == [202, 202, 503]
        assert answers[2].body["reason"] == "SpoolFull"
        assert int(answers[2].headers["Retry-After"]) >= 60
        await state(tenant, "Active", where=small)
        await eventually(lambda: tenant.rows("SELECT 1 FROM pipewright.runs WHERE provider_id = '2'"))
        assert (await small.deliver(hook, "workflow_run", github("requested", run=3))).status == 202


async def test_two_gateways_and_one_that_dies_store_each_delivery_once_and_in_order(
    world, serve, tenant, hook, github, state, kept, eventually
):
    await state(tenant, "Suspended")
    for run in range(12):
        answer = await world.deliver(
            hook, "workflow_run", github("completed", run=run, **FAILED), id=f"d-{run}"
        )
        assert answer.status == 202
    # one that stored the first and died before it could say so
    parts = world.parts
    route = parts.directory.view.routes[hook.id]
    await state(tenant, "Active")
    async with parts.hooks.spool.transaction() as conn:
        found = await spool.claim(conn, tenant.id)
        if isinstance(found, spool.Parked):
            await parts.hooks.replay(route, found)
    async with serve() as second:
        await second.parts.replayer.look()
        await eventually(lambda: gone(kept, tenant))
    stored = await tenant.rows("SELECT delivery_id FROM pipewright.deliveries ORDER BY received_at")
    assert stored == [(f"d-{run}",) for run in range(12)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(12,)]


async def test_while_the_tenants_database_is_down_nothing_leaves_the_spool(
    world, github, state, kept, proxied, eventually
):
    tenant = await world.tenant(port=proxied.port)
    hook = await world.hook(tenant)
    await state(tenant, "Suspended")
    await proxied.down()
    assert (await world.deliver(hook, "workflow_run", github("requested"), id="d-1")).status == 202
    await state(tenant, "Active")
    assert await world.parts.replayer.look() is True
    assert await kept(tenant) == ["d-1"]
    await proxied.up()
    await world.parts.replayer.look()
    await eventually(lambda: tenant.rows("SELECT 1 FROM pipewright.runs"))
    await eventually(lambda: gone(kept, tenant))


async def test_one_that_does_not_open_lets_the_others_pass(
    world, tenant, hook, github, state, kept, eventually
):
    await state(tenant, "Suspended")
    broken = spool.Parked(
        tenant_id=tenant.id, integration=hook.uid, delivery_id="broken",
        received_at=datetime.now(UTC) - timedelta(hours=2), sealed=b"\x01garbage",
    )  # fmt: skip
    await world.parts.hooks.spool.park(broken)
    await world.deliver(hook, "workflow_run", github("requested"), id="d-1")
    await state(tenant, "Active")
    await eventually(lambda: tenant.rows("SELECT 1 FROM pipewright.deliveries WHERE delivery_id = 'd-1'"))
    await eventually(lambda: gone(kept, tenant, but=["broken"]))
    assert value(world, "pipewright_gateway_replayed_total", outcome="failed") >= 1
    await world.parts.replayer.look()
    assert value(world, "pipewright_gateway_spool_deliveries") >= 1
    assert value(world, "pipewright_gateway_spool_oldest_seconds") >= 7000


async def test_of_an_integration_that_is_gone_nothing_is_stored(world, tenant, state, kept, eventually):
    await state(tenant, "Suspended")
    orphan = spool.Parked(
        tenant_id=tenant.id, integration=str(uuid4()), delivery_id="d-1",
        received_at=datetime.now(UTC), sealed=b"\x01",
    )  # fmt: skip
    await world.parts.hooks.spool.park(orphan)
    await state(tenant, "Active")
    await eventually(lambda: gone(kept, tenant))
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


async def test_a_gateway_that_has_not_heard_of_the_integration_yet_drops_nothing(
    world, tenant, hook, github, state, eventually
):
    await state(tenant, "Suspended")
    await world.deliver(hook, "workflow_run", github("requested"), id="d-1")
    parts = world.parts
    parts.replayer._view = lambda: replace(parts.directory.view, routes={})
    await state(tenant, "Active")
    await eventually(lambda: tenant.rows("SELECT 1 FROM pipewright.deliveries WHERE delivery_id = 'd-1'"))


async def test_what_it_has_can_be_read_and_nothing_is_added(world, tenant, hook, github, state):
    await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-1")
    await state(tenant, "Suspended")
    place = f"/v1/namespaces/{tenant.namespace}"
    read = await world.rest("GET", f"{place}/integrations/github/deliveries")
    assert (read.status, [item["id"] for item in read.body["items"]]) == (200, ["d-1"])
    run = {"project": "acme/shop", "pipeline": "ci", "run": "9", "trigger": "push", "branch": "main"}
    refused = [
        await world.rest("POST", f"{place}/integrations/github/history", data=b""),
        await world.rest("POST", f"{place}/models/run-failure/predictions", json=run),
    ]
    assert [(it.status, it.body["reason"]) for it in refused] == [(409, "TenantSuspended")] * 2
    assert refused[0].headers["Content-Type"] == "application/problem+json"


async def test_a_decision_of_before_becomes_a_run_only_after_the_resume(
    world, tenant, hook, github, state, eventually
):
    await world.trigger(tenant, condition="event.outcome == 'failure'")
    world.cluster.up = False
    try:
        await world.deliver(hook, "workflow_run", github("completed", **FAILED))
        await state(tenant, "Suspended")
    finally:
        world.cluster.up = True
    world.parts.dispatcher.wake(tenant.id)
    await eventually(lambda: looked_away(world, tenant))
    assert await created(world, tenant) == []
    await state(tenant, "Active")
    await tenant.rows("UPDATE pipewright.outbox SET due_at = now() RETURNING id")
    world.parts.dispatcher.wake(tenant.id)
    await eventually(lambda: created(world, tenant))


async def looked_away(world, tenant):
    dispatcher = world.parts.dispatcher
    return tenant.id not in dispatcher._met and tenant.id not in dispatcher._due
