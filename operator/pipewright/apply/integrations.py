"""What is done for an Integration, and the only place where webhook secrets are generated.

The secret and the random part of the hook's path are one value in Vault, written by check-and-set: the
route's row and the Secret in the namespace derive from it, so a lost row comes back under the same path.
While the secret is rotated the old one stands beside it:

    hook, secret, number, issuedAt                          one is good
    hook, secret, number, issuedAt, previous                both are; the new one is on its way
    hook, secret, number, issuedAt, previous, overlapSince  both are; the old one's time runs
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from pipewright import errors, records, runner_facts
from pipewright.actions import integration
from pipewright.actions.integration import IntegrationAction
from pipewright.api.v1alpha1 import Integration
from pipewright.apply import runs, webhook_keys, webhooks
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
        case integration.RotateWebhookSecret():
            await _rotate(action, ports)
        case integration.BeginWebhookOverlap():
            await _begin_overlap(action, ports)
        case integration.RetireWebhookSecret():
            await _retire(action, ports)
        case integration.ProjectWebhookSecret():
            await _project(action, ports, gateway_url=gateway_url)
        case integration.PublishRoute():
            await _publish(action, ports)
        case (
            integration.RegisterWebhook()
            | integration.RepairWebhook()
            | integration.RemoveWebhook()
            | integration.LeaveWebhook()
            | integration.FillGap()
            | integration.NoteWebhook()
        ):
            await webhooks.perform(action, ports=ports, gateway_url=gateway_url)
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
    path = Secret(runner_facts.hook_path(hook))
    return {"secret": secret, "path": path, "url": Secret(webhook_keys.url(hook, gateway_url=gateway_url))}


async def _issue(action: integration.IssueWebhookSecret, ports: RunnerPorts) -> None:
    fields = {
        "secret": Secret(secrets.token_hex(SECRET_BYTES)),
        "hook": Secret(secrets.token_urlsafe(HOOK_BYTES)),
    }
    # False means that an earlier pass wrote them: theirs count, ours are forgotten
    await ports.secrets.create(
        runner_facts.webhook_path(action.tenant_id, action.integration_uid), fields, owner=action.tenant_uid
    )


async def _rotate(action: integration.RotateWebhookSecret, ports: RunnerPorts) -> None:
    old = await _at(action, ports)
    number = webhook_keys.number(old) + 1
    new = {
        "secret": Secret(secrets.token_hex(SECRET_BYTES)),
        "hook": old["hook"],
        "number": Secret(str(number)),
        "issuedAt": Secret(records.format_time(action.at)),
        "previous": old["secret"],
    }
    await _replace(action, new, ports)


async def _begin_overlap(action: integration.BeginWebhookOverlap, ports: RunnerPorts) -> None:
    found = await _at(action, ports)
    await _replace(action, {**found, "overlapSince": Secret(records.format_time(action.at))}, ports)


async def _retire(action: integration.RetireWebhookSecret, ports: RunnerPorts) -> None:
    found = await _at(action, ports)
    kept = {name: value for name, value in found.items() if name not in ("previous", "overlapSince")}
    await _replace(action, kept, ports)


_Versioned = (
    integration.RotateWebhookSecret | integration.BeginWebhookOverlap | integration.RetireWebhookSecret
)


async def _at(action: _Versioned, ports: RunnerPorts) -> Mapping[str, Secret]:
    """The fields at the version that was planned for."""
    path = runner_facts.webhook_path(action.tenant_id, action.integration_uid)
    found = await ports.secrets.read(path, version=action.version)
    if found is None:
        raise errors.Conflict(f"the webhook secret at {path} is not at version {action.version} any more")
    return found


async def _replace(action: _Versioned, fields: Mapping[str, Secret], ports: RunnerPorts) -> None:
    # False means that somebody else changed it since the look: theirs counts, the next look goes on from it
    path = runner_facts.webhook_path(action.tenant_id, action.integration_uid)
    await ports.secrets.replace(path, fields, expected=action.version)


async def _project(action: integration.ProjectWebhookSecret, ports: RunnerPorts, *, gateway_url: str) -> None:
    keys, found = await webhook_keys.read(action.tenant_id, action.integration_uid, ports)
    owner = {
        "apiVersion": Integration.api_version,
        "kind": Integration.kind,
        "name": action.integration,
        "uid": action.integration_uid,
    }
    fields = projection(keys.hook, found["secret"], gateway_url=gateway_url)
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
    keys, found = await webhook_keys.read(action.tenant_id, action.integration_uid, ports)
    good = [found[name].reveal() for name in ("secret", "previous") if name in found]
    plaintext = json.dumps({"secrets": good}).encode()
    route = Route(
        hook_id=keys.hook,
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
        keys=keys.numbers,
    )
    sealed = ports.sealer.seal(plaintext, context=runner_facts.route_context(keys.hook))
    await ports.routes.publish(route, sealed_secret=sealed)
