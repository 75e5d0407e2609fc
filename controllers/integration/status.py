"""What an Integration's status tells: a projection of what was seen and what came of the plan. Pure."""

from __future__ import annotations

from datetime import datetime

from controllers.integration import gaps, history, objects, plan, rotation
from pipewright import conditions, runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.api.v1alpha1.integration import IntegrationStatus, ScopesStatus, SecretRef, WebhookStatus
from pipewright.plan import Results
from pipewright.runner_facts import WebhookKeys


def status(
    integration: Integration,
    observed: plan.Observed,
    wanted: plan.Plan,
    results: Results,
    *,
    now: datetime,
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
            now=now,
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
    route, keys, last = observed.route, observed.keys, integration.status.webhook
    if route is None or not route.enabled or not integration.spec.webhook.enabled:
        return None
    found = WebhookStatus(
        path=runner_facts.hook_path(route.hook_id),
        secret_ref=SecretRef(name=objects.webhook_secret_ref(integration).name),
        missed=gaps.told(observed),
    )
    if isinstance(keys, WebhookKeys):
        told = {
            "keys": rotation.told(integration, keys),
            "rotated_at": keys.issued_at if keys.number > 1 else None,
            "next_rotation_at": None if keys.rotating else rotation.next_rotation(integration, keys),
        }
    elif last is not None:  # who keeps the secrets does not answer
        told = {name: getattr(last, name) for name in ("keys", "rotated_at", "next_rotation_at")}
    else:
        told = {}
    return found.model_copy(update=told)
