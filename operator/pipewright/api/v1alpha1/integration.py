"""Integration: one CI system that a tenant connects, by a connector of the catalogue."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import (
    AGE,
    LABEL_PATTERN,
    MESSAGE,
    OVERLAP_IS_SHORTER,
    Base,
    Between,
    Column,
    Count,
    Duration,
    JsonObject,
    Matching,
    Resource,
    Rule,
    Ruled,
    Status,
    Time,
    condition_columns,
    immutable,
    parse_duration,
    rules,
)

SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]

_PROJECT = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$"

Project = Annotated[
    str,
    Field(
        max_length=255,
    ),
    Matching(_PROJECT, "projects[] must be written as owner/name"),
    Ruled(
        Rule(
            cel="!self.split('/').exists(part, part == '.' || part == '..')",
            message="projects[] must be written as owner/name, and no part may be . or ..",
        )
    ),
]
"""A project as its CI system names it: owner/repository, or group/subgroup/project."""


class SecretRef(Base):
    """A Secret of the Integration's own namespace."""

    name: SecretName
    """The Secret's name."""


class Credentials(Base):
    """Where the credentials for the CI system lie."""

    secret_ref: SecretRef
    """The Secret in the Integration's namespace with the keys that the connector asks for."""


class WebhookRotation(Base):
    """When the webhook's signing secret changes. What the old one signed is taken for the overlap."""

    model_config = ConfigDict(json_schema_extra=rules(OVERLAP_IS_SHORTER))

    every: Annotated[Duration, Between("1h", "8760h")] | None = None
    """After this time another secret is made; absent means only when an annotation asks for it."""
    overlap: Annotated[Duration, Between("0s", "720h")] = parse_duration("24h")
    """How long the old secret is good once the new one is in the webhook's Secret; shorter than every."""


class Webhook(Base):
    """Whether the CI system may send events."""

    enabled: bool = True
    """Whether deliveries are taken; when false the path in status is withdrawn."""
    allow_unsigned: bool = False
    """Whether a connector without signatures may be used: whoever learns the path can then send anything."""
    register_: Annotated[bool, Field(alias="register")] = False
    """Whether it is also made, kept and removed at the CI system, for each project, with spec.credentials."""
    rotation: WebhookRotation = WebhookRotation()
    """When the signing secret changes, and how long the old one is good."""


class Sync(Base):
    """Reading the history of the projects' runs through the CI system's API."""

    backfill: Annotated[Duration, Between("1h", "1825d")] = parse_duration("30d")
    """How far back it is read at first."""
    every: Annotated[Duration, Between("5m", "30d")] = parse_duration("1h")
    """How often it is read on, for what no webhook told."""


class IntegrationSpec(Base):
    """Which CI system, and what of it."""

    connector: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=LABEL_PATTERN,
        ),
        Ruled(immutable("connector")),
    ]
    """The connector of the catalogue that speaks to this CI system, e.g. github; cannot be changed later."""
    config: JsonObject = Field({})
    """The connector's own settings, checked by the schema in its manifest; never a secret."""
    credentials: Credentials | None = None
    """Where the credentials for the CI system lie; a connector that calls none needs none."""
    webhook: Webhook = Webhook()
    """Whether the CI system may send events to the path in status."""
    sync: Sync | None = None
    """Whether finished runs and jobs are also read through the CI system's API; absent: by webhooks only."""
    projects: Annotated[
        tuple[Project, ...],
        Field(min_length=1, max_length=100, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """The projects, as owner/name, whose events are taken; those of any other are refused."""


class WebhookKey(Base):
    """A signing secret that is good now; its value is in the webhook's Secret alone."""

    id: Count
    """Which one: the first is 1, and each rotation makes the next."""
    ends_at: Time | None = None
    """When it stops to be good; absent for the one that counts, and until its overlap has begun."""


class MissedDeliveries(Base):
    """Deliveries that the CI system sent and that did not arrive."""

    count: Count = 0
    """How many had not arrived at the last look."""
    since: Time | None = None
    """When the first of them was sent; absent when none is missed."""
    filled_at: Time | None = None
    """When a delivery that had failed arrived last."""


class WebhookStatus(Base):
    """What to enter in the CI system's webhook settings."""

    path: Annotated[str, Field(max_length=255)]
    """The path below the gateway's address to which the CI system shall send its events."""
    secret_ref: SecretRef
    """The Secret in this namespace that holds the signing secret for the CI system's settings."""
    keys: Annotated[tuple[WebhookKey, ...], Field(max_length=2)] = ()
    """The signing secrets that are good now, the one that counts first."""
    rotated_at: Time | None = None
    """When the secret that counts took the place of another; absent before the first rotation."""
    next_rotation_at: Time | None = None
    """When the next secret is due; absent without a period."""
    missed: MissedDeliveries | None = None
    """Deliveries that did not arrive; absent where none failed, or the CI system does not tell."""


ScopeName = Annotated[str, Field(min_length=1, max_length=100)]


class ScopesStatus(Base):
    """What the credentials may do at the CI system."""

    granted: Annotated[
        tuple[ScopeName, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """The scopes that the credentials have, the first 64 by name."""
    missing: Annotated[
        tuple[ScopeName, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """The scopes that the connector needs and the credentials do not have."""


class SyncStatus(Base):
    """How far the history of the projects is read."""

    through: Time | None = None
    """Runs until then are read; absent while they are read for the first time."""
    cursor: Annotated[str, Field(max_length=16384)] = ""
    """Where the reading under way goes on, for Pipewright alone; empty between two."""
    left_out: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...],
        Field(max_length=5, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """What the last reading did not understand and left out, the first few: fields and reasons."""
    revision: Annotated[str, Field(max_length=64)]
    """Of connector, config, projects and backfill: when one of them changes, all is read anew."""


class IntegrationStatus(Status):
    """What is set up for the CI system."""

    scopes: ScopesStatus | None = None
    """What the credentials may do; absent where the CI system does not tell, as for fine-grained tokens."""
    sync: SyncStatus | None = None
    """How far the history of the projects is read; absent without spec.sync."""
    webhook: WebhookStatus | None = None
    """What to enter in the CI system's webhook settings; absent while the webhook is disabled."""


class Integration(Resource):
    """A connection to one CI system: whose events are taken, and on which actions are performed."""

    kind: ClassVar[str] = "Integration"
    plural: ClassVar[str] = "integrations"
    singular: ClassVar[str] = "integration"
    short_names: ClassVar[tuple[str, ...]] = ("pint",)
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Namespaced"
    printer_columns: ClassVar[tuple[Column, ...]] = (
        *condition_columns(),
        Column(name="Connector", path=".spec.connector", description="The connector of the catalogue."),
        AGE,
        Column(name="Webhook", path=".status.webhook.path", description="The webhook's path.", priority=1),
        MESSAGE,
    )

    spec: IntegrationSpec
    """Which CI system, and what of it."""
    status: IntegrationStatus = IntegrationStatus()
    """What is set up for the CI system; written by Pipewright."""
