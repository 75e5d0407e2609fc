"""What the ports report, as values: plans are made from them, so this room does no I/O and imports none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

LOGINS = ("app_a", "app_b", "readonly", "ingest", "runner")
"""Purposes of a tenant's logins: its own two (rotation overlaps them), its reader, the two planes'."""


def active_login(version: int) -> str:
    """Which of the tenant's own two logins this version of the credentials is for: they take turns.

    It follows from the version alone, so Vault's one check-and-set decides it and the password together.
    """
    return "app_a" if version % 2 else "app_b"


def standby_login(version: int) -> str:
    """The other one: still valid during an overlap, disabled otherwise."""
    return active_login(version + 1)


TENANT_LOGINS = ("app_a", "app_b", "readonly")
"""Those of them that the tenant itself uses; `database.connectionLimit` is about each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server for tenants' databases, as the settings offer it."""

    name: str
    region: str
    database_class: str
    capacity: int | None = None
    """How many tenants it takes; None for as many as come."""
    extensions: tuple[str, ...] = ()
    """Those that a Tenant may ask for."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that pods of its tenants run on; empty for any node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far this release's schema has come on a server."""

    state: str
    """Canary (one tenant goes first), Rolling (the others follow) or Failed (nobody does)."""
    holder: str
    """Id of the tenant that goes first, or that failed."""
    name: str
    """Its name."""
    reason: str
    """Why it failed."""
    at: datetime
    """Since when the state is this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """A dump of a tenant's database in the artifact store."""

    path: str
    """Below the store."""
    sha256: str
    bytes: int
    taken_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whose doors a tenant's credentials are tried at: a neighbour's, or the platform's own."""

    id: str | None
    """The neighbour's id; None: there is no neighbour, and the platform's doors are tried."""
    server: str
    database: str
    namespace: str
    """Where Secrets lie that the tenant must not list."""
    paths: tuple[str, ...]
    """Secrets in Vault that the tenant must not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of a try at another's doors with a tenant's own credentials."""

    at: datetime
    target: str | None
    """The neighbour's id; None: the platform's own doors."""
    opened: tuple[str, ...] = ()
    """Doors that opened, in words."""
    unknown: tuple[str, ...] = ()
    """Doors of which nothing can be said, each with the reason."""
    asked: str | None = None
    """The text of the annotation that had asked for a check by then."""

    @property
    def holds(self) -> bool:
        """Every door was tried, and refused."""
        return not self.opened and not self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep of a tenant's history and audit trail."""

    at: datetime
    finished: bool
    """Nothing older was left; else the next one goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What a sweep deleted."""

    counts: Mapping[str, int]
    """Days of `events`, and rows of each other table, by its name; those of which there were any."""
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What the platform remembers of a tenant, whatever becomes of its custom resource."""

    id: str
    uid: str
    name: str
    server: str
    state: str
    namespaces: Mapping[str, str]
    """Namespace name → namespace UID."""
    bundle_version: int | None
    """Credential version sealed for the gateway."""
    bundle_key: str | None
    """Fingerprint of the gateway's public key that the bundle was sealed to."""
    bundle_address: str | None = None
    """Address of the database that the bundle leads to."""
    wrapped_by: str | None = None
    """What wraps the data key, and the version of the wrapping key: `vault:v1`; None before there is one."""
    rollout: Rollout | None = None
    """Of this release's schema on the tenant's server; None before it began."""
    previous_uids: tuple[str, ...] = ()
    """Tenants whose marks may still be on what is being restored; empty when it is done."""
    dump: Dump | None = None
    """The dump that was taken for the deletion."""
    proof: Proof | None = None
    """The last proof of its isolation; None before the first one."""
    created_at: datetime | None = None
    sweep: Sweep | None = None
    """The last sweep of what its retention no longer keeps; None before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A database role that can log in."""

    enabled: bool
    version: int | None
    """The credential version it was set at."""
    overlap_since: datetime | None = None
    """Its successor reached all who connect: from then on it is only waited for the overlap to end."""
    refused_at: datetime | None = None
    """Its old password was tried, and refused."""
    suspension: Literal["Ending", "Suspended"] | None = None
    """It is shut out with the tenant and comes back with it: its sessions are being ended, or are."""

    @property
    def is_set(self) -> bool:
        """It accepts its password, or will when the tenant is resumed."""
        return self.enabled or self.suspension is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicLogins:
    """The logins that Vault makes for the tenant by its database engine: a group, and who is in it."""

    open: bool
    """They may connect."""
    ended: int
    """Those that Vault has locked and could not drop, because something in the database depends on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The version of a secret that counts now."""

    version: int
    at: datetime
    """When it was written, by the clock of whoever keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappingKey:
    """The key that wraps a tenant's data key, as whoever keeps it has it."""

    version: int
    """The newest: it wraps, the ones before only unwrap."""
    at: datetime
    """When it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A tenant's database as the server has it."""

    name: str
    owner_uid: str | None
    """The Tenant UID in its COMMENT; None when a crash left it unmarked."""
    connection_limit: int
    """Of each of the tenant's own logins."""
    schema_version: str | None
    current: bool
    """Its schema is the one that this release carries."""
    closed_to_public: bool
    extensions: frozenset[str] = frozenset()
    """Installed ones, but for plpgsql, which every database has."""
    logins: Mapping[str, Login]
    """By purpose: app_a, app_b, readonly, ingest, runner."""
    dynamic: DynamicLogins | None = None
    """None before the tenant asked for any."""

    @property
    def is_shut(self) -> bool:
        """Nobody logs in to it but the platform itself."""
        return not any(login.enabled for login in self.logins.values()) and not self.lends

    @property
    def lends(self) -> bool:
        """Logins that Vault makes may connect."""
        return self.dynamic is not None and self.dynamic.open


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a tenant's database is; the credentials come apart."""

    server: str
    host: str
    port: int
    database: str

    @property
    def address(self) -> str:
        """All that clients need to be told of it, to compare what they were told."""
        return f"{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicTerms:
    """What a tenant's short-lived logins are to be."""

    server: str
    """The database server, and Vault's name for its connection to it."""
    ttl: timedelta
    """How long one lives."""
    logins: int
    """How many may live at once."""
    connection_limit: int
    """Of each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRole:
    """A role of Vault's database engine: how it makes a login, and takes it away."""

    path: str
    """Where a read makes a login."""
    connection: str
    creation: tuple[str, ...]
    revocation: tuple[str, ...]
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretAccess:
    """A tenant's way into Vault, as it stands."""

    role: str
    policy: str
    namespaces: tuple[str, ...]
    service_accounts: tuple[str, ...]
    policies: tuple[str, ...]
    longest: timedelta = timedelta()
    """For how long a token of it may be renewed."""
    database_role: DatabaseRole | None = None
    """None: Vault makes no logins for this tenant."""
