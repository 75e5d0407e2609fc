"""An Integration from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from controllers.integration import gaps, history, plan, registration, rotation
from controllers.integration.observe import observe
from controllers.integration.status import status
from pipewright import runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus
from pipewright.apply import apply, runner
from pipewright.outcome import Outcome
from pipewright.plan import merge
from pipewright.runner_facts import Synced

if TYPE_CHECKING:
    from pipewright.ports import Clock, RunnerPorts


async def reconcile(
    integration: Integration, *, ports: RunnerPorts, clock: Clock, gateway_url: str
) -> Outcome[IntegrationStatus]:
    """One pass. `gateway_url` is the gateway's address as providers reach it.

    Raises:
        Waiting: the namespace has no active tenant.
        Unreachable: the API server or the platform database did not answer; nothing was done.
    """
    now = clock.now()
    observed = await observe(integration, ports=ports, gateway_url=gateway_url, now=now)
    if not integration.deleting:
        runner_facts.require_active(observed.tenant, namespace=integration.namespace)
    if integration.deleting:
        # the route goes last, and knows what is registered: the provider's part comes before
        wanted = registration.plan_removal(integration, observed, now=now)
        if not registration.is_anywhere(observed):
            wanted = plan.plan_teardown(integration, observed)
    else:
        wanted = merge(
            plan.plan_integration(integration, observed),
            registration.plan_registration(integration, observed, now=now),
            gaps.plan_gaps(integration, observed, now=now),
            rotation.plan_rotation(integration, observed, now=now),
            history.plan_history(integration, observed, now=now),
        )
    synced: list[Synced] = []
    results = await apply(
        wanted, partial(runner.perform, ports=ports, gateway_url=gateway_url, synced=synced)
    )
    told = history.told(integration, observed, synced[0] if synced else None, now=now)
    finished = integration.deleting and wanted.is_empty and not wanted.facts and wanted.check_after is None
    if ports.gaps is not None and finished:
        ports.gaps.forget(integration.uid)
    elif ports.gaps is not None:
        ports.gaps.saw(integration.uid, missed=sum(note.missed for note in observed.registered))
    looks = [look for look in (wanted.check_after, told.next_look) if look is not None]
    return Outcome(
        status=status(integration, observed, wanted, results, now=clock.now(), told=told),
        results=results,
        next_look=min(looks) if looks else None,
        finished=finished,
    )
