"""What the Tenant controller needs besides: the registry, database servers, and ways into Vault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipewright.facts import Connection, Database, Registration, SecretAccess
from pipewright.ports.common import Cluster, Sealer, Secret, SecretStore


class Registry(Protocol):
    """The registry of tenants in the platform database."""

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        ...

    async def register(self, *, uid: str, name: str, server: str) -> Registration:
        """Allot a random id (12 characters of a 32-letter alphabet); the same UID gets the same id again."""
        ...

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record a namespace as the tenant's.

        Raises:
            OwnedByOther: the namespace's UID belongs to another tenant.
        """
        ...

    async def unbind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record that the namespace with this UID is the tenant's no more; done already counts as done."""
        ...

    async def mark(self, tenant_id: str, *, state: str) -> None:
        """Set the tenant's state; `Retained` and `Deleted` also free its namespaces.

        Raises:
            Conflict: it is Retained or Deleted already, or would go back from Deleting to Active.
        """
        ...

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant, sealed to its key.

        Raises:
            Conflict: another data key is there; it is never overwritten.
        """
        ...

    async def wrapped_data_key(self, tenant_id: str) -> str | None:
        """The tenant's data key as Vault's transit wrapped it."""
        ...


class Databases(Protocol):
    """The tenants' databases on their servers. Names are prefix + id, never a tenant's text."""

    async def find(self, tenant_id: str) -> Database | None:
        """What the server has for this tenant."""
        ...

    async def create(self, tenant_id: str, *, uid: str, connection_limit: int) -> None:
        """Clone from the template, mark with the UID, close to PUBLIC; finishes what a crash left half-done.

        Raises:
            OwnedByOther: a database of that name carries another UID.
        """
        ...

    async def limit_connections(self, tenant_id: str, *, connection_limit: int) -> None:
        """Set CONNECTION LIMIT of each of the tenant's own logins."""
        ...

    async def migrate(self, tenant_id: str) -> None:
        """Upgrade the schema `pipewright` to this release's version, as the migrator."""
        ...

    async def drop(self, tenant_id: str, *, uid: str) -> None:
        """Drop database and roles after reading the owner live.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...


class Logins(Protocol):
    """The roles that may log in to a tenant's database."""

    async def set(self, tenant_id: str, *, passwords: Mapping[str, Secret], version: int) -> None:
        """Create the logins that are missing, set the passwords, enable, and note the version on each."""
        ...

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for all of them, and end their sessions.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    def connection(self, tenant_id: str) -> Connection:
        """Where clients find the tenant's database."""
        ...

    def username(self, tenant_id: str, purpose: str) -> str:
        """The role's name for a purpose of `LOGINS`."""
        ...


class SecretGrants(Protocol):
    """The tenant's Vault policy and Kubernetes-auth role."""

    async def find(self, tenant_id: str) -> SecretAccess | None:
        """Both as they stand; None when either is missing."""
        ...

    def wanted(self, tenant_id: str, *, namespaces: Sequence[str]) -> SecretAccess:
        """What they ought to be."""
        ...

    async def grant(self, tenant_id: str, *, namespaces: Sequence[str]) -> None:
        """Write both as `wanted` says."""
        ...

    async def revoke(self, tenant_id: str) -> None:
        """Remove role and policy."""
        ...


class DataKeys(Protocol):
    """Per-tenant data keys, wrapped by Vault transit under the tenant's own key."""

    async def create(self, tenant_id: str) -> tuple[str, Secret]:
        """A new data key: wrapped text, and the key itself (base64, 32 bytes)."""
        ...

    async def open(self, tenant_id: str, wrapped: str) -> Secret:
        """Unwrap."""
        ...

    async def destroy(self, tenant_id: str) -> None:
        """Delete the tenant's transit key: what it wrapped is unreadable from then on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionerPorts:
    """Everything the Tenant controller may reach."""

    cluster: Cluster
    registry: Registry
    databases: Databases
    logins: Logins
    secrets: SecretStore
    grants: SecretGrants
    data_keys: DataKeys
    sealer: Sealer
