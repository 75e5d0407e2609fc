"""Tenant: one team's share of the cluster, of a PostgreSQL server and of Vault."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipewright.api.meta import (
    AGE,
    MESSAGE,
    OVERLAP_IS_SHORTER,
    Base,
    Between,
    Column,
    Count,
    DnsLabel,
    Duration,
    Resource,
    Rule,
    Status,
    Time,
    condition_columns,
    parse_duration,
    rules,
)
from pipewright.api.v1alpha1.deletion import DeletionPlan
from pipewright.api.v1alpha1.tenant_namespaces import (
    RESERVED,
    Limits,
    Network,
    Quota,
    TenantNamespace,
    TenantNamespaces,
)

_OWN_NAME_NOT_RESERVED = Rule(
    cel=f"has(self.spec.namespaces) || (!(self.metadata.name in {RESERVED})"
    " && !self.metadata.name.startsWith('kube-'))",
    message="metadata.name is reserved and would name the namespace: choose another or set spec.namespaces",
    field_path=".metadata.name",
)
_NAMESPACES_STAY = Rule(
    cel="(has(self.spec.namespaces) ? self.spec.namespaces.map(n, n.name) : [self.metadata.name])"
    ".exists(kept, kept in"
    " (has(oldSelf.spec.namespaces) ? oldSelf.spec.namespaces.map(n, n.name) : [oldSelf.metadata.name]))",
    message="spec.namespaces must keep at least one of the namespaces that it has: add the new one first,"
    " then take the old one away",
    field_path=".spec.namespaces",
)
_RESTORE_STAYS = Rule(
    cel="has(self.spec.restoreFrom) == has(oldSelf.spec.restoreFrom)"
    " && (!has(self.spec.restoreFrom) || self.spec.restoreFrom == oldSelf.spec.restoreFrom)",
    message="spec.restoreFrom is immutable: create a new Tenant to restore another one",
    field_path=".spec.restoreFrom",
)
_WHERE = (
    "(has({0}.spec.placement) && has({0}.spec.placement.region) ? {0}.spec.placement.region : '') + '/' +"
    " (has({0}.spec.placement) && has({0}.spec.placement.class) ? {0}.spec.placement.class : '')"
)
_PLACEMENT_STAYS = Rule(
    cel="!has(oldSelf.status) || !has(oldSelf.status.id)"
    f" || {_WHERE.format('self')} == {_WHERE.format('oldSelf')}",
    message="spec.placement cannot change once the tenant has its place: create a new Tenant for another",
    field_path=".spec.placement",
)
_GPUS_ONCE = Rule(
    cel="!has(self.gpuQuota) || !has(self.quota) || !('requests.nvidia.com/gpu' in self.quota)",
    message="gpuQuota must be absent where quota has requests.nvidia.com/gpu: they are the same thing",
    field_path=".gpuQuota",
)

TenantId = Annotated[str, Field(min_length=12, max_length=12, pattern=r"^[a-z0-9]{12}$")]


class Subject(Base):
    """Somebody who gets access: a User, a Group, or a ServiceAccount of any namespace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                cel="has(self.__namespace__) == (self.kind == 'ServiceAccount')",
                message="namespace is required for a ServiceAccount and must be absent for a User or Group",
                message_expression="self.kind == 'ServiceAccount'"
                " ? 'namespace is required: it names where the ServiceAccount ' + self.name + ' lies'"
                " : 'namespace must be absent: the ' + self.kind + ' ' + self.name + ' lies in none'",
                field_path=".namespace",
            ),
            Rule(
                cel="!self.name.startsWith('system:')",
                message="name must not begin with system: as such users and groups belong to the cluster",
                field_path=".name",
            ),
            Rule(
                cel="self.kind != 'ServiceAccount' || self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                message="name of a ServiceAccount must be the name of a Kubernetes object",
                field_path=".name",
            ),
        )
    )

    kind: Literal["User", "Group", "ServiceAccount"]
    """What the name names: User, Group or ServiceAccount."""
    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The name as the cluster's authentication gives it; never one that begins with system:."""
    namespace: DnsLabel | None = None
    """The ServiceAccount's namespace; required for a ServiceAccount, absent otherwise."""


Subjects = Annotated[tuple[Subject, ...], Field(max_length=50)]


class Access(Base):
    """Who may do what in the tenant's namespaces."""

    owners: Subjects = ()
    """Those who may do everything in the namespaces, Secrets and Pipewright's kinds included."""
    editors: Subjects = ()
    """Those who may change workloads and Pipewright's kinds, but not who has access."""
    viewers: Subjects = ()
    """Those who may read everything but Secrets."""


class Rotation(Base):
    """When the passwords of the tenant's database change. The old login works on for the overlap."""

    model_config = ConfigDict(json_schema_extra=rules(OVERLAP_IS_SHORTER))

    every: Annotated[Duration, Between("1h", "8760h")] | None = None
    """After this time new passwords are made; absent means only when an annotation asks for it."""
    overlap: Annotated[Duration, Between("0s", "720h")] = parse_duration("30m")
    """How long the old login works on once the new one is in the connection Secret; shorter than every."""


ExtensionName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_-]*$")]


class DynamicCredentials(Base):
    """Short-lived logins to the tenant's database, made by Vault when its ServiceAccount asks for one."""

    ttl: Annotated[Duration, Between("1m", "1d")] = parse_duration("1h")
    """How long a login lives; then it is dropped and its sessions are ended."""
    max_logins: Annotated[int, Field(ge=1, le=100)] = 10
    """How many may live at once, each with database.connectionLimit."""


class Database(Base):
    """The tenant's own PostgreSQL database."""

    connection_limit: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many connections each of the tenant's logins may hold at once."""
    extensions: Annotated[
        tuple[ExtensionName, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """PostgreSQL extensions that the server's settings allow; one that is taken out of the list stays."""
    rotation: Rotation = Rotation()
    """When the passwords change, and how long the old ones work on."""
    dynamic_credentials: DynamicCredentials | None = None
    """Lets the tenant's ServiceAccount get short-lived logins from Vault, beside those in the Secret."""


class Retention(Base):
    """How long what was received and done is kept; what is older is deleted about once a day."""

    events: Annotated[Duration, Between("1d", "3650d")] = parse_duration("90d")
    """How long the raw bodies of webhooks are kept, by whole days (UTC)."""
    runs: Annotated[Duration, Between("30d", "3650d")] = parse_duration("400d")
    """How long runs, jobs, predictions, deliveries and decisions are kept, from when they were last seen."""
    audit: Annotated[Duration, Between("30d", "3650d")] = parse_duration("400d")
    """How long the platform's audit trail of what was provisioned for the tenant is kept."""


class Placement(Base):
    """Where the tenant's data lies, in the words of the operator's settings."""

    region: DnsLabel | None = None
    """The region of the database server; absent for any."""
    database_class: Annotated[DnsLabel | None, Field(alias="class")] = None
    """The class of the database server, for example standard; absent for any."""


class TenantSpec(Base):
    """What the tenant shall have."""

    model_config = ConfigDict(json_schema_extra=rules(_GPUS_ONCE))

    display_name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """A name for people; the object's name is used where it is absent."""
    suspended: bool = False
    """Shuts the tenant out and stops its work until it is set to false again; events are kept for then."""
    deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What deleting the Tenant does to its data: Retain locks everything and keeps it, Delete removes it."""
    final_dump: Literal["Required", "Skip"] = "Required"
    """Whether the database is dumped into the artifact store before Delete drops it; with Skip it is not."""
    deletion_protection: bool = False
    """Refuses the deletion of the Tenant until it is set to false again."""
    restore_from: TenantId | None = None
    """The id of a tenant whose Tenant is gone: its database, secrets and namespaces become this one's."""
    namespaces: TenantNamespaces | None = None
    """The tenant's namespaces, by default one named as it; what leaves the list follows deletionPolicy."""
    placement: Placement = Placement()
    """The region and class of the server that the tenant's database is made on; cannot be changed later."""
    pod_security: Literal["restricted", "baseline", "privileged"] = "restricted"
    """The Pod Security Standard that the namespaces enforce: restricted, baseline or privileged."""
    quota: Quota | None = None
    """What all namespaces together may use, by resource, e.g. requests.cpu, limits.memory, pods."""
    gpu_quota: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """How many GPUs all namespaces together may request; the quota of requests.nvidia.com/gpu."""
    limits: Limits | None = None
    """Bounds and defaults of each container in the namespaces (a LimitRange)."""
    network: Network = Network()
    """Whom the pods in the namespaces may talk to, and who may talk to them (NetworkPolicies)."""
    access: Access = Access()
    """Who may do what in the namespaces (RoleBindings)."""
    database: Database = Database()
    """The tenant's own PostgreSQL database; its connection lies in the Secret pipewright-database."""
    retention: Retention = Retention()
    """How long history and audit trail are kept; what is older is deleted."""
    model_pools: Annotated[
        tuple[DnsLabel, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Pools in which Models of the tenant may share runs with other tenants; a Model asks by its pool."""

    def named_namespaces(self, tenant: str) -> tuple[TenantNamespace, ...]:
        """Return the namespaces of the Tenant named ``tenant``."""
        return self.namespaces or (TenantNamespace(name=tenant),)

    def namespace_names(self, tenant: str) -> tuple[str, ...]:
        """Return the names of the namespaces of the Tenant named ``tenant``."""
        return tuple(namespace.name for namespace in self.named_namespaces(tenant))

    @property
    def whole_quota(self) -> dict[str, str]:
        """What all namespaces together may use, GPUs included; empty when nothing is bounded."""
        gpus = {} if self.gpu_quota is None else {"requests.nvidia.com/gpu": str(self.gpu_quota)}
        return {**(self.quota or {}), **gpus}


class NamespaceStatus(Base):
    """A namespace that was created for the tenant."""

    name: DnsLabel
    """The namespace's name."""
    uid: Annotated[str, Field(max_length=64)]
    """The namespace's UID, by which it is known to be the tenant's."""


class DatabaseStatus(Base):
    """Where the tenant's database is."""

    server: Annotated[str, Field(max_length=63)]
    """The platform's name of the database server."""
    name: Annotated[str, Field(max_length=63)]
    """The database's name on that server."""
    schema_version: Annotated[str, Field(max_length=64)] | None = None
    """The revision to which Pipewright's schema in the database was migrated."""
    credential_version: Count | None = None
    """Counts the passwords that the tenant's login has had."""
    active_login: Literal["app_a", "app_b"] | None = None
    """Which of the tenant's two logins the connection Secret names; they take turns at each rotation."""
    rotated_at: Time | None = None
    """When the passwords that count now were made."""
    next_rotation_at: Time | None = None
    """When the next passwords are due; absent without a period."""
    old_credential_refused_at: Time | None = None
    """When the login of before was tried with its old password and refused; absent while it works on."""


class VaultStatus(Base):
    """Where the tenant's secrets are."""

    path: Annotated[str, Field(max_length=255)]
    """The path in Vault that the tenant's ServiceAccount may read and write."""
    role: Annotated[str, Field(max_length=128)]
    """The role to name when logging in to Vault with the ServiceAccount's token."""
    credentials: Annotated[str, Field(max_length=255)] | None = None
    """The path in Vault of which a read makes a short-lived login to the database."""


class TenantStatus(Status):
    """What the tenant has."""

    id: Annotated[str, Field(max_length=12)] | None = None
    """The tenant's id, which names its database, logins and Vault path; never used twice."""
    namespaces: Annotated[tuple[NamespaceStatus, ...], Field(max_length=16)] = ()
    """The namespaces that exist."""
    database: DatabaseStatus | None = None
    """The database that exists."""
    vault: VaultStatus | None = None
    """The place in Vault that exists."""
    deletion_plan: DeletionPlan | None = None
    """What the deletion does, while the Tenant is being deleted."""
    checked_for: Annotated[str, Field(max_length=256)] | None = None
    """The annotation pipewright.dev/check-requested-at as the last check that it asked for has seen it."""


class Tenant(Resource):
    """A team with its own namespace, access, quota, PostgreSQL database and place in Vault."""

    model_config = ConfigDict(
        json_schema_extra=rules(_OWN_NAME_NOT_RESERVED, _NAMESPACES_STAY, _PLACEMENT_STAYS, _RESTORE_STAYS)
    )

    kind: ClassVar[str] = "Tenant"
    plural: ClassVar[str] = "tenants"
    singular: ClassVar[str] = "tenant"
    short_names: ClassVar[tuple[str, ...]] = ("ptn",)
    scope: ClassVar[Literal["Cluster", "Namespaced"]] = "Cluster"
    name_length: ClassVar[int] = 40
    printer_columns: ClassVar[tuple[Column, ...]] = (
        *condition_columns(),
        Column(
            name="Namespace", path=".status.namespaces[0].name", description="The tenant's first namespace."
        ),
        AGE,
        Column(name="Id", path=".status.id", description="The tenant's id.", priority=1),
        MESSAGE,
    )

    spec: TenantSpec = TenantSpec()
    """What the tenant shall have."""
    status: TenantStatus = TenantStatus()
    """What the tenant has; written by Pipewright."""


__all__ = [
    "Access",
    "Database",
    "Limits",
    "Network",
    "Placement",
    "Quota",
    "Retention",
    "Rotation",
    "Subject",
    "Tenant",
    "TenantNamespace",
    "TenantSpec",
    "TenantStatus",
]
