"""In-memory answers to the ports that PostgreSQL answers, held to the same contract tests.

`MemoryServer` is what databases and logins share, as the real ones share a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipewright import errors
from pipewright.ports import LOGINS, Connection, Database, Login, Registration, Secret
from pipewright.store import roles

HEAD = "head"
"""The one version of the schema there is in memory."""


class MemoryRegistry:
    """`pipewright.ports.Registry` in a dictionary."""

    def __init__(self) -> None:
        self._by_id: dict[str, Registration] = {}
        self._wrapped: dict[str, str] = {}
        self.bundles: dict[str, bytes] = {}
        """Tenant id → what was sealed for the gateway."""

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        return next((found for found in self._by_id.values() if found.uid == uid), None)

    async def register(self, *, uid: str, name: str, server: str) -> Registration:
        """Allot a random id; the same UID gets the same id again."""
        found = await self.find(uid=uid)
        if found is None:
            found = Registration(
                id=roles.new_id(),
                uid=uid,
                name=name,
                server=server,
                state="Active",
                namespaces={},
                bundle_version=None,
                bundle_key=None,
            )
            self._by_id[found.id] = found
        return found

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record a namespace as the tenant's; rows of its name under other UIDs are of what is gone."""
        found = self._get(tenant_id)
        others = [other for other in self._by_id.values() if other.id != tenant_id]
        if any(uid in other.namespaces.values() for other in others):
            raise errors.OwnedByOther(f"namespace {name} belongs to another tenant; choose another name")
        for other in others:
            kept = {key: value for key, value in other.namespaces.items() if key != name}
            self._by_id[other.id] = replace(other, namespaces=kept)
        self._by_id[tenant_id] = replace(found, namespaces={**found.namespaces, name: uid})

    async def unbind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record that the namespace is the tenant's no more."""
        found = self._get(tenant_id)
        if found.namespaces.get(name) == uid:
            kept = {key: value for key, value in found.namespaces.items() if key != name}
            self._by_id[tenant_id] = replace(found, namespaces=kept)

    async def mark(self, tenant_id: str, *, state: str) -> None:
        """Set the state. Retained and Deleted free the namespaces; Deleted forgets what was sealed, too."""
        found = self._get(tenant_id)
        over = found.state in ("Retained", "Deleted") or (found.state, state) == ("Deleting", "Active")
        if over and found.state != state:
            raise errors.Conflict(f"tenant {tenant_id} has gone further than {state} meanwhile")
        found = replace(found, state=state)
        if state in ("Retained", "Deleted"):
            found = replace(found, namespaces={})
        if state == "Deleted":
            found = replace(found, bundle_version=None, bundle_key=None)
            self._wrapped.pop(tenant_id, None)
            self.bundles.pop(tenant_id, None)
        self._by_id[tenant_id] = found

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant."""
        if self._wrapped.get(tenant_id, wrapped_data_key) != wrapped_data_key:
            raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
        self._by_id[tenant_id] = replace(self._get(tenant_id), bundle_version=version, bundle_key=key)
        self._wrapped[tenant_id] = wrapped_data_key
        self.bundles[tenant_id] = bundle

    async def wrapped_data_key(self, tenant_id: str) -> str | None:
        """The tenant's data key as it was wrapped."""
        return self._wrapped.get(tenant_id)

    def _get(self, tenant_id: str) -> Registration:
        found = self._by_id.get(tenant_id)
        if found is None:
            raise errors.Conflict(f"tenant {tenant_id} is not in the registry")
        return found


@dataclass(slots=True)
class MemoryServer:
    """Tenant id → its database; and the passwords that its logins have."""

    databases: dict[str, Database] = field(default_factory=dict)
    passwords: dict[str, dict[str, Secret]] = field(default_factory=dict)

    def owned(self, tenant_id: str, *, uid: str) -> Database | None:
        """The tenant's database, if it is this Tenant's."""
        found = self.databases.get(tenant_id)
        if found is not None and found.owner_uid not in (None, uid):
            raise errors.OwnedByOther(f"database {found.name} belongs to another Tenant")
        return found


class MemoryDatabases:
    """`pipewright.ports.Databases` in a dictionary."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def find(self, tenant_id: str) -> Database | None:
        """What the server has for this tenant."""
        return self._server.databases.get(tenant_id)

    async def create(self, tenant_id: str, *, uid: str, connection_limit: int) -> None:
        """Make the database with its logins disabled, or set what is missing."""
        found = self._server.owned(tenant_id, uid=uid)
        self._server.databases[tenant_id] = Database(
            name=roles.database(tenant_id),
            owner_uid=uid,
            connection_limit=connection_limit,
            schema_version=HEAD,
            current=True,
            closed_to_public=True,
            logins=found.logins
            if found
            else {purpose: Login(enabled=False, version=None) for purpose in LOGINS},
        )

    async def limit_connections(self, tenant_id: str, *, connection_limit: int) -> None:
        """Set the limit."""
        found = self._present(tenant_id)
        self._server.databases[tenant_id] = replace(found, connection_limit=connection_limit)

    async def migrate(self, tenant_id: str) -> None:
        """Set the schema's version."""
        found = self._present(tenant_id)
        self._server.databases[tenant_id] = replace(found, schema_version=HEAD, current=True)

    async def drop(self, tenant_id: str, *, uid: str) -> None:
        """Forget database and logins."""
        self._server.owned(tenant_id, uid=uid)
        self._server.databases.pop(tenant_id, None)
        self._server.passwords.pop(tenant_id, None)

    def _present(self, tenant_id: str) -> Database:
        found = self._server.databases.get(tenant_id)
        if found is None:
            raise errors.Unreachable(f"database {roles.database(tenant_id)} is not there")
        return found


class MemoryLogins:
    """`pipewright.ports.Logins` in a dictionary."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def set(self, tenant_id: str, *, passwords: Mapping[str, Secret], version: int) -> None:
        """Set these passwords, enable their logins and note the version."""
        found = self._server.databases.get(tenant_id)
        if found is None:
            raise errors.Conflict(
                f"database {roles.database(tenant_id)} is not complete; it is created first"
            )
        for purpose in passwords:
            roles.login(tenant_id, purpose)
        enabled = {purpose: Login(enabled=True, version=version) for purpose in passwords}
        self._server.databases[tenant_id] = replace(found, logins={**found.logins, **enabled})
        self._server.passwords.setdefault(tenant_id, {}).update(passwords)

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """Refuse all logins."""
        found = self._server.owned(tenant_id, uid=uid)
        if found is not None:
            disabled = {purpose: replace(login, enabled=False) for purpose, login in found.logins.items()}
            self._server.databases[tenant_id] = replace(found, logins=disabled)

    def connection(self, tenant_id: str) -> Connection:
        """Where clients would find the tenant's database."""
        return Connection(
            server="memory", host="memory.invalid", port=5432, database=roles.database(tenant_id)
        )

    def username(self, tenant_id: str, purpose: str) -> str:
        """The role's name for a purpose of `LOGINS`."""
        return roles.login(tenant_id, purpose)
