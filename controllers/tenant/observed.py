"""What was seen of a Tenant at one look, as values, and the small questions that every rule asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration, SecretAccess, Server, WrappingKey
from pipewright.plan import Manifest, Ref

FIRST_VERSION = 1
"""Of the credentials of a tenant that never had any: Vault counts from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A server did not answer, so nothing is known and nothing is done about its part."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A tenant that another Tenant wants to become."""

    registration: Registration
    owner: Manifest | None
    """Its Tenant, while that is there."""
    served: bool
    """This operator reaches its database server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of a Tenant, at one look."""

    gateway_key: str
    servers: Sequence[Server] = ()
    """Those of the settings."""
    address: str | None = None
    """Where clients find the database, by the settings of now; None where its server is not served."""
    registration: Registration | None = None
    namespaces: Mapping[str, Manifest | None] = field(default_factory=dict)
    """By name in the spec, whoever they belong to, and in the registry."""
    children: Mapping[Ref, Manifest | None] = field(default_factory=dict)
    """What lies in those that are bound to this Tenant; nobody else's namespace is looked into."""
    resources: Sequence[Manifest] = ()
    """Custom resources in the namespaces; looked at for a teardown only."""
    connections: Mapping[str, Manifest | Unknown | None] = field(default_factory=dict)
    leaving_connections: Mapping[str, Manifest | Unknown | None] = field(default_factory=dict)
    """The same of namespaces that the registry has and the spec no longer names."""
    origin: Origin | None = None
    """What `spec.restoreFrom` names; looked at until the Tenant is bound to it."""
    dump_missing: str = ""
    """What the process lacks to take a final dump."""
    database: Database | Unknown | None = None
    database_bytes: int | None = None
    """Looked at for a teardown only."""
    credential_version: int | Unknown | None = None
    issued_at: datetime | None = None
    """When that version was written."""
    secret_access: SecretAccess | Unknown | None = None
    wanted_access: SecretAccess | None = None
    wrapping_key: WrappingKey | Unknown | None = None
    """Looked at when it may be due for another version."""
    wrapping_key_every: timedelta | None = None
    """How old it gets, by the settings."""
    scheme: str | None = None
    """What wraps data keys here."""
    dynamic: bool = False
    """Vault can make short-lived logins here."""
    without_vault: bool = False
    """Tenants have no path of their own, and nobody is let in."""


def is_bound(registration: Registration, name: str, found: Manifest | None) -> bool:
    """Whether the namespace is there to stay, and the registry names this very one as the tenant's."""
    return (
        found is not None
        and not is_going(found)
        and registration.namespaces.get(name) == found["metadata"]["uid"]
    )


def missing_namespaces(tenant: Tenant, observed: Observed) -> tuple[str, ...]:
    """Names in the spec of which there is no namespace: they are created, with all that lies in them."""
    wanted = tenant.spec.namespace_names(tenant.name)
    return tuple(name for name in wanted if observed.namespaces.get(name) is None)


def credentials_to_be(registration: Registration, observed: Observed) -> int | None:
    """The version that the credentials have, or will have once they are issued for the first time."""
    version = observed.credential_version
    if isinstance(version, int):
        return version
    new = version is None and observed.database is None and registration.bundle_version is None
    return FIRST_VERSION if new else None


def is_ours(tenant: Tenant, registration: Registration, found: Manifest) -> bool:
    """Whether the registry names this namespace as the tenant's, or it carries the Tenant's UID."""
    metadata = found["metadata"]
    if metadata["uid"] in registration.namespaces.values():
        return True
    # created by us a moment ago, before a crash could bind it
    return bool(metadata.get("labels", {}).get(names.UID_LABEL) == tenant.uid)


def is_going(found: Manifest) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in found["metadata"]
