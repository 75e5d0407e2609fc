"""Effects of the Integration controller: a webhook secret, its projection, and the gateway's route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueWebhookSecret:
    """Generate the webhook secret and the path's random part into Vault, unless they are there."""

    tenant_id: str
    tenant_uid: str
    integration_uid: str

    def __str__(self) -> str:
        return "issue the webhook secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectWebhookSecret:
    """Write the Secret with what the provider's settings want; it goes with the Integration."""

    tenant_id: str
    namespace: str
    integration: str
    integration_uid: str

    def __str__(self) -> str:
        return f"write the webhook's Secret in {self.namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRoute:
    """Tell the gateway whose webhook it is, with the webhook secret sealed to its key."""

    tenant_id: str
    namespace: str
    integration: str
    integration_uid: str
    connector: str
    projects: tuple[str, ...]
    config: Mapping[str, Any] = field(hash=False, repr=False)
    enabled: bool
    allow_unsigned: bool = False

    def __str__(self) -> str:
        return f"publish the route of {self.integration}" + ("" if self.enabled else ", closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHistory:
    """Read a part of the provider's history, and have it stored by the gateway."""

    namespace: str
    integration: str
    connector: str
    config: Mapping[str, Any] = field(hash=False, repr=False)
    secret: str | None
    """The name of the Secret with the credentials; None where the provider asks for none."""
    project: str
    since: datetime
    until: datetime
    cursor: str

    def __str__(self) -> str:
        return f"read on in the history of {self.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawRoute:
    """Take the route away: from now on its path is unknown."""

    integration_uid: str

    def __str__(self) -> str:
        return "withdraw the route"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWebhookSecret:
    """Delete every version of the webhook secret from Vault."""

    tenant_id: str
    integration_uid: str

    def __str__(self) -> str:
        return "delete the webhook secret"


IntegrationAction = (
    IssueWebhookSecret | ProjectWebhookSecret | PublishRoute | WithdrawRoute | DeleteWebhookSecret
)
