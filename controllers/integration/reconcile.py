"""An Integration from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from controllers.integration import history, objects, plan
from controllers.integration.observe import observe
from pipewright import conditions, runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus, ScopesStatus, SecretRef, WebhookStatus
from pipewright.apply import apply, runner
from pipewright.outcome import Outcome
from pipewright.plan import Results, merge
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
    observed = await observe(integration, ports=ports, gateway_url=gateway_url)
    if not integration.deleting:
        runner_facts.require_active(observed.tenant, namespace=integration.namespace)
    think = plan.plan_teardown if integration.deleting else plan.plan_integration
    wanted, now = think(integration, observed), clock.now()
    if not integration.deleting:
        wanted = merge(wanted, history.plan_history(integration, observed, now=now))
    synced: list[Synced] = []
    results = await apply(
        wanted, partial(runner.perform, ports=ports, gateway_url=gateway_url, synced=synced)
    )
    told = history.told(integration, observed, synced[0] if synced else None, now=now)
    looks = [look for look in (wanted.check_after, told.next_look) if look is not None]
    return Outcome(
        status=status(integration, observed, wanted, results, clock=clock, told=told),
        results=results,
        next_look=min(looks) if looks else None,
        finished=integration.deleting and wanted.is_empty and not wanted.facts,
    )


def status(
    integration: Integration,
    observed: plan.Observed,
    wanted: plan.Plan,
    results: Results,
    *,
    clock: Clock,
    told: history.Told,
) -> IntegrationStatus:
    """What we tell others: a projection of what was seen and what came of the plan."""
    return IntegrationStatus(
        observed_generation=integration.generation,
        conditions=conditions.project(
            integration.status.conditions,
            types=plan.CONDITIONS,
            plan=wanted,
            results=results,
            generation=integration.generation,
            now=clock.now(),
            beside=told.facts,
        ),
        sync=told.status,
        scopes=_scopes(integration, observed),
        webhook=_webhook(integration, observed),
    )


def _scopes(integration: Integration, observed: plan.Observed) -> ScopesStatus | None:
    """What was told now, or last: a CI system that is down says nothing against it."""
    check, last = observed.credentials, integration.status
    if check is None:
        return None
    if check.accepted is None:
        return last.scopes if last.observed_generation == integration.generation else None
    if check.scopes is None:
        return None
    return ScopesStatus(granted=check.scopes.granted, missing=check.scopes.missing)


def _webhook(integration: Integration, observed: plan.Observed) -> WebhookStatus | None:
    route = observed.route
    if route is None or not route.enabled or not integration.spec.webhook.enabled:
        return None
    return WebhookStatus(
        path=runner_facts.hook_path(route.hook_id),
        secret_ref=SecretRef(name=objects.webhook_secret_ref(integration).name),
    )
