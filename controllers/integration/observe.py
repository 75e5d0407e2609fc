"""Look once at what belongs to an Integration. Absent is a value, and so is a server that is down.

Secret values are seen here only to be compared, or shown to the provider; handed on is how that went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, TypeVar

from connectors.mistakes import ConfigError
from controllers.integration import objects
from controllers.integration.plan import Observed, Projection, Unknown
from pipewright import errors, runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import integrations, runs
from pipewright.runner_facts import CredentialCheck, Route, TenantRef

if TYPE_CHECKING:
    from pipewright.ports import RunnerPorts, Secret

T = TypeVar("T")


async def observe(integration: Integration, *, ports: RunnerPorts, gateway_url: str) -> Observed:
    """Read every port that the plan needs. Kubernetes and the platform database must answer."""
    tenant, route = await asyncio.gather(
        ports.directory.find(namespace=integration.namespace),
        ports.routes.find(integration_uid=integration.uid),
    )
    home = _home(tenant, route)
    if home is None:
        return _seen(integration, ports, tenant=tenant, route=route)
    issued = await _or_unknown(ports.secrets.read(runner_facts.webhook_path(home, integration.uid)))
    hook = issued["hook"].reveal() if issued and not isinstance(issued, Unknown) else None
    if integration.deleting or tenant is None or tenant.state != runner_facts.ACTIVE:
        version = issued if isinstance(issued, Unknown) else hook
        return _seen(integration, ports, tenant=tenant, route=route, hook=version)
    projection, credentials = await asyncio.gather(
        _projection(integration, issued, ports, gateway_url=gateway_url),
        _check(integration, ports),
    )
    return _seen(
        integration,
        ports,
        tenant=tenant,
        route=route,
        hook=issued if isinstance(issued, Unknown) else hook,
        projection=projection,
        credentials=credentials,
    )


def _home(tenant: TenantRef | None, route: Route | None) -> str | None:
    """Below which tenant's id the webhook secret lies: a route remembers it when the tenant is gone."""
    if tenant is not None:
        return tenant.id
    return route.tenant_id if route is not None else None


def _seen(
    integration: Integration,
    ports: RunnerPorts,
    *,
    tenant: TenantRef | None,
    route: Route | None,
    hook: str | Unknown | None = None,
    projection: Projection | None = None,
    credentials: CredentialCheck | None = None,
) -> Observed:
    return Observed(
        tenant=tenant,
        route=route,
        hook=hook,
        projection=projection,
        credentials=credentials,
        connector=ports.actions.connectors.get(integration.spec.connector),
        known=tuple(sorted(ports.actions.connectors)),
        broken=ports.actions.broken.get(integration.spec.connector, ""),
        gateway_key=ports.sealer.key,
    )


async def _projection(
    integration: Integration,
    issued: Mapping[str, Secret] | Unknown | None,
    ports: RunnerPorts,
    *,
    gateway_url: str,
) -> Projection | None:
    found = await ports.cluster.get(objects.webhook_secret_ref(integration))
    if found is None:
        return None
    current = False
    if isinstance(issued, Mapping):
        wanted = integrations.projection(issued["hook"].reveal(), issued["secret"], gateway_url=gateway_url)
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
