"""What the ports report, as values: plans are made from them, so this room does no I/O and imports none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

LOGINS = ("app_a", "app_b", "readonly", "ingest", "runner")
"""Purposes of a tenant's logins: its own two (rotation overlaps them), its reader, the two planes'."""


TENANT_LOGINS = ("app_a", "app_b", "readonly")
"""Those of them that the tenant itself uses; `database.connectionLimit` is about each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """A dump of a tenant's database in the artifact store."""

    path: str
    """Below the store."""
    sha256: str
    bytes: int
    taken_at: datetime


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
    previous_uids: tuple[str, ...] = ()
    """Tenants whose marks may still be on what is being restored; empty when it is done."""
    dump: Dump | None = None
    """The dump that was taken for the deletion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A database role that can log in."""

    enabled: bool
    version: int | None
    """The credential version it was set at."""


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
    logins: Mapping[str, Login]
    """By purpose: app_a, app_b, readonly, ingest, runner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a tenant's database is; the credentials come apart."""

    server: str
    host: str
    port: int
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretAccess:
    """A tenant's way into Vault, as it stands."""

    role: str
    policy: str
    namespaces: tuple[str, ...]
    service_accounts: tuple[str, ...]
    policies: tuple[str, ...]
