"""What the Tenant controller needs besides: the registry, database servers, and ways into Vault."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pipewright.facts import (
    Connection,
    Database,
    Dump,
    DynamicTerms,
    Expired,
    Registration,
    Rollout,
    SecretAccess,
    Server,
    Sweep,
    WrappingKey,
)
from pipewright.ports.common import Cluster, Sealer, Secret, SecretStore
from pipewright.ports.isolation import Isolation


class Registry(Protocol):
    """The registry of tenants in the platform database."""

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        ...

    async def get(self, tenant_id: str) -> Registration | None:
        """The registration with this id, whoever its Tenant is or was."""
        ...

    async def rebind(
        self, tenant_id: str, *, uid: str, name: str, previous_uid: str, namespaces: Collection[str]
    ) -> None:
        """Make this Tenant the owner, if the previous one still is (compare-and-swap); state `Restoring`.

        Of the namespaces that the registry knew, those of these names are the tenant's again.

        Raises:
            Conflict: another Tenant is the owner meanwhile, or the data were deleted for good.
        """
        ...

    async def record_dump(self, tenant_id: str, dump: Dump) -> None:
        """Remember where the last dump lies."""
        ...

    async def register(self, *, uid: str, name: str, servers: Sequence[Server]) -> Registration:
        """Allot a random id (12 characters of a 32-letter alphabet); the same UID gets the same id again.

        The tenant is placed on the least filled of the servers. Two that register at once are counted one
        after the other, so that no server gets more than its capacity.

        Raises:
            Waiting: all of them are full.
        """
        ...

    async def confirm(self, tenant_id: str, *, uid: str) -> None:
        """Read the owner live, before something is destroyed that carries no mark of its own.

        Raises:
            OwnedByOther: the id is another Tenant's, or nobody's.
        """
        ...

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str, owner: str) -> None:
        """Record a namespace as the tenant's, if the Tenant with the UID `owner` is the tenant's owner.

        Raises:
            OwnedByOther: the namespace's UID belongs to another tenant, or the tenant to another owner.
        """
        ...

    async def unbind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record that the namespace with this UID is the tenant's no more; done already counts as done."""
        ...

    async def mark(
        self, tenant_id: str, *, state: str, uid: str | None = None, abandoned: Sequence[str] = ()
    ) -> None:
        """Set the tenant's state; `Retained` and `Deleted` also free its namespaces.

        `Active` after `Suspended` is remembered as the time of the last resume; `Deleted` also forgets the
        deliveries that are parked.

        With `uid` only while that Tenant is the owner. `abandoned` names parts that were left behind, for
        the audit trail.

        Raises:
            Conflict: it is another Tenant's by now, Retained or Deleted already, or would go back from
                Deleting to Active or Suspended.
        """
        ...

    async def expire_audit(self, tenant_id: str, *, before: datetime) -> tuple[int, bool]:
        """Delete lines of the tenant's audit trail; how many, and whether no older ones are left.

        Raises:
            BackendError: `before` is less than 30 days ago.
        """
        ...

    async def record_sweep(self, tenant_id: str, sweep: Sweep, *, counts: Mapping[str, int]) -> None:
        """Remember the last sweep; what it deleted is a line of the audit trail."""
        ...

    async def begin_upgrade(self, tenant_id: str) -> bool:
        """Whether the tenant's schema may be upgraded to this release's now.

        The first of a server that asks goes first, alone; when it was upgraded, the others may.
        """
        ...

    async def finish_upgrade(self, tenant_id: str) -> None:
        """The tenant was upgraded; if it went first, or had failed, the others follow."""
        ...

    async def fail_upgrade(self, tenant_id: str, *, reason: str) -> None:
        """The tenant could not be upgraded: nobody else on its server is from now on."""
        ...

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, address: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant, sealed to its key.

        Raises:
            Conflict: another data key is there; it is never overwritten.
        """
        ...

    async def replace_data_key(self, tenant_id: str, *, expected: str, wrapped: str) -> None:
        """Store the same data key as it is wrapped now.

        Raises:
            Conflict: another text is there than the expected one.
        """
        ...

    async def wrapped_data_key(self, tenant_id: str) -> str | None:
        """The tenant's data key as it was wrapped."""
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

    async def size(self, tenant_id: str) -> int | None:
        """How many bytes the database takes; None when there is none."""
        ...

    async def hand_over(self, tenant_id: str, *, uid: str, previous: Collection[str]) -> None:
        """Mark database and roles with this UID; nothing else of them changes. Done already counts as done.

        Raises:
            OwnedByOther: a mark is neither this UID nor one of the previous.
        """
        ...

    async def limit_connections(self, tenant_id: str, *, connection_limit: int) -> None:
        """Set CONNECTION LIMIT of each of the tenant's own logins."""
        ...

    async def migrate(self, tenant_id: str) -> None:
        """Upgrade the schema `pipewright` to this release's version, as the migrator."""
        ...

    async def expire_history(
        self, tenant_id: str, *, events_before: datetime, runs_before: datetime
    ) -> Expired:
        """Delete history that is older, as the migrator, for some seconds at most.

        Days of raw events go whole; runs and what belongs to them by when they ended.

        Raises:
            BackendError: one of the times is less than a day ago.
        """
        ...

    async def create_extension(self, tenant_id: str, *, name: str) -> None:
        """Create the extension in the tenant's database, if it can be done without a superuser.

        Raises:
            Stalled: the server does not have it, or only a superuser may create it.
        """
        ...

    async def drop(self, tenant_id: str, *, uid: str) -> None:
        """Drop database and roles after reading the owner live.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...


class Dumps(Protocol):
    """Dumps of tenants' databases in the artifact store."""

    @property
    def missing(self) -> str:
        """What this process lacks to take one, as a sentence; empty when nothing."""
        ...

    async def take(self, tenant_id: str, *, uid: str) -> Dump:
        """Dump the database into `<id>/dumps/<uid>.dump`, in the place of one that is there.

        Raises:
            OwnedByOther: the database carries another UID.
            Waiting: it takes longer than one look; the same call later has the result.
        """
        ...


class Logins(Protocol):
    """The roles that may log in to a tenant's database."""

    async def set(
        self,
        tenant_id: str,
        *,
        passwords: Mapping[str, Secret],
        version: int,
        granted: bool = False,
        suspended: bool = False,
    ) -> None:
        """Create the logins that are missing, set the passwords, enable, and note the version on each.

        `granted`: the database was created a moment ago, and the logins with all their grants.
        With `suspended` those that the tenant itself uses stay shut until `resume`.
        """
        ...

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for all of them, for good, and end their sessions; closed to short-lived ones, too.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def suspend(self, tenant_id: str, *, uid: str) -> None:
        """NOLOGIN for those of the tenant's own that may log in, noted on each, and end their sessions.

        Closed to short-lived ones, too: to open it to them again is not a part of `resume`.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def resume(self, tenant_id: str, *, uid: str) -> None:
        """LOGIN for exactly those that `suspend` shut out; their passwords are as they were.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def open_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Let the logins that Vault makes connect, acting as the owner of the tenant's schema.

        Raises:
            OwnedByOther: the database carries another UID.
            Stalled: the server has no login for Vault's database engine.
        """
        ...

    async def close_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Let them connect no more, and end their sessions.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def drop_ended(self, tenant_id: str, *, uid: str) -> None:
        """Drop those that Vault locked and could not drop; what they own becomes the tenant's.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def begin_overlap(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note on the login since when its successor is in all clients' hands."""
        ...

    async def retire(self, tenant_id: str, *, purpose: str, uid: str) -> None:
        """NOLOGIN for one of them, without a password, and end its sessions.

        Raises:
            OwnedByOther: the database carries another UID.
        """
        ...

    async def is_refused(self, tenant_id: str, *, purpose: str, password: Secret) -> bool:
        """Whether the server refuses this login with this password: it is tried.

        Raises:
            Unreachable: the server gave no answer, which proves nothing.
        """
        ...

    async def note_refused(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note on the login that its old password was tried and refused."""
        ...

    def connection(self, tenant_id: str) -> Connection:
        """Where clients find the tenant's database."""
        ...

    def username(self, tenant_id: str, purpose: str) -> str:
        """The role's name for a purpose of `LOGINS`."""
        ...


class SecretGrants(Protocol):
    """The tenant's Vault policy and Kubernetes-auth role."""

    @property
    def available(self) -> bool:
        """Whether tenants have a path of their own: not without Vault, and then nothing is ever granted."""
        ...

    @property
    def dynamic(self) -> bool:
        """Whether Vault can make short-lived logins: not without its database engine."""
        ...

    async def find(self, tenant_id: str, *, partly: bool = False) -> SecretAccess | None:
        """Both as they stand; None when either is missing, with `partly` only when both are."""
        ...

    def wanted(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> SecretAccess | None:
        """What they ought to be; None when there is nothing to grant."""
        ...

    async def grant(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> None:
        """Write both as `wanted` says; with `dynamic` they let the tenant use the database engine's role.

        That one is written apart; `find` sees it once these are there.
        """
        ...

    async def grant_database_role(self, tenant_id: str, terms: DynamicTerms) -> None:
        """Write the database engine's role.

        Raises:
            Waiting: the database engine has no connection to the tenant's server.
        """
        ...

    async def withdraw_database_role(self, tenant_id: str) -> None:
        """Remove the database engine's role; logins that it made live on until they end."""
        ...

    async def revoke(self, tenant_id: str) -> None:
        """Remove role, the database engine's role and policy."""
        ...


class DataKeys(Protocol):
    """Per-tenant data keys, wrapped under a key of the tenant's own: Vault transit's, or a Secret's."""

    async def create(self, tenant_id: str) -> tuple[str, Secret]:
        """A new data key: wrapped text, and the key itself (base64, 32 bytes)."""
        ...

    async def open(self, tenant_id: str, wrapped: str) -> Secret:
        """Unwrap."""
        ...

    @property
    def scheme(self) -> str:
        """How a text begins that this one wrapped."""
        ...

    async def newest(self, tenant_id: str) -> WrappingKey | None:
        """The wrapping key; None when there is none."""
        ...

    async def rotate(self, tenant_id: str, *, expected: int) -> None:
        """Make another version of the wrapping key, if this one is the newest. The data key stays."""
        ...

    async def rewrap(self, tenant_id: str, wrapped: str) -> str:
        """The same data key, wrapped by the newest version; nobody sees it."""
        ...

    async def destroy(self, tenant_id: str) -> None:
        """Delete the tenant's wrapping key: what it wrapped is unreadable from then on."""
        ...


class Sweeps(Protocol):
    """What the metrics tell of sweeps."""

    def saw(self, tenant_id: str, sweep: Sweep | None, *, counts: Mapping[str, int] = ...) -> None:
        """The tenant's last sweep, and what it deleted just now."""
        ...

    def forget(self, tenant_id: str) -> None:
        """The tenant goes."""
        ...


class Rollouts(Protocol):
    """What the metrics tell of the roll-out of this release's schema."""

    def saw(self, server: str, rollout: Rollout | None) -> None:
        """How far it has come on the server; None: it has not begun."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPorts:
    """One server for tenants' databases."""

    databases: Databases
    logins: Logins
    dumps: Dumps


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionerPorts:
    """Everything the Tenant controller may reach.

    `databases`, `logins` and `dumps` are those of one server; `at` gives the ports of a tenant's own.
    """

    cluster: Cluster
    registry: Registry
    databases: Databases
    logins: Logins
    dumps: Dumps
    secrets: SecretStore
    grants: SecretGrants
    data_keys: DataKeys
    sealer: Sealer
    servers: Mapping[str, ServerPorts]
    """By the servers' names, as the registry has them: those that the settings name."""
    isolation: Isolation | None = None
    """None: the settings switch the proofs of isolation off."""
    sweeps: Sweeps | None = None
    rollouts: Rollouts | None = None
    """Both None: nobody asks for metrics."""

    def at(self, server: str) -> ProvisionerPorts | None:
        """These ports with the databases and logins of this server; None when it is not served here."""
        found = self.servers.get(server)
        return (
            replace(self, databases=found.databases, logins=found.logins, dumps=found.dumps)
            if found
            else None
        )
