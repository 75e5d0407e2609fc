"""Look at the webhooks that are ours at the provider, for the projects whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from connectors.mistakes import ConfigError
from controllers.integration import objects, registration
from controllers.integration.plan import Observed
from pipewright import errors, runner_facts
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import runs
from pipewright.ports import ProviderAccount
from pipewright.runner_facts import ProviderHook, Trouble, WebhookKeys

if TYPE_CHECKING:
    from pipewright.ports import RunnerPorts

Found = tuple[ProviderHook, ...] | Trouble

REFUSED_AGAIN = timedelta(minutes=5)
"""When to look again at what the provider refuses: a person may have to do something there."""
ASK_AGAIN = timedelta(seconds=60)
"""When to ask a provider again that did not answer."""


async def look(
    integration: Integration, seen: Observed, ports: RunnerPorts, *, now: datetime
) -> Mapping[str, Found]:
    """What the provider has of ours, by project; what keeps us from seeing it is a value, too."""
    noted = {note.project: note for note in seen.registered}
    keys = seen.keys if isinstance(seen.keys, WebhookKeys) else None
    ask = registration.asked(keys, seen.hook_url) if keys is not None else ""
    if keys is None and not integration.deleting:
        return {}
    if integration.deleting and registration.is_abandoned(integration):
        return {}
    projects = registration.due(integration, seen.connector, noted, ask=ask, now=now)
    if not projects:
        return {}
    hindrance = _hindrance(integration, seen)
    if hindrance is not None:
        return dict.fromkeys(projects, hindrance)
    ref = objects.credentials_ref(integration)
    try:
        found = await ports.cluster.get(ref) if ref is not None else None
    except errors.BackendError as trouble:
        return dict.fromkeys(projects, _trouble(trouble))
    credentials = runs.fields_of(found) if found is not None else {}
    assert seen.connector is not None
    assert seen.connector.http is not None
    lacking = seen.connector.http.lacking(credentials)
    if lacking:
        message = f"the Secret with the credentials is not there or has no {lacking}"
        missing = Trouble(reason="SecretMissing", message=message, after=REFUSED_AGAIN)
        return dict.fromkeys(projects, missing)
    hook = keys.hook if keys is not None else seen.route.hook_id if seen.route is not None else ""
    assert hook, "a note belongs to a route"
    path = runner_facts.hook_path(hook)

    async def of(project: str) -> Found:
        account = ProviderAccount(
            connector=integration.spec.connector,
            config=integration.spec.config,
            credentials=credentials,
            project=project,
        )
        known = noted[project].id if project in noted else ""
        try:
            return tuple(await ports.actions.find_webhooks(account, path=path, known=known))
        except (errors.Stalled, errors.Waiting, errors.BackendError) as trouble:
            return _trouble(trouble)

    return dict(zip(projects, await asyncio.gather(*map(of, projects)), strict=True))


def _hindrance(integration: Integration, seen: Observed) -> Trouble | None:
    """Why the provider cannot be asked at all."""
    connector, name = seen.connector, integration.spec.connector
    if connector is None:
        return Trouble(
            reason="UnknownConnector", message=f"there is no connector {name}", after=REFUSED_AGAIN
        )
    if not registration.supported(connector):
        message = f"the connector {name} registers no webhooks"
        return Trouble(reason="RegistrationNotSupported", message=message, after=REFUSED_AGAIN)
    try:
        connector.configure(integration.spec.config)
    except ConfigError as refused:
        return Trouble(reason="InvalidConfig", message=f"spec.config: {refused}", after=REFUSED_AGAIN)
    return None


def _trouble(error: errors.Stalled | errors.Waiting | errors.BackendError) -> Trouble:
    if isinstance(error, errors.Waiting):
        return Trouble(reason=error.reason, message=error.message, after=error.after)
    after = REFUSED_AGAIN if isinstance(error, errors.Stalled) else ASK_AGAIN
    return Trouble(reason=error.reason, message=error.message, after=after)
