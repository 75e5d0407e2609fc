"""What is kept of a webhook's path and secrets: read by several, written by `integrations` alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pipewright import errors, records, runner_facts
from pipewright.ports import RunnerPorts, Secret
from pipewright.runner_facts import WebhookKeys


async def kept(path: str, ports: RunnerPorts) -> tuple[WebhookKeys, Mapping[str, Secret]] | None:
    """What is kept of a webhook at a path, and its fields; None when nothing is."""
    issued = await ports.secrets.issued(path)
    fields = await ports.secrets.read(path, version=issued.version) if issued is not None else None
    if issued is None or fields is None:
        return None
    since = fields.get("overlapSince")
    keys = WebhookKeys(
        hook=fields["hook"].reveal(),
        version=issued.version,
        number=number(fields),
        # one of before there were rotations does not say it, and was written once
        issued_at=_time(fields["issuedAt"]) if "issuedAt" in fields else issued.at,
        rotating="previous" in fields,
        overlap_since=_time(since) if since is not None else None,
    )
    return keys, fields


def number(fields: Mapping[str, Secret]) -> int:
    """The number of the secret that counts."""
    return int(fields["number"].reveal()) if "number" in fields else 1


def _time(found: Secret) -> datetime:
    return records.parse_time("time", found.reveal())


async def read(
    tenant_id: str, integration_uid: str, ports: RunnerPorts
) -> tuple[WebhookKeys, Mapping[str, Secret]]:
    """What is kept of an Integration's webhook, and its fields.

    Raises:
        Waiting: nothing is.
    """
    path = runner_facts.webhook_path(tenant_id, integration_uid)
    found = await kept(path, ports)
    if found is None:
        raise errors.Waiting("WebhookSecretMissing", f"no webhook secret is at {path} yet")
    return found


def url(hook: str, *, gateway_url: str) -> str:
    """The whole address to which a provider sends its events."""
    return gateway_url.rstrip("/") + runner_facts.hook_path(hook)
