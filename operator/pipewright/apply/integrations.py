"""What is done for an Integration, and the only place where webhook secrets are generated.

The secret and the random part of the hook's path are one value in Vault, written once by check-and-set: the
route's row and the Secret in the namespace derive from it, so a lost row comes back under the same path.
"""

from __future__ import annotations

import base64
import json
import secrets
from datetime import timedelta
from typing import assert_never

from pipewright import errors, runner_facts
from pipewright.actions import integration
from pipewright.actions.integration import IntegrationAction
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import runs
from pipewright.plan import Ref
from pipewright.ports import RunnerPorts, Secret
from pipewright.runner_facts import Route, Synced, Trouble

SECRET_BYTES = 32
"""Entropy of a webhook secret; it is written in hexadecimal."""
HOOK_BYTES = 24
"""Entropy of a hook's path; 32 characters of base64url."""


async def perform(action: IntegrationAction, *, ports: RunnerPorts, gateway_url: str) -> None:
    """Do one action."""
    match action:
        case integration.IssueWebhookSecret():
            await _issue(action, ports)
        case integration.ProjectWebhookSecret():
            await _project(action, ports, gateway_url=gateway_url)
        case integration.PublishRoute():
            await _publish(action, ports)
        case integration.WithdrawRoute():
            await ports.routes.withdraw(integration_uid=action.integration_uid)
        case integration.DeleteWebhookSecret():
            await ports.secrets.delete(runner_facts.webhook_path(action.tenant_id, action.integration_uid))
        case _:
            assert_never(action)


async def read_history(action: integration.ReadHistory, ports: RunnerPorts) -> Synced:
    """Read a part and have it stored; the cursor moves only when it is. Never raises for the two servers."""
    found = None
    if action.secret is not None:
        ref = Ref(api_version="v1", kind="Secret", namespace=action.namespace, name=action.secret)
        found = await ports.cluster.get(ref)
    part = await ports.actions.read_history(
        connector=action.connector,
        config=action.config,
        credentials=runs.fields_of(found) if found is not None else {},
        project=action.project,
        since=action.since,
        until=action.until,
        cursor=action.cursor,
    )
    try:
        await ports.imports.send(
            namespace=action.namespace, integration=action.integration, records=part.records
        )
    except errors.Waiting as later:
        return _stopped(action, later.reason, later.message, later.after)
    except (errors.Stalled, errors.BackendError) as trouble:
        return _stopped(action, trouble.reason, trouble.message, runner_facts.HISTORY_AGAIN)
    return Synced(cursor=part.cursor, trouble=part.trouble, left_out=part.left_out)


def _stopped(action: integration.ReadHistory, reason: str, message: str, after: timedelta) -> Synced:
    return Synced(cursor=action.cursor, trouble=Trouble(reason=reason, message=message, after=after))


def projection(hook: str, secret: Secret, *, gateway_url: str) -> dict[str, Secret]:
    """The fields of the Secret in the namespace: what a person enters at the provider."""
    path = runner_facts.hook_path(hook)
    return {"secret": secret, "path": Secret(path), "url": Secret(gateway_url.rstrip("/") + path)}


async def _issue(action: integration.IssueWebhookSecret, ports: RunnerPorts) -> None:
    fields = {
        "secret": Secret(secrets.token_hex(SECRET_BYTES)),
        "hook": Secret(secrets.token_urlsafe(HOOK_BYTES)),
    }
    # False means that an earlier pass wrote them: theirs count, ours are forgotten
    await ports.secrets.create(
        runner_facts.webhook_path(action.tenant_id, action.integration_uid), fields, owner=action.tenant_uid
    )


async def _read(tenant_id: str, integration_uid: str, ports: RunnerPorts) -> tuple[str, Secret]:
    path = runner_facts.webhook_path(tenant_id, integration_uid)
    found = await ports.secrets.read(path)
    if found is None:
        raise errors.Waiting("WebhookSecretMissing", f"no webhook secret is at {path} yet")
    return found["hook"].reveal(), found["secret"]


async def _project(action: integration.ProjectWebhookSecret, ports: RunnerPorts, *, gateway_url: str) -> None:
    hook, secret = await _read(action.tenant_id, action.integration_uid, ports)
    owner = {
        "apiVersion": Integration.api_version,
        "kind": Integration.kind,
        "name": action.integration,
        "uid": action.integration_uid,
    }
    fields = projection(hook, secret, gateway_url=gateway_url)
    await ports.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": runner_facts.webhook_secret(action.integration),
                "namespace": action.namespace,
                "labels": {runner_facts.INTEGRATION_LABEL: action.integration},
                "ownerReferences": [owner],
            },
            "type": "Opaque",
            "data": {
                name: base64.b64encode(value.reveal().encode()).decode() for name, value in fields.items()
            },
        }
    )


async def _publish(action: integration.PublishRoute, ports: RunnerPorts) -> None:
    hook, secret = await _read(action.tenant_id, action.integration_uid, ports)
    plaintext = json.dumps({"secrets": [secret.reveal()]}).encode()
    route = Route(
        hook_id=hook,
        tenant_id=action.tenant_id,
        namespace=action.namespace,
        integration=action.integration,
        integration_uid=action.integration_uid,
        connector=action.connector,
        projects=action.projects,
        config=action.config,
        enabled=action.enabled,
        allow_unsigned=action.allow_unsigned,
        sealed_to=ports.sealer.key,
    )
    sealed = ports.sealer.seal(plaintext, context=runner_facts.route_context(hook))
    await ports.routes.publish(route, sealed_secret=sealed)
