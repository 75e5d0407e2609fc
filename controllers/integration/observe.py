"""Look once at what belongs to an Integration. Absent is a value, and so is a server that is down.

Secret values are seen here only to be compared, or shown to the provider; handed on is how that went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from connectors.mistakes import ConfigError
from controllers.integration import hooks, objects
from controllers.integration.plan import Observed, Projection, Unknown, is_published
from pipewright import errors, runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import integrations, runs, webhook_keys
from pipewright.runner_facts import CredentialCheck, Route, TenantRef, WebhookKeys

if TYPE_CHECKING:
    from pipewright.ports import RunnerPorts, Secret

T = TypeVar("T")


async def observe(
    integration: Integration, *, ports: RunnerPorts, gateway_url: str, now: datetime
) -> Observed:
    """Read every port that the plan needs. Kubernetes and the platform database must answer."""
    tenant, route, noted = await asyncio.gather(
        ports.directory.find(namespace=integration.namespace),
        ports.routes.find(integration_uid=integration.uid),
        ports.routes.registrations(integration_uid=integration.uid),
    )
    home = _home(tenant, route)
    seen = Observed(
        tenant=tenant,
        route=route,
        registered=tuple(noted),
        connector=ports.actions.connectors.get(integration.spec.connector),
        known=tuple(sorted(ports.actions.connectors)),
        broken=ports.actions.broken.get(integration.spec.connector, ""),
        gateway_key=ports.sealer.key,
    )
    if home is None:
        return seen
    kept = await _or_unknown(webhook_keys.kept(runner_facts.webhook_path(home, integration.uid), ports))
    keys, fields = (kept, None) if kept is None or isinstance(kept, Unknown) else kept
    if isinstance(keys, WebhookKeys):
        seen = replace(seen, keys=keys, hook_url=webhook_keys.url(keys.hook, gateway_url=gateway_url))
    else:
        seen = replace(seen, keys=keys)
    if integration.deleting:
        return replace(seen, hooks=await hooks.look(integration, seen, ports, now=now))
    if tenant is None or tenant.state != runner_facts.ACTIVE:
        return seen
    projection, credentials = await asyncio.gather(
        _projection(integration, fields, ports, gateway_url=gateway_url),
        _check(integration, ports),
    )
    seen = replace(seen, projection=projection, credentials=credentials)
    if credentials is None or not credentials.accepted or not is_published(integration, seen):
        return seen
    return replace(seen, hooks=await hooks.look(integration, seen, ports, now=now))


def _home(tenant: TenantRef | None, route: Route | None) -> str | None:
    """Below which tenant's id the webhook secret lies: a route remembers it when the tenant is gone."""
    if tenant is not None:
        return tenant.id
    return route.tenant_id if route is not None else None


async def _projection(
    integration: Integration,
    fields: Mapping[str, Secret] | None,
    ports: RunnerPorts,
    *,
    gateway_url: str,
) -> Projection | None:
    found = await ports.cluster.get(objects.webhook_secret_ref(integration))
    if found is None:
        return None
    current = False
    if fields is not None:
        wanted = integrations.projection(fields["hook"].reveal(), fields["secret"], gateway_url=gateway_url)
        held = runs.fields_of(found)
        current = all(held.get(name) == value for name, value in wanted.items())
    return Projection(ours=objects.belongs_to(integration, found), current=current)


async def _check(integration: Integration, ports: RunnerPorts) -> CredentialCheck | None:
    """What the provider says to the credentials; None where it cannot be asked."""
    spec, connector = integration.spec, ports.actions.connectors.get(integration.spec.connector)
    if connector is None or not _acceptable(integration, ports):
        return None
    if connector.http is None:
        return CredentialCheck(
            accepted=True,
            reason="NotNeeded",
            message=f"{connector.name} calls nobody: no credentials are needed",
        )
    needed = connector.http.lacking(())
    if not needed:
        return await ports.actions.check(connector=spec.connector, config=spec.config, credentials={})
    ref = objects.credentials_ref(integration)
    if ref is None:
        message = f"spec.credentials: {connector.name} needs a Secret with {needed}: name it in secretRef"
        return CredentialCheck(accepted=False, reason="SecretMissing", message=message)
    found = await ports.cluster.get(ref)
    fields: dict[str, Secret] = runs.fields_of(found) if found is not None else {}
    lacking = connector.http.lacking(fields)
    if lacking:
        message = f"the Secret {ref.name} is not there or has no {lacking}: create it with what is missing"
        return CredentialCheck(accepted=False, reason="SecretMissing", message=message)
    return await ports.actions.check(connector=spec.connector, config=spec.config, credentials=fields)


def _acceptable(integration: Integration, ports: RunnerPorts) -> bool:
    try:
        ports.actions.connectors[integration.spec.connector].configure(integration.spec.config)
    except ConfigError:
        return False
    return True


async def _or_unknown(read: Awaitable[T]) -> T | Unknown:
    try:
        return await read
    except errors.BackendError as trouble:
        return Unknown(reason=trouble.reason, message=trouble.message)
