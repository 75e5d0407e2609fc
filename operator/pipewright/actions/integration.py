"""Effects of the Integration controller: a webhook secret, its projection, and the gateway's route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipewright.runner_facts import Registered


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueWebhookSecret:
    """Generate the webhook secret and the path's random part into Vault, unless they are there."""

    tenant_id: str
    tenant_uid: str
    integration_uid: str

    def __str__(self) -> str:
        return "issue the webhook secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateWebhookSecret:
    """Generate another webhook secret beside the one that counts, if it is still at this version."""

    tenant_id: str
    integration_uid: str
    version: int
    at: datetime

    def __str__(self) -> str:
        return "rotate the webhook secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginWebhookOverlap:
    """Note that the new webhook secret is in everybody's hands: from now on the old one's time runs."""

    tenant_id: str
    integration_uid: str
    version: int
    at: datetime

    def __str__(self) -> str:
        return "begin the overlap of the webhook secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireWebhookSecret:
    """Drop the old webhook secret: what it signs is refused."""

    tenant_id: str
    integration_uid: str
    version: int

    def __str__(self) -> str:
        return "retire the old webhook secret"


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
class ProviderPlace:
    """A project at its provider, and how to get there."""

    tenant_id: str
    namespace: str
    integration_uid: str
    connector: str
    config: Mapping[str, Any] = field(hash=False, repr=False)
    secret: str | None
    """The name of the Secret with the credentials; None where the provider asks for none."""
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterWebhook:
    """Make the project a webhook; that it is about to be made is noted before."""

    place: ProviderPlace
    asked: str
    at: datetime

    def __str__(self) -> str:
        return f"register the webhook of {self.place.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairWebhook:
    """Make a webhook of ours what it should be: address, secret, events, and on."""

    place: ProviderPlace
    id: str
    asked: str
    at: datetime

    def __str__(self) -> str:
        return f"bring the webhook of {self.place.project} up to date"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveWebhook:
    """Remove the webhooks of ours from a project, and the note of them."""

    place: ProviderPlace
    ids: tuple[str, ...]
    at: datetime

    def __str__(self) -> str:
        return f"remove the webhook of {self.place.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveWebhook:
    """Forget a webhook that cannot be removed: it stays at the provider, and what it sends is refused."""

    integration_uid: str
    project: str
    why: str

    def __str__(self) -> str:
        return f"leave the webhook of {self.project} at the CI system: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FillGap:
    """Look for deliveries that never arrived, and have them sent again."""

    place: ProviderPlace
    id: str
    """The webhook's at the provider."""
    since: datetime
    at: datetime
    mended: bool
    """The webhook was changed since the last look: what failed before is asked for without a wait."""

    def __str__(self) -> str:
        return f"look for missed deliveries of {self.place.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteWebhook:
    """Note how a look at a project's webhook ended."""

    integration_uid: str
    registered: Registered

    def __str__(self) -> str:
        return f"note the webhook of {self.registered.project}"


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
    IssueWebhookSecret
    | RotateWebhookSecret
    | BeginWebhookOverlap
    | RetireWebhookSecret
    | ProjectWebhookSecret
    | PublishRoute
    | RegisterWebhook
    | RepairWebhook
    | RemoveWebhook
    | LeaveWebhook
    | FillGap
    | NoteWebhook
    | WithdrawRoute
    | DeleteWebhookSecret
)
