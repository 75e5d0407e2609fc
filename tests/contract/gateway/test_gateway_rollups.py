"""The gateway keeps rollups current by itself: after deliveries, after a crash, beside another replica."""

from dataclasses import replace

from gateway import parts
from pipewright.store import rollups

SOON = parts.Limits(rollup_pause=0.05)
TREND = "SELECT sum(finished)::int, sum(failed)::int FROM history.failure_trend"


async def test_what_a_delivery_told_is_in_the_reports_soon(serve, github, eventually):
    async with serve(limits=SOON) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        for run, conclusion in ((1, "failure"), (2, "success")):
            answer = await world.deliver(
                hook, "workflow_run", github("completed", run=run, conclusion=conclusion)
            )
            assert answer.status == 202

        async def rolled_up():
            return await tenant.rows(TREND) == [(2, 1)]

        await eventually(rolled_up)
        assert await tenant.rows("SELECT count(*) FROM pipewright.changes") == [(0,)]
        assert "pipewright_gateway_rollup_changes_total" in world.parts.metrics.render().decode()


async def test_what_a_gateway_left_behind_is_taken_by_the_next(serve, github, eventually):
    async with serve(limits=replace(SOON, rollup_pause=3600.0)) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))
        assert await tenant.rows(TREND) == [(None, None)]
    async with serve(limits=SOON):

        async def rolled_up():
            return await tenant.rows(TREND) == [(1, 1)]

        await eventually(rolled_up)


async def test_a_refresh_by_somebody_else_is_waited_for(serve, github, eventually):
    async with serve(limits=SOON) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        async with tenant.connect() as other:
            async with other.transaction():
                assert await rollups.refresh(other) == 0
                await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))
                assert await world.parts.rollups.refresh(tenant.id) == 0
                assert await tenant.rows(TREND) == [(None, None)]

            async def rolled_up():
                return await tenant.rows(TREND) == [(1, 1)]

            await eventually(rolled_up)
