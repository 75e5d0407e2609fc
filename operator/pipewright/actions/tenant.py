"""Effects of the Tenant controller: a tenant's place in the registry, in PostgreSQL and in Vault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTenant:
    """Allot the tenant's id in the registry, under the Tenant's UID."""

    uid: str
    name: str

    def __str__(self) -> str:
        return f"register tenant {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindNamespace:
    """Record in the registry that the namespace with this UID is the tenant's."""

    tenant_id: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"bind namespace {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindNamespace:
    """Record in the registry that the namespace with this UID is the tenant's no more."""

    tenant_id: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"release namespace {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCredentials:
    """Generate the tenant's database logins' passwords into Vault, unless they are there (check-and-set)."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "issue database credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDatabase:
    """Clone the tenant's database from the migrated template and mark it with the Tenant's UID."""

    tenant_id: str
    uid: str
    connection_limit: int

    def __str__(self) -> str:
        return f"create database for tenant {self.tenant_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConnections:
    """Set the connection limit of each of the tenant's own logins."""

    tenant_id: str
    connection_limit: int

    def __str__(self) -> str:
        return f"limit each login to {self.connection_limit} connections"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateDatabase:
    """Bring the tenant's schema to the version that this release carries."""

    tenant_id: str

    def __str__(self) -> str:
        return "migrate the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLogins:
    """Create or enable the tenant's logins with the passwords that Vault holds, at this version."""

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"set database logins at credential version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConnection:
    """Write the connection `Secret` into the namespace and the tenant's own Vault path."""

    tenant_id: str
    uid: str
    tenant_name: str
    namespace: str
    version: int

    def __str__(self) -> str:
        return f"write the connection Secret in {self.namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSecretAccess:
    """Write the tenant's Vault policy and its Kubernetes-auth role for these namespaces."""

    tenant_id: str
    namespaces: tuple[str, ...]

    def __str__(self) -> str:
        return "grant access to the tenant's Vault path"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealGatewayBundle:
    """Seal the ingest login and the tenant's data key to the gateway's public key, into the registry."""

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"seal the gateway's credentials at version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkTenant:
    """Set the tenant's state in the registry (Active, Deleting, Retained, Deleted)."""

    tenant_id: str
    state: str

    def __str__(self) -> str:
        return f"mark the tenant {self.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableLogins:
    """Refuse the tenant's logins and end their sessions; the data stay."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "disable database logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    """Drop the tenant's logins and database, if it still carries this UID."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "drop the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSecretAccess:
    """Remove the tenant's Vault role and policy; what is stored stays."""

    tenant_id: str

    def __str__(self) -> str:
        return "revoke access to the tenant's Vault path"


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeSecrets:
    """Destroy everything below the tenant's Vault path and its data key."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "purge the tenant's Vault path"


TenantAction = (
    RegisterTenant
    | BindNamespace
    | UnbindNamespace
    | IssueCredentials
    | CreateDatabase
    | LimitConnections
    | MigrateDatabase
    | SetLogins
    | ProjectConnection
    | GrantSecretAccess
    | SealGatewayBundle
    | MarkTenant
    | DisableLogins
    | DropDatabase
    | RevokeSecretAccess
    | PurgeSecrets
)
