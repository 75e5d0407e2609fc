"""Secrets on a KV version 2 mount, each marked with its owner's UID."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from hvac import exceptions as vault_errors

from pipewright import errors
from pipewright.backends.vault.session import VaultSession
from pipewright.ports import Issued, Secret


class VaultSecretStore:
    """`pipewright.ports.SecretStore` on a KV version 2 mount."""

    def __init__(self, session: VaultSession, *, mount: str) -> None:
        self._session = session
        self._mount = mount

    async def version(self, path: str) -> int | None:
        """The current version, from the metadata; None when there is none or it is deleted."""
        metadata = await self._metadata(path)
        return None if metadata is None else _live_version(metadata)

    async def issued(self, path: str) -> Issued | None:
        """The current version and when it was written, by Vault's clock."""
        metadata = await self._metadata(path)
        version = None if metadata is None else _live_version(metadata)
        if metadata is None or version is None:
            return None
        return Issued(version=version, at=_time(metadata["versions"][str(version)]["created_time"]))

    async def read(self, path: str, *, version: int | None = None) -> Mapping[str, Secret] | None:
        """The fields of the current version, or of an older one if it is still kept."""
        try:
            answer = await self._session.call(
                f"read {path}",
                lambda client: client.secrets.kv.v2.read_secret_version(
                    path, version=version, mount_point=self._mount, raise_on_deleted_version=True
                ),
            )
        except vault_errors.InvalidPath:
            return None
        return {name: Secret(value) for name, value in answer["data"]["data"].items()}

    async def create(self, path: str, fields: Mapping[str, Secret], *, owner: str) -> int | None:
        """Write by check-and-set if nothing is there, marked with the owner's UID. None: something is."""
        metadata = await self._metadata(path)
        if metadata is not None and _live_version(metadata) is not None:
            return None
        if _owner(metadata) != owner:
            # the mark goes first: a secret without an owner would be nobody's to purge
            await self._mark(path, owner=owner)
        expected = 0 if metadata is None else int(metadata["current_version"])
        try:
            await self._put(path, fields, cas=expected)
        except vault_errors.InvalidRequest:
            return None
        return expected + 1

    async def replace(self, path: str, fields: Mapping[str, Secret], *, expected: int) -> bool:
        """Write a new version if the current one is still the expected one. False: it is not."""
        try:
            await self._put(path, fields, cas=expected)
        except vault_errors.InvalidRequest:
            return False
        return True

    async def hand_over(self, tenant_id: str, *, owner: str, previous: Collection[str]) -> None:
        """Mark everything of the tenant that is marked with a previous owner's UID with this one."""
        marks = {path: _owner(await self._metadata(path)) for path in await self._below(f"{tenant_id}/")}
        for path, found in marks.items():
            if found not in (None, owner, *previous):
                raise errors.OwnedByOther(f"the secret {path} belongs to the Tenant with UID {found}")
        for path, found in marks.items():
            if found not in (None, owner):
                await self._mark(path, owner=owner)

    async def _mark(self, path: str, *, owner: str) -> None:
        await self._session.call(
            f"mark {path}",
            lambda client: client.secrets.kv.v2.update_metadata(
                path, mount_point=self._mount, custom_metadata={"tenant-uid": owner}
            ),
        )

    async def write(self, path: str, fields: Mapping[str, Secret]) -> None:
        """Write a new version."""
        await self._put(path, fields, cas=None)

    async def purge(self, tenant_id: str, *, owner: str) -> None:
        """Delete every version of everything below the tenant's path."""
        for path in await self._below(f"{tenant_id}/"):
            found = _owner(await self._metadata(path))
            if found not in (None, owner):
                raise errors.OwnedByOther(f"the secret {path} belongs to the Tenant with UID {found}")
            await self.delete(path)

    async def delete(self, path: str) -> None:
        """Delete every version of one secret; absent already counts as done."""
        await self._session.call(
            f"delete {path}",
            lambda client: client.secrets.kv.v2.delete_metadata_and_all_versions(
                path, mount_point=self._mount
            ),
        )

    async def _put(self, path: str, fields: Mapping[str, Secret], *, cas: int | None) -> None:
        await self._session.call(
            f"write {path}",
            lambda client: client.secrets.kv.v2.create_or_update_secret(
                path,
                secret={name: value.reveal() for name, value in fields.items()},
                cas=cas,
                mount_point=self._mount,
            ),
        )

    async def _metadata(self, path: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._session.call(
                f"read the metadata of {path}",
                lambda client: client.secrets.kv.v2.read_secret_metadata(path, mount_point=self._mount),
            )
        except vault_errors.InvalidPath:
            return None
        metadata: Mapping[str, Any] = answer["data"]
        return metadata

    async def _below(self, folder: str) -> list[str]:
        try:
            answer = await self._session.call(
                f"list {folder}",
                lambda client: client.secrets.kv.v2.list_secrets(folder, mount_point=self._mount),
            )
        except vault_errors.InvalidPath:
            return []
        found: list[str] = []
        for name in answer["data"]["keys"]:
            found += await self._below(folder + name) if name.endswith("/") else [folder + name]
        return found


def _owner(metadata: Mapping[str, Any] | None) -> str | None:
    custom = (metadata or {}).get("custom_metadata") or {}
    owner = custom.get("tenant-uid")
    return str(owner) if owner else None


def _live_version(metadata: Mapping[str, Any]) -> int | None:
    current = int(metadata["current_version"])
    version = (metadata.get("versions") or {}).get(str(current))
    if version is None or version.get("destroyed") or version.get("deletion_time"):
        return None
    return current


def _time(text: str) -> datetime:
    """RFC 3339 as Vault writes it: nanoseconds without their trailing zeros."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}+00:00")
