"""A tenant's database is down: what comes is acknowledged and kept, and arrives when it is back."""

import asyncio

from gateway.parts import Limits

FAILED = {"conclusion": "failure"}


async def stored(tenant):
    return await tenant.rows("SELECT delivery_id, outcome FROM pipewright.deliveries ORDER BY received_at")


async def test_what_comes_meanwhile_is_kept_and_stored_once_when_it_is_back(
    world, proxied, github, kept, eventually
):
    tenant = await world.tenant(port=proxied.port)
    hook = await world.hook(tenant)
    await world.trigger(tenant, condition="event.outcome == 'failure'")
    assert (await world.deliver(hook, "workflow_run", github("requested"), id="d-1")).status == 202
    await proxied.down()
    answer = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-2")
    assert (answer.status, answer.body) == (202, {"accepted": True, "parked": True})
    again = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-2")
    assert (again.status, again.body) == (200, {"duplicate": True})
    assert (await world.deliver(hook, "ping", {"zen": "x"}, id="d-3")).body["parked"] is True
    assert await kept(tenant) == ["d-2", "d-3"]
    assert await world.parts.replayer.look() is True

    await proxied.up()

    async def empty():
        await world.parts.replayer.look()
        return not await kept(tenant)

    await eventually(empty)
    assert await stored(tenant) == [("d-1", "stored"), ("d-2", "stored"), ("d-3", "ignored")]
    assert await tenant.rows("SELECT outcome FROM pipewright.runs") == [("failure",)]
    assert await tenant.rows("SELECT fired FROM pipewright.decisions WHERE delivery_id = 'd-2'") == [(True,)]
    late = await world.deliver(hook, "workflow_run", github("completed", **FAILED), id="d-2")
    assert (late.status, late.body) == (200, {"duplicate": True})


async def test_many_that_come_at_once_are_all_kept_and_another_tenant_is_served(
    world, tenant, hook, proxied, github, kept
):
    away = await world.tenant(port=proxied.port)
    theirs = await world.hook(away)
    await proxied.down()
    answers = await asyncio.gather(
        *(
            world.deliver(theirs, "workflow_run", github("requested", run=run), id=f"d-{run}")
            for run in range(20)
        ),
        world.deliver(hook, "workflow_run", github("requested")),
    )
    assert [answer.status for answer in answers] == [202] * 21
    assert "parked" not in answers[-1].body
    assert len(await kept(away)) == 20


async def test_without_room_it_is_503_and_good_again_later(serve, proxied, github, kept, eventually):
    async with serve(limits=Limits(tenant_parked=1)) as small:
        tenant = await small.tenant(port=proxied.port)
        hook = await small.hook(tenant)
        await proxied.down()
        answers = [await small.deliver(hook, "workflow_run", github("requested", run=run)) for run in (1, 2)]
        assert [answer.status for answer in answers] == [202, 503]
        assert answers[1].body["reason"] == "SpoolFull"
        assert "127.0.0.1" not in answers[1].body["detail"]
        await proxied.up()

        async def taken():
            await small.parts.replayer.look()
            answer = await small.deliver(hook, "workflow_run", github("requested", run=2))
            return answer.status == 202

        await eventually(taken)
