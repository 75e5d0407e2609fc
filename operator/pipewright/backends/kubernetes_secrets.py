"""The secret ports without Vault: Kubernetes Secrets in two namespaces of the platform's own.

RBAC grants all Secrets of a namespace or those of known names, so what the runner may read lies apart from
what only the provisioner may: one namespace each. A path is one Secret, which holds its two newest versions
and is written by check-and-set of its resourceVersion. A version counts when the runner's part of it is
written, too: a crash in between is finished by whoever wants to write the same version again.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipewright import errors, names
from pipewright.facts import DynamicTerms
from pipewright.plan import Manifest, Ref
from pipewright.ports import Cluster, Issued, Secret, SecretAccess, WrappingKey

TYPE = "pipewright.dev/secret"
KEY_TYPE = "pipewright.dev/wrapping-key"
KEPT = 2
"""Versions that a Secret holds: a rotation needs the one before."""
KEYS_KEPT = 100
"""Wrapping keys of a tenant that a rotation leaves."""
SHARED = {"platform/database": ("runner",)}
"""Path below a tenant's id → the fields of it that the runner reads."""
_PATH = re.compile(r"[a-z0-9]{12}(/[a-z0-9-]+)+")
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    at: datetime
    fields: Mapping[str, Secret]

    def only(self, purposes: Collection[str]) -> _Version:
        """The same version with these fields."""
        kept = {name: value for name, value in self.fields.items() if name in purposes}
        return _Version(self.number, self.at, kept)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A Secret as it was read."""

    versions: tuple[_Version, ...]
    owner: str | None
    uid: str
    resource_version: str

    @property
    def newest(self) -> _Version:
        """The version that counts."""
        return self.versions[-1]


class KubernetesSecretStore:
    """`pipewright.ports.SecretStore` on Secrets of one namespace, a part of them shared into another."""

    def __init__(self, cluster: Cluster, *, namespace: str, shared_with: str | None = None) -> None:
        """`shared_with` is where the runner's part goes; the runner itself shares nothing."""
        self._cluster = cluster
        self._namespace = namespace
        self._shared_with = shared_with

    async def version(self, path: str) -> int | None:
        """The current version; None when there is none."""
        issued = await self.issued(path)
        return None if issued is None else issued.version

    async def issued(self, path: str) -> Issued | None:
        """The newest version that all readers can have, and when it was written, by our clock."""
        kept = await self._get(path)
        if kept is None or not self._shares(path):
            return None if kept is None else Issued(version=kept.newest.number, at=kept.newest.at)
        shared = await self._get(path, namespace=self._shared_with)
        told = shared.newest.number if shared else None
        counts = next((it for it in kept.versions if it.number == told), None)
        return None if counts is None else Issued(version=counts.number, at=counts.at)

    async def read(self, path: str, *, version: int | None = None) -> Mapping[str, Secret] | None:
        """The fields of the current version, or of an older one if it is still kept."""
        kept = await self._get(path)
        if kept is None:
            return None
        wanted = kept.newest.number if version is None else version
        return next((dict(it.fields) for it in kept.versions if it.number == wanted), None)

    async def create(self, path: str, fields: Mapping[str, Secret], *, owner: str) -> int | None:
        """Write version 1 if nothing is there, marked with the owner's UID. None: something is."""
        first = _Version(1, datetime.now(UTC), fields)
        made = await self._cluster.create(_manifest(path, self._namespace, (first,), owner=owner))
        await self._share(path)
        return first.number if made else None

    async def replace(self, path: str, fields: Mapping[str, Secret], *, expected: int) -> bool:
        """Write a new version if the current one is still the expected one. False: it is not."""
        kept = await self._get(path)
        if kept is None:
            return False
        replaced = kept.newest.number == expected and await self._add(path, fields, kept)
        await self._share(path)
        return replaced

    async def write(self, path: str, fields: Mapping[str, Secret]) -> None:
        """Write a new version.

        Raises:
            Conflict: somebody else did at the same time.
        """
        kept = await self._get(path)
        if kept is None:
            versions = (_Version(1, datetime.now(UTC), fields),)
            made = _manifest(path, self._namespace, versions, owner=None)
            written = await self._cluster.create(made) is not None
        else:
            written = await self._add(path, fields, kept)
        if not written:
            raise errors.Conflict(f"write {path}: the Secret changed meanwhile")
        await self._share(path)

    async def hand_over(self, tenant_id: str, *, owner: str, previous: Collection[str]) -> None:
        """Mark everything of the tenant that is marked with a previous owner's UID with this one."""
        found = await self._below(tenant_id)
        for manifest in found:
            _require(manifest, (None, owner, *previous))
        for manifest in found:
            if _owner(manifest) not in (None, owner):
                metadata = manifest["metadata"]
                kept = _kept(manifest)
                path = metadata["name"].replace(".", "/")
                await self._cluster.apply(
                    _manifest(path, metadata["namespace"], kept.versions, owner=owner, seen=kept)
                )

    async def delete(self, path: str) -> None:
        """Delete every version of one secret; absent already counts as done."""
        for namespace in self._namespaces():
            kept = await self._get(path, namespace=namespace)
            if kept is not None:
                await self._cluster.delete(_ref(path, namespace), uid=kept.uid)

    async def purge(self, tenant_id: str, *, owner: str) -> None:
        """Delete everything below the tenant's path, in both namespaces."""
        found = await self._below(tenant_id)
        for manifest in found:
            _require(manifest, (None, owner))
        for manifest in found:
            await self._cluster.delete(Ref.of(manifest), uid=manifest["metadata"]["uid"])

    async def _add(self, path: str, fields: Mapping[str, Secret], kept: _Kept) -> bool:
        """Write one more version over what was read. False: it changed meanwhile."""
        newer = _Version(kept.newest.number + 1, datetime.now(UTC), fields)
        versions = (*kept.versions, newer)[-KEPT:]
        try:
            await self._cluster.apply(_manifest(path, self._namespace, versions, owner=kept.owner, seen=kept))
        except errors.Conflict:
            return False
        return True

    async def _share(self, path: str) -> None:
        """Bring the runner's part to what is there now, whoever wrote it."""
        if not self._shares(path) or self._shared_with is None:
            return
        kept = await self._get(path)
        if kept is None:
            return
        shared = await self._get(path, namespace=self._shared_with)
        if shared is not None and shared.newest.number == kept.newest.number:
            return
        versions = tuple(version.only(SHARED[_below(path)]) for version in kept.versions)
        manifest = _manifest(path, self._shared_with, versions, owner=kept.owner, seen=shared)
        if shared is None:
            await self._cluster.create(manifest)
            return
        with suppress(errors.Conflict):  # somebody else shares; until it is done the version does not count
            await self._cluster.apply(manifest)

    def _shares(self, path: str) -> bool:
        return self._shared_with is not None and _below(path) in SHARED

    def _namespaces(self) -> tuple[str, ...]:
        return (self._namespace,) if self._shared_with is None else (self._namespace, self._shared_with)

    async def _get(self, path: str, *, namespace: str | None = None) -> _Kept | None:
        found = await self._cluster.get(_ref(path, namespace or self._namespace))
        return None if found is None else _kept(found)

    async def _below(self, tenant_id: str) -> Sequence[Manifest]:
        return [
            manifest
            for namespace in self._namespaces()
            for manifest in await self._cluster.list(
                api_version="v1", kind="Secret", namespace=namespace, labels={names.ID_LABEL: tenant_id}
            )
            if manifest["type"] == TYPE
        ]


class NoGrants:
    """`pipewright.ports.SecretGrants` without Vault: a tenant has no path, so nobody is let in to it."""

    available = False
    dynamic = False

    def wanted(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> SecretAccess | None:
        """Nothing."""
        return None

    async def find(self, tenant_id: str, *, partly: bool = False) -> SecretAccess | None:
        """Nothing."""
        return None

    async def grant(
        self, tenant_id: str, *, namespaces: Sequence[str], dynamic: DynamicTerms | None = None
    ) -> None:
        """There is nothing to grant."""

    async def grant_database_role(self, tenant_id: str, terms: DynamicTerms) -> None:
        """Nobody makes logins."""
        raise errors.BackendError("without Vault there are no short-lived logins")

    async def withdraw_database_role(self, tenant_id: str) -> None:
        """There is none."""

    async def revoke(self, tenant_id: str) -> None:
        """There is nothing to revoke."""


class KubernetesDataKeys:
    """`pipewright.ports.DataKeys`: AES-256-GCM by a tenant's own key, a Secret that is made once."""

    scheme = "kubernetes"

    def __init__(self, cluster: Cluster, *, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def create(self, tenant_id: str) -> tuple[str, Secret]:
        """A new 256-bit data key: wrapped text, and the key itself (base64)."""
        first = {"1": {"key": _text(os.urandom(32)), "at": datetime.now(UTC).isoformat()}}
        # False means that an earlier pass made it: its key counts, ours is forgotten
        await self._cluster.create(self._manifest(tenant_id, first))
        keys = await self._keys(tenant_id)
        data_key = os.urandom(32)
        return _wrap(tenant_id, data_key, keys), Secret(_text(data_key))

    async def open(self, tenant_id: str, wrapped: str) -> Secret:
        """Unwrap."""
        return Secret(_text(_unwrap(tenant_id, wrapped, await self._keys(tenant_id))))

    async def newest(self, tenant_id: str) -> WrappingKey | None:
        """The newest of the tenant's keys, and when it was made, by our clock."""
        found = await self._cluster.get(self._ref(tenant_id))
        if found is None:
            return None
        keys = _keys(found)
        version = max(keys, key=int)
        return WrappingKey(version=int(version), at=datetime.fromisoformat(keys[version]["at"]))

    async def rotate(self, tenant_id: str, *, expected: int) -> None:
        """Add a key by check-and-set; the ones before stay, for a registry that comes from a backup."""
        found = await self._cluster.get(self._ref(tenant_id))
        keys = {} if found is None else _keys(found)
        if found is None or max(map(int, keys)) != expected:
            return
        newer = {str(expected + 1): {"key": _text(os.urandom(32)), "at": datetime.now(UTC).isoformat()}}
        kept = {version: key for version, key in keys.items() if int(version) > expected - KEYS_KEPT}
        try:
            await self._cluster.apply(self._manifest(tenant_id, {**kept, **newer}, seen=found))
        except errors.Conflict:
            return  # somebody else added one meanwhile

    async def rewrap(self, tenant_id: str, wrapped: str) -> str:
        """The same data key, wrapped by the newest key."""
        keys = await self._keys(tenant_id)
        return _wrap(tenant_id, _unwrap(tenant_id, wrapped, keys), keys)

    async def destroy(self, tenant_id: str) -> None:
        """Delete the tenant's key: what it wrapped is unreadable from then on."""
        ref = self._ref(tenant_id)
        found = await self._cluster.get(ref)
        if found is not None:
            await self._cluster.delete(ref, uid=found["metadata"]["uid"])

    async def _keys(self, tenant_id: str) -> dict[str, dict[str, str]]:
        found = await self._cluster.get(self._ref(tenant_id))
        if found is None:
            raise _lost(tenant_id)
        return _keys(found)

    def _ref(self, tenant_id: str) -> Ref:
        return Ref(api_version="v1", kind="Secret", namespace=self._namespace, name=f"{tenant_id}.transit")

    def _manifest(
        self, tenant_id: str, keys: Mapping[str, Mapping[str, str]], *, seen: Manifest | None = None
    ) -> Manifest:
        ref = self._ref(tenant_id)
        check = {name: seen["metadata"][name] for name in ("uid", "resourceVersion")} if seen else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": ref.name,
                "namespace": ref.namespace,
                "labels": {names.ID_LABEL: tenant_id},
                **check,
            },
            "type": KEY_TYPE,
            "data": {"keys": _text(json.dumps(keys).encode())},
        }


def _keys(found: Manifest) -> dict[str, dict[str, str]]:
    keys: dict[str, dict[str, str]] = json.loads(base64.b64decode(found["data"]["keys"]))
    return keys


def _wrap(tenant_id: str, data_key: bytes, keys: Mapping[str, Mapping[str, str]]) -> str:
    """The data key under the newest of the tenant's keys: `kubernetes:v<version>:<base64>`."""
    newest, nonce = max(keys, key=int), os.urandom(_NONCE_BYTES)
    cipher = AESGCM(base64.b64decode(keys[newest]["key"]))
    sealed = nonce + cipher.encrypt(nonce, data_key, tenant_id.encode())
    return f"kubernetes:v{newest}:{_text(sealed)}"


def _unwrap(tenant_id: str, wrapped: str, keys: Mapping[str, Mapping[str, str]]) -> bytes:
    scheme, _, rest = wrapped.partition(":v")
    version, _, text = rest.partition(":")
    if scheme != "kubernetes" or version not in keys:
        raise _lost(tenant_id)
    sealed = base64.b64decode(text)
    try:
        cipher = AESGCM(base64.b64decode(keys[version]["key"]))
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], tenant_id.encode())
    except (InvalidTag, ValueError):
        raise _lost(tenant_id) from None


def _lost(tenant_id: str) -> errors.Stalled:
    message = (
        f"no Secret unwraps the data key of tenant id {tenant_id}: restore {tenant_id}.transit, or the Vault"
        " that wrapped it"
    )
    return errors.Stalled("DataKeyLost", message)


def _below(path: str) -> str:
    return path.partition("/")[2]


def _ref(path: str, namespace: str) -> Ref:
    if not _PATH.fullmatch(path):
        raise ValueError("a path is a tenant's id and names of lower-case letters, digits and hyphens")
    return Ref(api_version="v1", kind="Secret", namespace=namespace, name=path.replace("/", "."))


def _manifest(
    path: str,
    namespace: str,
    versions: Sequence[_Version],
    *,
    owner: str | None,
    seen: _Kept | None = None,
) -> Manifest:
    """The Secret of a path; what was seen of it makes writing it a check-and-set."""
    ref = _ref(path, namespace)
    written = [
        {
            "version": it.number,
            "at": it.at.isoformat(),
            "fields": {name: value.reveal() for name, value in it.fields.items()},
        }
        for it in versions
    ]
    labels = {names.ID_LABEL: path.partition("/")[0], **({names.UID_LABEL: owner} if owner else {})}
    check = {"uid": seen.uid, "resourceVersion": seen.resource_version} if seen else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ref.name, "namespace": namespace, "labels": labels, **check},
        "type": TYPE,
        "data": {"versions": _text(json.dumps(written).encode())},
    }


def _kept(manifest: Manifest) -> _Kept:
    metadata = manifest["metadata"]
    written: list[dict[str, Any]] = json.loads(base64.b64decode(manifest["data"]["versions"]))
    return _Kept(
        versions=tuple(
            _Version(
                it["version"],
                datetime.fromisoformat(it["at"]),
                {name: Secret(value) for name, value in it["fields"].items()},
            )
            for it in written
        ),
        owner=_owner(manifest),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
    )


def _owner(manifest: Manifest) -> str | None:
    owner: str | None = (manifest["metadata"].get("labels") or {}).get(names.UID_LABEL)
    return owner


def _require(manifest: Manifest, owners: Collection[str | None]) -> None:
    owner = _owner(manifest)
    if owner not in owners:
        path = manifest["metadata"]["name"].replace(".", "/")
        raise errors.OwnedByOther(f"the secret {path} belongs to the Tenant with UID {owner}")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
