"""In-memory answers to the ports that PostgreSQL answers, held to the same contract tests.

`MemoryServer` is what databases and logins share, as the real ones share a server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipewright import errors
from pipewright.facts import TENANT_LOGINS, DynamicLogins, Expired, Proof, Rollout, Server, Sweep
from pipewright.ports import LOGINS, Connection, Database, Dump, Login, Registration, Secret
from pipewright.store import placement, roles

HEAD = "head"
"""The one version of the schema there is in memory."""
TRUSTED, SUPERUSERS_ONLY = "citext", "file_fdw"
"""The extensions there are in memory."""


class MemoryRegistry:
    """`pipewright.ports.Registry` in a dictionary."""

    def __init__(self) -> None:
        self._by_id: dict[str, Registration] = {}
        self._wrapped: dict[str, str] = {}
        self._rollouts: dict[str, Rollout] = {}
        self._kept: dict[str, dict[str, str]] = {}
        self.bundles: dict[str, bytes] = {}
        """Tenant id → what was sealed for the gateway."""
        self.audit: dict[str, list[datetime]] = {}
        """Tenant id → times of lines that a test put into its audit trail."""

    async def find(self, *, uid: str) -> Registration | None:
        """The registration of the Tenant with this UID."""
        found = next((found for found in self._by_id.values() if found.uid == uid), None)
        return replace(found, rollout=self._rollout(found.server)) if found else None

    async def get(self, tenant_id: str) -> Registration | None:
        """The registration with this id."""
        found = self._by_id.get(tenant_id)
        return replace(found, rollout=self._rollout(found.server)) if found else None

    async def rebind(
        self, tenant_id: str, *, uid: str, name: str, previous_uid: str, namespaces: Collection[str]
    ) -> None:
        """Make this Tenant the owner, if the previous one still is."""
        found = self._get(tenant_id)
        if found.uid == uid:
            return
        if found.uid != previous_uid or found.state == "Deleted":
            raise errors.Conflict(f"tenant {tenant_id} is no longer that of UID {previous_uid}")
        taken = {one for it in self._by_id.values() if it.id != tenant_id for one in it.namespaces.values()}
        kept = self._kept.pop(tenant_id, {}) | dict(found.namespaces)
        self._by_id[tenant_id] = replace(
            found,
            uid=uid,
            name=name,
            state="Restoring",
            previous_uids=(*found.previous_uids, previous_uid),
            namespaces={key: it for key, it in kept.items() if key in namespaces and it not in taken},
            dump=None,
        )

    async def record_dump(self, tenant_id: str, dump: Dump) -> None:
        """Remember the last dump."""
        self._by_id[tenant_id] = replace(self._get(tenant_id), dump=dump)

    async def register(self, *, uid: str, name: str, servers: Sequence[Server]) -> Registration:
        """Allot a random id and a place on a server; the same UID gets the same again."""
        found = await self.find(uid=uid)
        if found is None:
            live = Counter(row.server for row in self._by_id.values() if row.state != "Deleted")
            found = Registration(
                id=roles.new_id(),
                uid=uid,
                name=name,
                server=placement.choose(servers, live),
                state="Active",
                namespaces={},
                bundle_version=None,
                bundle_key=None,
                created_at=datetime.now(UTC),
            )
            self._by_id[found.id] = found
        return found

    async def confirm(self, tenant_id: str, *, uid: str) -> None:
        """Read the owner live."""
        found = self._by_id.get(tenant_id)
        if found is None or found.uid != uid:
            holder = f"the Tenant with UID {found.uid}" if found else "nobody"
            raise errors.OwnedByOther(f"tenant {tenant_id} belongs to {holder}")

    async def bind_namespace(self, tenant_id: str, *, name: str, uid: str, owner: str) -> None:
        """Record a namespace as the tenant's; rows of its name under other UIDs are of what is gone."""
        found = self._get(tenant_id)
        await self.confirm(tenant_id, uid=owner)
        others = [other for other in self._by_id.values() if other.id != tenant_id]
        if any(uid in other.namespaces.values() for other in others):
            raise errors.OwnedByOther(f"namespace {name} belongs to another tenant; choose another name")
        for other in others:
            if name in other.namespaces:
                kept = {key: value for key, value in other.namespaces.items() if key != name}
                self._by_id[other.id] = replace(other, namespaces=kept)
        self._by_id[tenant_id] = replace(found, namespaces={**found.namespaces, name: uid})

    async def unbind_namespace(self, tenant_id: str, *, name: str, uid: str) -> None:
        """Record that the namespace is the tenant's no more."""
        found = self._get(tenant_id)
        if found.namespaces.get(name) == uid:
            kept = {key: value for key, value in found.namespaces.items() if key != name}
            self._by_id[tenant_id] = replace(found, namespaces=kept)

    async def mark(
        self, tenant_id: str, *, state: str, uid: str | None = None, abandoned: Sequence[str] = ()
    ) -> None:
        """Set the state. Retained and Deleted free the namespaces; Deleted forgets what was sealed, too."""
        found = self._get(tenant_id)
        back = found.state == "Deleting" and state in ("Active", "Suspended")
        over = found.state in ("Retained", "Deleted") or back
        if (over and found.state != state) or uid not in (None, found.uid):
            raise errors.Conflict(f"tenant {tenant_id} has gone further than {state} meanwhile")
        found = replace(found, state=state)
        if state != "Deleting":
            found = replace(found, previous_uids=())
        if state == "Retained":
            self._kept[tenant_id] = self._kept.get(tenant_id, {}) | dict(found.namespaces)
        if state in ("Retained", "Deleted"):
            found = replace(found, namespaces={})
        if state == "Deleted":
            found = replace(found, bundle_version=None, bundle_key=None, bundle_address=None, wrapped_by=None)
            self._wrapped.pop(tenant_id, None)
            self.bundles.pop(tenant_id, None)
        self._by_id[tenant_id] = found

    def rows(self) -> Collection[Registration]:
        """All of them."""
        return self._by_id.values()

    def keep_proof(self, tenant_id: str, proof: Proof) -> None:
        """Remember the last proof of isolation."""
        self._by_id[tenant_id] = replace(self._get(tenant_id), proof=proof)

    async def expire_audit(self, tenant_id: str, *, before: datetime) -> tuple[int, bool]:
        """There is no trail in memory, but for what a test put there; nothing younger than 30 days goes."""
        if before > datetime.now(UTC) - timedelta(days=30) + timedelta(hours=1):
            raise errors.BackendError("the audit trail is kept for 30 days at least")
        kept = [at for at in self.audit.get(tenant_id, []) if at >= before]
        gone = len(self.audit.get(tenant_id, [])) - len(kept)
        self.audit[tenant_id] = kept
        return gone, True

    async def record_sweep(self, tenant_id: str, sweep: Sweep, *, counts: Mapping[str, int]) -> None:
        """Remember the last sweep."""
        self._by_id[tenant_id] = replace(self._get(tenant_id), sweep=sweep)

    async def begin_upgrade(self, tenant_id: str) -> bool:
        """Whether the tenant's schema may be upgraded now."""
        found = self._get(tenant_id)
        now = self._rollout(found.server)
        if now is not None and now.state != "Rolling" and now.holder != tenant_id:
            return False
        if now is None or now.state == "Failed":
            self._roll(found, "Canary")
        return True

    async def finish_upgrade(self, tenant_id: str) -> None:
        """The tenant was upgraded; if its turn came first, the others follow."""
        found = self._get(tenant_id)
        now = self._rollouts.get(found.server)
        if now is not None and now.holder == tenant_id and now.state != "Rolling":
            self._roll(found, "Rolling")

    async def fail_upgrade(self, tenant_id: str, *, reason: str) -> None:
        """The tenant could not be upgraded: nobody else on its server is from now on."""
        found = self._get(tenant_id)
        now = self._rollouts.get(found.server)
        if now is not None and (now.state != "Failed" or now.holder == tenant_id):
            self._roll(found, "Failed", reason)

    def _rollout(self, server: str) -> Rollout | None:
        now = self._rollouts.get(server)
        gone = now is not None and self._by_id[now.holder].state in ("Deleting", "Retained", "Deleted")
        return None if now is not None and gone and now.state != "Rolling" else now

    def _roll(self, found: Registration, state: str, reason: str = "") -> None:
        now = datetime.now(UTC)
        self._rollouts[found.server] = Rollout(
            state=state, holder=found.id, name=found.name, reason=reason, at=now
        )

    async def store_bundle(
        self, tenant_id: str, *, version: int, key: str, address: str, bundle: bytes, wrapped_data_key: str
    ) -> None:
        """Store what the gateway needs for this tenant."""
        if self._wrapped.get(tenant_id, wrapped_data_key) != wrapped_data_key:
            raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
        self._by_id[tenant_id] = replace(
            self._get(tenant_id),
            bundle_version=version,
            bundle_key=key,
            bundle_address=address,
            wrapped_by=wrapped_data_key.rpartition(":")[0],
        )
        self._wrapped[tenant_id] = wrapped_data_key
        self.bundles[tenant_id] = bundle

    async def replace_data_key(self, tenant_id: str, *, expected: str, wrapped: str) -> None:
        """Store the same data key as it is wrapped now."""
        if self._wrapped.get(tenant_id) != expected:
            raise errors.Conflict(f"tenant {tenant_id} got another data key meanwhile")
        self._wrapped[tenant_id] = wrapped
        self._by_id[tenant_id] = replace(self._get(tenant_id), wrapped_by=wrapped.rpartition(":")[0])

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
    history: dict[str, list[tuple[str, datetime]]] = field(default_factory=dict)
    """Tenant id → rows of its history that a test put there: table and time."""

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
            extensions=found.extensions if found else frozenset(),
            logins=found.logins
            if found
            else {purpose: Login(enabled=False, version=None) for purpose in LOGINS},
            dynamic=found.dynamic if found else None,
        )

    async def hand_over(self, tenant_id: str, *, uid: str, previous: Collection[str]) -> None:
        """Mark the database with this UID."""
        found = self._present(tenant_id)
        if found.owner_uid not in (None, uid, *previous):
            raise errors.OwnedByOther(f"database {found.name} belongs to another Tenant")
        self._server.databases[tenant_id] = replace(found, owner_uid=uid)

    async def size(self, tenant_id: str) -> int | None:
        """An empty database's size; None when there is none."""
        return 8 * 1024 * 1024 if tenant_id in self._server.databases else None

    async def limit_connections(self, tenant_id: str, *, connection_limit: int) -> None:
        """Set the limit."""
        found = self._present(tenant_id)
        self._server.databases[tenant_id] = replace(found, connection_limit=connection_limit)

    async def migrate(self, tenant_id: str) -> None:
        """Set the schema's version."""
        found = self._present(tenant_id)
        self._server.databases[tenant_id] = replace(found, schema_version=HEAD, current=True)

    async def expire_history(
        self, tenant_id: str, *, events_before: datetime, runs_before: datetime
    ) -> Expired:
        """Of what a test put there: (table, time) pairs; a day of events is one."""
        self._present(tenant_id)
        if max(events_before, runs_before) > datetime.now(UTC) - timedelta(days=1) + timedelta(hours=1):
            raise errors.BackendError("history is kept for a day at least")
        rows = self._server.history.get(tenant_id, [])
        limits = {"events": events_before.replace(hour=0, minute=0, second=0, microsecond=0)}
        gone = [row for row in rows if row[1] < limits.get(row[0], runs_before)]
        self._server.history[tenant_id] = [row for row in rows if row not in gone]
        return Expired(counts=dict(Counter(table for table, _ in gone)), finished=True)

    async def create_extension(self, tenant_id: str, *, name: str) -> None:
        """Note it, if the server has it; `SUPERUSERS_ONLY` is one that it refuses."""
        found = self._present(tenant_id)
        if name not in (TRUSTED, SUPERUSERS_ONLY):
            message = f"server memory does not have the extension {name}"
            raise errors.Stalled("ExtensionUnavailable", message)
        if name == SUPERUSERS_ONLY:
            message = f"only a superuser of server memory may create the extension {name}"
            raise errors.Stalled("ExtensionNeedsSuperuser", message)
        self._server.databases[tenant_id] = replace(found, extensions=found.extensions | {name})

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


class MemoryDumps:
    """`pipewright.ports.Dumps` in a dictionary: tenant id → the UID that it was dumped under."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.missing = ""
        self.taken: dict[str, str] = {}

    async def take(self, tenant_id: str, *, uid: str) -> Dump:
        """Note that it was dumped."""
        if self._server.owned(tenant_id, uid=uid) is None:
            raise errors.Conflict(f"database {roles.database(tenant_id)} is not there")
        self.taken[tenant_id] = uid
        path = f"{tenant_id}/dumps/{uid}.dump"
        return Dump(path=path, sha256="0" * 64, bytes=1, taken_at=datetime(2026, 1, 1, tzinfo=UTC))


class MemoryLogins:
    """`pipewright.ports.Logins` in a dictionary."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def set(
        self,
        tenant_id: str,
        *,
        passwords: Mapping[str, Secret],
        version: int,
        granted: bool = False,
        suspended: bool = False,
    ) -> None:
        """Set these passwords, enable their logins and note the version."""
        found = self._server.databases.get(tenant_id)
        if found is None:
            raise errors.Conflict(
                f"database {roles.database(tenant_id)} is not complete; it is created first"
            )
        for purpose in passwords:
            roles.login(tenant_id, purpose)
        shut = Login(enabled=False, version=version, suspension="Ending")
        changed = {
            purpose: shut if suspended and purpose in TENANT_LOGINS else Login(enabled=True, version=version)
            for purpose in passwords
        }
        self._server.databases[tenant_id] = replace(found, logins={**found.logins, **changed})
        self._server.passwords.setdefault(tenant_id, {}).update(passwords)

    async def disable(self, tenant_id: str, *, uid: str) -> None:
        """Refuse all logins."""
        found = self._server.owned(tenant_id, uid=uid)
        if found is not None:
            disabled = {
                purpose: replace(login, enabled=False, suspension=None)
                for purpose, login in found.logins.items()
            }
            self._server.databases[tenant_id] = replace(found, logins=disabled)
        await self.close_dynamic(tenant_id, uid=uid)

    async def suspend(self, tenant_id: str, *, uid: str) -> None:
        """Refuse the tenant's own."""
        for purpose, login in self._tenants_own(tenant_id, uid=uid).items():
            if login.enabled or login.suspension == "Ending":
                self._change(tenant_id, purpose, enabled=False, suspension="Suspended")
        await self.close_dynamic(tenant_id, uid=uid)

    async def resume(self, tenant_id: str, *, uid: str) -> None:
        """Let in those that were refused with the tenant."""
        for purpose, login in self._tenants_own(tenant_id, uid=uid).items():
            if login.suspension is not None:
                self._change(tenant_id, purpose, enabled=True, suspension=None)

    def _tenants_own(self, tenant_id: str, *, uid: str) -> Mapping[str, Login]:
        found = self._server.owned(tenant_id, uid=uid)
        logins = found.logins if found is not None else {}
        return {purpose: login for purpose, login in logins.items() if purpose in TENANT_LOGINS}

    async def open_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Note that it is open; here nobody makes such a login."""
        found = self._server.owned(tenant_id, uid=uid)
        if found is None:
            raise errors.Conflict(f"database {roles.database(tenant_id)} is not there any more")
        ended = found.dynamic.ended if found.dynamic else 0
        self._server.databases[tenant_id] = replace(found, dynamic=DynamicLogins(open=True, ended=ended))

    async def close_dynamic(self, tenant_id: str, *, uid: str) -> None:
        """Note that it is closed."""
        found = self._server.owned(tenant_id, uid=uid)
        if found is not None and found.dynamic is not None:
            self._server.databases[tenant_id] = replace(found, dynamic=replace(found.dynamic, open=False))

    async def drop_ended(self, tenant_id: str, *, uid: str) -> None:
        """Forget them."""
        found = self._server.owned(tenant_id, uid=uid)
        if found is not None and found.dynamic is not None:
            self._server.databases[tenant_id] = replace(found, dynamic=replace(found.dynamic, ended=0))

    async def begin_overlap(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note since when its successor is in all clients' hands."""
        self._change(tenant_id, purpose, overlap_since=at.replace(microsecond=0))

    async def retire(self, tenant_id: str, *, purpose: str, uid: str) -> None:
        """Refuse one of them."""
        if self._server.owned(tenant_id, uid=uid) is not None:
            self._change(tenant_id, purpose, enabled=False)
            self._server.passwords.get(tenant_id, {}).pop(purpose, None)

    async def is_refused(self, tenant_id: str, *, purpose: str, password: Secret) -> bool:
        """Whether the login is disabled, or its password another."""
        found = self._server.databases.get(tenant_id)
        known = self._server.passwords.get(tenant_id, {}).get(purpose)
        return found is None or not found.logins[purpose].enabled or known != password

    async def note_refused(self, tenant_id: str, *, purpose: str, at: datetime) -> None:
        """Note that the old password was tried and refused."""
        self._change(tenant_id, purpose, refused_at=at.replace(microsecond=0), suspension=None)

    def _change(self, tenant_id: str, purpose: str, **changes: Any) -> None:
        found = self._server.databases.get(tenant_id)
        if found is None or purpose not in found.logins:
            role = roles.login(tenant_id, purpose)
            raise errors.Conflict(f"role {role} is not there any more, or nobody's")
        changed = replace(found.logins[purpose], **changes)
        self._server.databases[tenant_id] = replace(found, logins={**found.logins, purpose: changed})

    def connection(self, tenant_id: str) -> Connection:
        """Where clients would find the tenant's database."""
        return Connection(
            server="memory", host="memory.invalid", port=5432, database=roles.database(tenant_id)
        )

    def username(self, tenant_id: str, purpose: str) -> str:
        """The role's name for a purpose of `LOGINS`."""
        return roles.login(tenant_id, purpose)
