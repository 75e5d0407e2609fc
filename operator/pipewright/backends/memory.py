"""In-memory answers to the ports, held to the same contract tests as the real backends.

They keep the rules that callers rely on (UIDs, preconditions, finalizers, check-and-set), not more: no
validation, no admission, no defaulting. A behaviour is proved on the real servers.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipewright import errors, names
from pipewright.facts import DatabaseRole, DynamicTerms
from pipewright.plan import Manifest, Ref
from pipewright.ports import Issued, Secret, SecretAccess, WrappingKey


class MemoryCluster:
    """`pipewright.ports.Cluster` in a dictionary. `writes` counts what changed something."""

    def __init__(self) -> None:
        self._objects: dict[Ref, dict[str, Any]] = {}
        self._version = 0
        self.writes: list[str] = []

    async def get(self, ref: Ref) -> Manifest | None:
        """The object as it is now."""
        found = self._objects.get(ref)
        return _copied(found) if found is not None else None

    async def get_all(self, refs: Collection[Ref]) -> Mapping[Ref, Manifest | None]:
        """Each of these objects."""
        return {ref: await self.get(ref) for ref in refs}

    async def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Sequence[Manifest]:
        """All objects of a kind (in a namespace, with these labels)."""
        wanted = (labels or {}).items()
        return [
            _copied(found)
            for ref, found in sorted(self._objects.items(), key=lambda item: str(item[0]))
            if (ref.api_version, ref.kind) == (api_version, kind)
            and namespace in (None, ref.namespace)
            and wanted <= found["metadata"].get("labels", {}).items()
        ]

    async def apply(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Merge the fields that the manifest names; lists are replaced."""
        ref = Ref.of(manifest)
        found = self._objects.get(ref)
        if found is None and subresource is not None:
            raise errors.Waiting("NotFound", f"{ref}: its namespace or the object itself is not there")
        if found is None:
            self._require_namespace(ref)
            found = self._new(manifest)
        wanted_uid = manifest["metadata"].get("uid")
        if wanted_uid is not None and wanted_uid != found["metadata"]["uid"]:
            raise errors.Conflict(f"apply {ref}: the object changed meanwhile")
        seen = manifest["metadata"].get("resourceVersion")
        if seen is not None and seen != found["metadata"].get("resourceVersion"):
            raise errors.Conflict(f"apply {ref}: the object changed meanwhile")
        before = _copied(found)
        if subresource is None:
            _merge(found, manifest)
        else:
            found[subresource] = _copied(dict(manifest[subresource]))
        return self._store(ref, found, before=before, verb="apply")

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create the object, and return it; None when one of that name is there already."""
        ref = Ref.of(manifest)
        if ref in self._objects:
            return None
        self._require_namespace(ref)
        made = self._new(manifest)
        _merge(made, manifest)
        return self._store(ref, made, before=None, verb="create")

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete if the UID is the same; with finalizers it only begins to go."""
        found = self._objects.get(ref)
        if found is None or found["metadata"]["uid"] != uid:
            return
        if found["metadata"].get("finalizers"):
            found["metadata"].setdefault("deletionTimestamp", _stamp())
        else:
            del self._objects[ref]
        self.writes.append(f"delete {ref}")

    async def set_finalizers(self, ref: Ref, *, finalizers: Sequence[str], resource_version: str) -> None:
        """Replace the finalizers, if the object is still at this version."""
        found = self._objects.get(ref)
        if found is None:
            return
        if found["metadata"]["resourceVersion"] != resource_version:
            raise errors.Conflict(f"set the finalizers of {ref}: the object changed meanwhile")
        found["metadata"]["finalizers"] = list(finalizers)
        self._touch(found)
        self.writes.append(f"finalizers {ref}")
        if not finalizers and "deletionTimestamp" in found["metadata"]:
            del self._objects[ref]

    async def remove_metadata(
        self, ref: Ref, *, uid: str, labels: Sequence[str], annotations: Sequence[str]
    ) -> None:
        """Remove labels and annotations, whoever set them."""
        found = self._objects.get(ref)
        if found is None:
            return
        if found["metadata"]["uid"] != uid:
            raise errors.Conflict(f"change {ref}: another object has this name now")
        before = _copied(found)
        for part, keys in (("labels", labels), ("annotations", annotations)):
            for key in keys:
                found["metadata"].get(part, {}).pop(key, None)
        self._store(ref, found, before=before, verb="remove metadata of")

    def _require_namespace(self, ref: Ref) -> None:
        home = Ref(api_version="v1", kind="Namespace", name=ref.namespace or "")
        if ref.namespace is not None and home not in self._objects:
            raise errors.Waiting("NotFound", f"{ref}: its namespace or the object itself is not there")

    def _new(self, manifest: Manifest) -> dict[str, Any]:
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": _stamp(), "generation": 1}
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}

    def _store(
        self, ref: Ref, found: dict[str, Any], *, before: dict[str, Any] | None, verb: str
    ) -> Manifest:
        if before != found or ref not in self._objects:
            if before is not None and before.get("spec") != found.get("spec") and ref in self._objects:
                found["metadata"]["generation"] += 1
            self._touch(found)
            self.writes.append(f"{verb} {ref}")
        self._objects[ref] = found
        copied: Manifest = _copied(found)
        return copied

    def _touch(self, found: dict[str, Any]) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)


class MemorySecretStore:
    """`pipewright.ports.SecretStore` in a dictionary."""

    def __init__(self) -> None:
        self._versions: dict[str, list[dict[str, Secret]]] = {}
        self._written: dict[str, datetime] = {}
        self._owners: dict[str, str] = {}
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        """The clock of the store."""

    async def version(self, path: str) -> int | None:
        """The current version."""
        return len(self._versions[path]) if path in self._versions else None

    async def issued(self, path: str) -> Issued | None:
        """The current version and when it was written."""
        found = await self.version(path)
        return None if found is None else Issued(version=found, at=self._written[path])

    async def read(self, path: str, *, version: int | None = None) -> Mapping[str, Secret] | None:
        """The fields of the current version, or of an older one."""
        kept = self._versions.get(path, [])
        wanted = len(kept) if version is None else version
        return dict(kept[wanted - 1]) if 0 < wanted <= len(kept) else None

    async def create(self, path: str, fields: Mapping[str, Secret], *, owner: str) -> int | None:
        """Write if nothing is there."""
        if path in self._versions:
            return None
        self._owners[path] = owner
        await self.write(path, fields)
        return len(self._versions[path])

    async def replace(self, path: str, fields: Mapping[str, Secret], *, expected: int) -> bool:
        """Write a new version if the current one is still the expected one."""
        if await self.version(path) != expected:
            return False
        await self.write(path, fields)
        return True

    async def hand_over(self, tenant_id: str, *, owner: str, previous: Collection[str]) -> None:
        """Mark what a previous owner marked."""
        marked = {path: uid for path, uid in self._owners.items() if path.startswith(f"{tenant_id}/")}
        for path, found in marked.items():
            if found not in (owner, *previous):
                raise errors.OwnedByOther(f"the secret {path} belongs to the Tenant with UID {found}")
        self._owners.update(dict.fromkeys(marked, owner))

    async def write(self, path: str, fields: Mapping[str, Secret]) -> None:
        """Write a new version."""
        self._versions.setdefault(path, []).append(dict(fields))
        self._written[path] = self.now()

    async def purge(self, tenant_id: str, *, owner: str) -> None:
        """Delete everything below the tenant's path."""
        paths = [path for path in self._versions if path.startswith(f"{tenant_id}/")]
        for path in paths:
            found = self._owners.get(path, owner)
            if found != owner:
                raise errors.OwnedByOther(f"the secret {path} belongs to the Tenant with UID {found}")
        for path in paths:
            await self.delete(path)

    async def delete(self, path: str) -> None:
        """Delete one secret."""
        self._versions.pop(path, None)
        self._owners.pop(path, None)


class MemoryGrants:
    """`pipewright.ports.SecretGrants` in a dictionary."""

    available = True
    dynamic = True

    def __init__(self) -> None:
        self._granted: dict[str, SecretAccess] = {}

    def wanted(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> SecretAccess:
        """What policy and role ought to be."""
        return SecretAccess(
            role=names.vault_role(tenant_id),
            policy=f"{tenant_id}/user/*{' and logins' if dynamic else ''}",
            namespaces=tuple(sorted(namespaces)),
            service_accounts=(names.TENANT_SERVICE_ACCOUNT,),
            policies=(names.vault_role(tenant_id),),
            longest=dynamic.ttl if dynamic else timedelta(),
            database_role=_database_role(tenant_id, dynamic) if dynamic else None,
        )

    async def find(self, tenant_id: str, *, partly: bool = False) -> SecretAccess | None:
        """Policy and role as they stand; here they come and go together."""
        return self._granted.get(tenant_id)

    async def grant(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> None:
        """Write both."""
        before, wanted = (
            self._granted.get(tenant_id),
            self.wanted(tenant_id, namespaces=namespaces, dynamic=dynamic),
        )
        kept = before.database_role if before and dynamic else None
        self._granted[tenant_id] = replace(wanted, database_role=kept)

    async def grant_database_role(self, tenant_id: str, terms: DynamicTerms) -> None:
        """Note the database engine's role."""
        found = self._granted[tenant_id]
        self._granted[tenant_id] = replace(found, database_role=_database_role(tenant_id, terms))

    async def withdraw_database_role(self, tenant_id: str) -> None:
        """Forget the database engine's role."""
        found = self._granted.get(tenant_id)
        if found is not None:
            self._granted[tenant_id] = replace(found, database_role=None)

    async def revoke(self, tenant_id: str) -> None:
        """Remove both."""
        self._granted.pop(tenant_id, None)


def _database_role(tenant_id: str, terms: DynamicTerms) -> DatabaseRole:
    return DatabaseRole(
        path=f"database/creds/{names.vault_role(tenant_id)}",
        connection=terms.server,
        creation=(f"{terms.logins} with {terms.connection_limit}",),
        revocation=(),
        ttl=terms.ttl,
    )


class MemoryDataKeys:
    """`pipewright.ports.DataKeys` in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, str]] = {}
        self._newest: dict[str, WrappingKey] = {}
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        """The clock of whoever keeps the keys."""

    scheme = "memory"

    async def create(self, tenant_id: str) -> tuple[str, Secret]:
        """A new data key."""
        key = base64.b64encode(os.urandom(32)).decode()
        self._newest.setdefault(tenant_id, WrappingKey(version=1, at=self.now()))
        return self._wrap(tenant_id, key), Secret(key)

    async def newest(self, tenant_id: str) -> WrappingKey | None:
        """The newest version."""
        return self._newest.get(tenant_id)

    async def rotate(self, tenant_id: str, *, expected: int) -> None:
        """Count one more version."""
        found = self._newest.get(tenant_id)
        if found is not None and found.version == expected:
            self._newest[tenant_id] = WrappingKey(version=expected + 1, at=self.now())

    async def rewrap(self, tenant_id: str, wrapped: str) -> str:
        """The same data key by another text."""
        return self._wrap(tenant_id, (await self.open(tenant_id, wrapped)).reveal())

    def _wrap(self, tenant_id: str, key: str) -> str:
        wrapped = f"memory:v{self._newest[tenant_id].version}:{uuid.uuid4()}"
        self._keys.setdefault(tenant_id, {})[wrapped] = key
        return wrapped

    async def open(self, tenant_id: str, wrapped: str) -> Secret:
        """Unwrap."""
        key = self._keys.get(tenant_id, {}).get(wrapped)
        if key is None:
            raise errors.Stalled(
                "DataKeyLost",
                f"Vault cannot unwrap the data key of tenant id {tenant_id}: restore its transit key",
            )
        return Secret(key)

    async def destroy(self, tenant_id: str) -> None:
        """Forget the tenant's keys."""
        self._keys.pop(tenant_id, None)
        self._newest.pop(tenant_id, None)


def _copied(value: Any) -> Any:
    """A copy of a JSON document: `copy.deepcopy` looks for cycles, and takes five times as long."""
    match value:
        case dict():
            return {key: _copied(it) for key, it in value.items()}
        case list() | tuple():
            return [_copied(it) for it in value]
        case _:
            return value


def _merge(found: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            _merge(found.setdefault(key, {}), value)
        else:
            found[key] = _copied(value)


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
