"""Outboxes that cannot be read: a tenant that is gone is left alone, others are looked at ever later."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway import problems
from gateway.dispatch import Dispatcher
from gateway.metrics import Metrics
from pipewright import errors
from pipewright.ports import SystemClock


class Broken:
    """Outboxes of one tenant, each look at which fails."""

    def __init__(self, error):
        self.error, self.looks, self.stopped = error, 0, False

    def tenants(self):
        return [] if self.stopped else ["t"]

    def suspended(self, _tenant_id):
        return self.stopped

    def bound(self, _tenant_id, _namespace):
        return True

    @asynccontextmanager
    async def transaction(self, _tenant_id):
        self.looks += 1
        raise self.error
        yield


def dispatcher(outboxes, now):
    return Dispatcher(
        outboxes=outboxes, cluster=None, clock=SystemClock(), metrics=Metrics(), sweep=1.0, monotonic=now
    )


async def test_a_tenant_that_is_gone_is_not_looked_at_again_until_it_is_met():
    outboxes = Broken(problems.not_found("gone"))
    made = dispatcher(outboxes, lambda: 0.0)
    made.meet()
    made._start_what_is_due()
    await asyncio.gather(*made._busy.values())
    assert (made._due, outboxes.looks) == ({}, 1)
    made.meet()
    assert list(made._due) == ["t"]


@pytest.mark.parametrize("error", [errors.Unreachable("db"), problems.unavailable("R", "d"), OSError()])
async def test_the_pause_grows_with_every_failure(error):
    now, pauses = 0.0, []
    made = dispatcher(Broken(error), lambda: now)
    made.wake("t")
    for _ in range(8):
        made._start_what_is_due()
        await asyncio.gather(*made._busy.values())
        pauses.append(made._due["t"] - now)
        now = made._due["t"]
    assert 1 <= pauses[0] <= 3
    assert 128 <= pauses[-1] <= 300 + 1e-6  # what a difference of floats leaves


async def test_a_suspended_tenants_outbox_is_left_alone_and_looked_at_when_it_is_resumed():
    outboxes = Broken(errors.Unreachable("db"))
    made = dispatcher(outboxes, lambda: 0.0)
    made.meet()
    outboxes.stopped = True
    made._start_what_is_due()
    await asyncio.gather(*made._busy.values())
    assert (made._due, outboxes.looks) == ({}, 0)
    made.meet()
    assert not made._due
    outboxes.stopped = False
    made.meet()
    assert list(made._due) == ["t"]
