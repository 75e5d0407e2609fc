"""Effects of the Tenant controller: a tenant's place in the registry, in PostgreSQL and in Vault."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pipewright.facts import DynamicTerms, Proof, Server
from pipewright.plan import Manifest, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTenant:
    """Allot the tenant's id in the registry, under the Tenant's UID, and a place on one of the servers."""

    uid: str
    name: str
    servers: tuple[Server, ...]

    def __str__(self) -> str:
        return f"register tenant {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamespace:
    """Create a namespace and record in the registry that it is the tenant's, by the UID that it got.

    One of that name that appeared meanwhile is left alone, and nothing that comes after is done.
    """

    tenant_id: str
    uid: str
    manifest: Manifest = field(hash=False)

    def __str__(self) -> str:
        return f"create and bind {Ref.of(self.manifest)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindNamespace:
    """Record in the registry that the namespace with this UID is the tenant's, if the Tenant is its owner."""

    tenant_id: str
    name: str
    uid: str
    tenant_uid: str

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
class CreateExtension:
    """Create an extension that the server's settings allow in the tenant's database."""

    tenant_id: str
    name: str

    def __str__(self) -> str:
        return f"create extension {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLogins:
    """Create or enable the tenant's logins with the passwords that Vault holds, at this version.

    Of the tenant's own two only the active one: the other is as the last rotation left it. Those of a
    suspended tenant get their passwords and stay shut.
    """

    tenant_id: str
    version: int
    granted: bool = False
    """Their grants were made a moment ago, with the database."""
    suspended: bool = False
    """Those that the tenant itself uses stay shut."""

    def __str__(self) -> str:
        return f"set database logins at credential version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateCredentials:
    """Generate the passwords of the next version into Vault, if this one is still current (check-and-set).

    The login that is active now keeps its password, so that it works until the overlap ends.
    """

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"rotate credential version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginOverlap:
    """Note since when every client can have the new credentials; the old login has one overlap from then."""

    tenant_id: str
    purpose: str
    at: datetime

    def __str__(self) -> str:
        return f"begin the last overlap of login {self.purpose}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireLogin:
    """Disable the login that was rotated away, end its sessions, and prove that its password is refused."""

    tenant_id: str
    uid: str
    purpose: str
    at: datetime

    def __str__(self) -> str:
        return f"retire login {self.purpose} and try its old password"


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
    """Write the tenant's Vault policy and its Kubernetes-auth role for these namespaces.

    With `dynamic` the policy lets the tenant ask for short-lived logins.
    """

    tenant_id: str
    namespaces: tuple[str, ...]
    dynamic: DynamicTerms | None = None

    def __str__(self) -> str:
        return "grant access to the tenant's Vault path"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantDatabaseRole:
    """Write the role of Vault's database engine that makes short-lived logins on these terms."""

    tenant_id: str
    terms: DynamicTerms

    def __str__(self) -> str:
        return "begin short-lived logins in Vault"


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawDatabaseRole:
    """Remove the role of Vault's database engine, so that it makes no login for the tenant any more."""

    tenant_id: str

    def __str__(self) -> str:
        return "end short-lived logins in Vault"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDynamicLogins:
    """Let logins that Vault makes connect to the tenant's database, and act as the owner of its schema."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "open the database to short-lived logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseDynamicLogins:
    """Let logins that Vault made connect no more, and end their sessions."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "close the database to short-lived logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropEndedLogins:
    """Drop logins that Vault locked and could not drop; what they own or may do becomes the tenant's."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "drop short-lived logins that ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealGatewayBundle:
    """Seal the ingest login and the tenant's data key to the gateway's public key, into the registry."""

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"seal the gateway's credentials at version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateDataKey:
    """Make another version of the key that wraps the tenant's data key, if this one is the newest."""

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"rotate the wrapping key of version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapDataKey:
    """Wrap the tenant's data key, which stays as it is, by the newest wrapping key (compare-and-swap)."""

    tenant_id: str

    def __str__(self) -> str:
        return "wrap the data key by the newest wrapping key"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkTenant:
    """Set the tenant's state in the registry, if it is this UID's.

    The states are Active, Suspended, Deleting, Retained and Deleted.
    """

    tenant_id: str
    uid: str
    state: str
    abandoned: tuple[str, ...] = ()
    """Parts that were left where they are, because their server is gone for good: for the audit trail."""

    def __str__(self) -> str:
        left = f", abandoning {' and '.join(self.abandoned)}" if self.abandoned else ""
        return f"mark the tenant {self.state}{left}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableLogins:
    """Refuse the tenant's logins and end their sessions; the data stay."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "disable database logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendLogins:
    """Shut out the logins that the tenant itself uses, and end their sessions; the passwords stay."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "suspend the tenant's database logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeLogins:
    """Let in again exactly those logins that were shut out with the tenant, by their passwords."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "resume the tenant's database logins"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeDump:
    """Dump the tenant's database into the artifact store, and note the dump in the registry."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "dump the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class RebindTenant:
    """Make a new Tenant the owner of a tenant whose old one is gone, by compare-and-swap in the registry."""

    tenant_id: str
    uid: str
    name: str
    previous_uid: str
    namespaces: tuple[str, ...]

    def __str__(self) -> str:
        return f"bind tenant {self.tenant_id} to {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverDatabase:
    """Mark database and roles, which carry a previous owner's UID, with the new one."""

    tenant_id: str
    uid: str
    previous: tuple[str, ...]

    def __str__(self) -> str:
        return "hand the database over"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverSecrets:
    """Mark what lies in Vault, which carries a previous owner's UID, with the new one."""

    tenant_id: str
    uid: str
    previous: tuple[str, ...]

    def __str__(self) -> str:
        return "hand the secrets over"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewCredentials:
    """Generate new passwords for all logins, if this version is still current (check-and-set)."""

    tenant_id: str
    version: int

    def __str__(self) -> str:
        return f"renew the credentials of version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    """Drop the tenant's logins and database, if it still carries this UID."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "drop the database"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSecretAccess:
    """Remove the tenant's Vault role and policy, if the tenant is this UID's; what is stored stays."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "revoke access to the tenant's Vault path"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """Remember what came of a proof of isolation, so that a restart does not make it anew."""

    tenant_id: str
    proof: Proof

    def __str__(self) -> str:
        return "record the proof of isolation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireHistory:
    """Delete what the tenant's retention no longer keeps, for some seconds at most; the next look goes on."""

    tenant_id: str
    events_before: datetime
    runs_before: datetime
    audit_before: datetime
    at: datetime

    def __str__(self) -> str:
        return "delete history that is older than its retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeSecrets:
    """Destroy everything below the tenant's Vault path and its data key, if they are this UID's."""

    tenant_id: str
    uid: str

    def __str__(self) -> str:
        return "purge the tenant's Vault path"


TenantAction = (
    RegisterTenant
    | CreateNamespace
    | BindNamespace
    | UnbindNamespace
    | IssueCredentials
    | CreateDatabase
    | LimitConnections
    | MigrateDatabase
    | CreateExtension
    | SetLogins
    | RotateCredentials
    | BeginOverlap
    | RetireLogin
    | ProjectConnection
    | GrantSecretAccess
    | GrantDatabaseRole
    | WithdrawDatabaseRole
    | OpenDynamicLogins
    | CloseDynamicLogins
    | DropEndedLogins
    | SealGatewayBundle
    | RotateDataKey
    | RewrapDataKey
    | MarkTenant
    | DisableLogins
    | SuspendLogins
    | ResumeLogins
    | TakeDump
    | RebindTenant
    | HandOverDatabase
    | HandOverSecrets
    | RenewCredentials
    | DropDatabase
    | RevokeSecretAccess
    | PurgeSecrets
    | RecordProof
    | ExpireHistory
)
