"""The secret ports on Vault (or OpenBao: the API is the one they share), by hvac.

hvac is synchronous, so its calls run in threads. One token is shared by all calls of the process: got by
Kubernetes auth with this process's own ServiceAccount token, and replaced by another login shortly before it
ends or when Vault refuses it; or read from a file, and renewed shortly before it ends. One at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hvac
import requests
from hvac import exceptions as vault_errors

from pipewright import errors, names
from pipewright.facts import Target
from pipewright.ports import Issued, Secret, SecretAccess, WrappingKey

TENANT_TOKEN_TTL_S = 900
TIMEOUT_S = 10.0
_RENEW_BEFORE_S = 60.0
_SHORTEST_S = 5.0
_FOR_GOOD_S = 3600.0
"""A token without an end is looked up this often, so that another one in the file is taken."""

T = TypeVar("T")


class VaultSession:
    """A logged-in client for one process identity: by Kubernetes auth, or by a token that a file holds."""

    def __init__(
        self,
        *,
        address: str,
        role: str = "",
        jwt_file: Path | None = None,
        token_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `token_file` the token in it, else a token for `role` by the JWT in `jwt_file`."""
        self._client = hvac.Client(url=address, timeout=TIMEOUT_S)
        self._role = role or "the token's policies"
        self._jwt_file = jwt_file
        self._token_file = token_file
        self._clock = clock
        self._login: asyncio.Task[None] | None = None
        self._expires_at = float("-inf")

    async def call(self, what: str, request: Callable[[hvac.Client], T]) -> T:
        """Run `request` with a valid token, once more with a new one if Vault has refused the token itself.

        Raises:
            Unreachable: Vault is down, sealed or starting.
            Forbidden: the policy of this identity does not allow it.
        """
        await self._ensure_token(stale=None)
        token = self._client.token
        try:
            return await self._run(what, request)
        except errors.Forbidden:
            if await self._is_valid():
                raise  # the token is good: it is the right that is missing, and a login gives no other
            await self._ensure_token(stale=token)
            return await self._run(what, request)

    async def _is_valid(self) -> bool:
        try:
            await self._run("look the token up", lambda client: client.auth.token.lookup_self())
        except errors.Forbidden:
            return False
        return True

    async def _ensure_token(self, *, stale: str | None) -> None:
        """Whoever comes while a login is under way waits for that one, and shares how it ends."""
        if self._clock() < self._expires_at and self._client.token != stale:
            return
        if self._login is None or self._login.done():
            self._login = asyncio.create_task(self._renew())
            self._login.add_done_callback(_heard)
        await asyncio.shield(self._login)

    async def _renew(self) -> None:
        what = f"log in to Vault as {self._role}"
        begun = self._clock()
        try:
            if self._token_file is not None:
                lease = await self._run("renew the token of Vault", partial(_take, self._token_file))
            else:
                answer = await self._run(what, self._log_in)
                lease = float(answer["auth"]["lease_duration"])
        except (vault_errors.InvalidPath, vault_errors.InvalidRequest):
            raise errors.Forbidden(f"{what}: Vault knows no such role, or refuses our token") from None
        self._expires_at = begun + max(_SHORTEST_S, lease - _RENEW_BEFORE_S)

    def _log_in(self, client: hvac.Client) -> Any:
        assert self._jwt_file is not None
        jwt = self._jwt_file.read_text().strip()
        return client.auth.kubernetes.login(role=self._role, jwt=jwt)

    async def _run(self, what: str, request: Callable[[hvac.Client], T]) -> T:
        try:
            return await asyncio.to_thread(request, self._client)
        except vault_errors.InvalidPath as missing:
            if missing.errors:
                # "no handler for route": the mount is not there, which says nothing about what lies in it
                raise errors.Unreachable(f"{what}: Vault has no such mount") from None
            raise
        except vault_errors.InvalidRequest:
            raise
        except (vault_errors.Forbidden, vault_errors.Unauthorized):
            raise errors.Forbidden(f"{what}: Vault forbids it to {self._role}") from None
        except vault_errors.VaultError as refused:
            raise errors.Unreachable(f"{what}: Vault answered {type(refused).__name__}") from None
        except (requests.RequestException, OSError) as broken:
            raise errors.Unreachable(f"{what}: Vault did not answer ({type(broken).__name__})") from None


def _heard(task: asyncio.Task[None]) -> None:
    """Those who wait are told how it ended; when nobody waits any more, asyncio need not complain."""
    if not task.cancelled():
        task.exception()


def _take(token_file: Path, client: hvac.Client) -> float:
    """Use the token that the file has now, renewed where it can be; the seconds for which it is good."""
    client.token = token_file.read_text().strip()
    found = client.auth.token.lookup_self()["data"]
    if not found["ttl"]:
        return _FOR_GOOD_S
    if not found.get("renewable"):
        return float(found["ttl"])
    return float(client.auth.token.renew_self()["auth"]["lease_duration"])


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

    async def create(self, path: str, fields: Mapping[str, Secret], *, owner: str) -> bool:
        """Write by check-and-set if nothing is there, marked with the owner's UID. False: something is."""
        metadata = await self._metadata(path)
        if metadata is not None and _live_version(metadata) is not None:
            return False
        if _owner(metadata) != owner:
            # the mark goes first: a secret without an owner would be nobody's to purge
            await self._mark(path, owner=owner)
        expected = 0 if metadata is None else int(metadata["current_version"])
        try:
            await self._put(path, fields, cas=expected)
        except vault_errors.InvalidRequest:
            return False
        return True

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


class VaultGrants:
    """`pipewright.ports.SecretGrants`: one policy and one Kubernetes-auth role per tenant."""

    available = True

    def __init__(self, session: VaultSession, *, mount: str) -> None:
        self._session = session
        self._mount = mount

    def wanted(self, tenant_id: str, *, namespaces: Sequence[str]) -> SecretAccess:
        """What policy and role ought to be."""
        return SecretAccess(
            role=names.vault_role(tenant_id),
            policy=_policy(self._mount, tenant_id),
            namespaces=tuple(sorted(namespaces)),
            service_accounts=(names.TENANT_SERVICE_ACCOUNT,),
            policies=(names.vault_role(tenant_id),),
        )

    async def find(self, tenant_id: str, *, partly: bool = False) -> SecretAccess | None:
        """Policy and role as they stand; None when either is missing, with `partly` only when both are."""
        name = names.vault_role(tenant_id)
        policy = await self._read(
            f"read policy {name}", lambda client: client.sys.read_acl_policy(name)["data"]
        )
        if policy is None and not partly:
            return None
        role = await self._read(f"read role {name}", lambda client: client.auth.kubernetes.read_role(name))
        if role is None and (policy is None or not partly):
            return None
        return SecretAccess(
            role=name,
            policy=policy["policy"] if policy else "",
            namespaces=tuple(sorted(role["bound_service_account_namespaces"])) if role else (),
            service_accounts=tuple(role["bound_service_account_names"]) if role else (),
            policies=tuple(role["token_policies"]) if role else (),
        )

    async def _read(
        self, what: str, request: Callable[[hvac.Client], dict[str, Any]]
    ) -> dict[str, Any] | None:
        try:
            return await self._session.call(what, request)
        except vault_errors.InvalidPath:
            return None

    async def grant(self, tenant_id: str, *, namespaces: Sequence[str]) -> None:
        """Write both; the policy first, so that a role never points to nothing."""
        name, wanted = names.vault_role(tenant_id), self.wanted(tenant_id, namespaces=namespaces)
        await self._session.call(
            f"write policy {name}",
            lambda client: client.sys.create_or_update_acl_policy(name, policy=wanted.policy),
        )
        await self._session.call(
            f"write role {name}",
            lambda client: client.auth.kubernetes.create_role(
                name,
                bound_service_account_names=list(wanted.service_accounts),
                bound_service_account_namespaces=list(wanted.namespaces),
                audience=names.VAULT_AUDIENCE,
                ttl=TENANT_TOKEN_TTL_S,
                max_ttl=TENANT_TOKEN_TTL_S,
                policies=list(wanted.policies),
            ),
        )

    async def revoke(self, tenant_id: str) -> None:
        """Remove the role first, so that nobody logs in any more, then the policy."""
        name = names.vault_role(tenant_id)
        await self._session.call(
            f"delete role {name}", lambda client: client.auth.kubernetes.delete_role(name)
        )
        await self._session.call(f"delete policy {name}", lambda client: client.sys.delete_acl_policy(name))


class VaultDoor:
    """`pipewright.ports.SecretDoor`: Vault as a tenant's ServiceAccount finds it."""

    def __init__(self, *, address: str, mount: str) -> None:
        self._address = address
        self._mount = mount

    async def opens(self, token: Secret, *, tenant_id: str, target: Target) -> bool:
        """Whether one of the target's paths may be read; what is read is dropped. Only 403 is a refusal.

        The control reads the metadata of the tenant's own connection: a proof must not learn its value.
        """
        session = _TenantSession(address=self._address, tenant_id=tenant_id, jwt=token)
        own = names.user_path(tenant_id)
        try:
            if not await session.reaches(f"{self._mount}/metadata/{own}"):
                raise errors.BackendError(f"Vault refuses {own} to its own tenant")
            reached = [await session.reaches(f"{self._mount}/data/{path}") for path in target.paths]
            return any(reached)
        finally:
            await session.end()


class _TenantSession(VaultSession):
    """A login by a tenant's own role, for one proof."""

    def __init__(self, *, address: str, tenant_id: str, jwt: Secret) -> None:
        super().__init__(address=address, role=names.vault_role(tenant_id), jwt_file=Path())
        self._jwt = jwt

    def _log_in(self, client: hvac.Client) -> Any:
        return client.auth.kubernetes.login(role=self._role, jwt=self._jwt.reveal())

    async def reaches(self, path: str) -> bool:
        """Whether this identity may read the path, with or without something there."""
        await self._ensure_token(stale=None)
        what = f"read {path}"
        try:
            await self._run(what, lambda client: client.read(path))
        except errors.Forbidden:
            return False
        except vault_errors.InvalidPath:
            return True
        except vault_errors.InvalidRequest:
            raise errors.BackendError(f"{what}: Vault did not understand it") from None
        return True

    async def end(self) -> None:
        """Revoke the token; one that cannot be revoked ends by itself within minutes."""
        if self._expires_at:
            with contextlib.suppress(errors.BackendError, vault_errors.VaultError):
                await self._run("end a proof", lambda client: client.auth.token.revoke_self())


class VaultDataKeys:
    """`pipewright.ports.DataKeys` on the transit engine: one named key per tenant."""

    scheme = "vault"

    def __init__(self, session: VaultSession, *, transit: str) -> None:
        self._session = session
        self._transit = transit

    async def create(self, tenant_id: str) -> tuple[str, Secret]:
        """A new 256-bit data key: wrapped text, and the key itself (base64)."""
        await self._session.call(
            f"create the transit key of {tenant_id}",
            lambda client: client.secrets.transit.create_key(tenant_id, mount_point=self._transit),
        )
        answer = await self._session.call(
            f"create a data key for {tenant_id}",
            lambda client: client.secrets.transit.generate_data_key(
                tenant_id, key_type="plaintext", mount_point=self._transit
            ),
        )
        return answer["data"]["ciphertext"], Secret(answer["data"]["plaintext"])

    async def open(self, tenant_id: str, wrapped: str) -> Secret:
        """Unwrap."""
        try:
            answer = await self._session.call(
                f"unwrap the data key of {tenant_id}",
                lambda client: client.secrets.transit.decrypt_data(
                    tenant_id, ciphertext=wrapped, mount_point=self._transit
                ),
            )
        except (vault_errors.InvalidRequest, vault_errors.InvalidPath):
            raise _lost(tenant_id) from None
        return Secret(answer["data"]["plaintext"])

    async def newest(self, tenant_id: str) -> WrappingKey | None:
        """The newest version of the tenant's transit key, and when it was made, by Vault's clock."""
        try:
            answer = await self._session.call(
                f"read the transit key of {tenant_id}",
                lambda client: client.secrets.transit.read_key(tenant_id, mount_point=self._transit),
            )
        except vault_errors.InvalidPath:
            return None
        version = int(answer["data"]["latest_version"])
        made = datetime.fromtimestamp(int(answer["data"]["keys"][str(version)]), tz=UTC)
        return WrappingKey(version=version, at=made)

    async def rotate(self, tenant_id: str, *, expected: int) -> None:
        """Make another version; two that do so at once make two, and both unwrap what they must."""
        found = await self.newest(tenant_id)
        if found is None or found.version != expected:
            return
        await self._session.call(
            f"rotate the transit key of {tenant_id}",
            lambda client: client.secrets.transit.rotate_key(tenant_id, mount_point=self._transit),
        )

    async def rewrap(self, tenant_id: str, wrapped: str) -> str:
        """The same data key, wrapped by the newest version."""
        try:
            answer = await self._session.call(
                f"rewrap the data key of {tenant_id}",
                lambda client: client.secrets.transit.rewrap_data(
                    tenant_id, ciphertext=wrapped, mount_point=self._transit
                ),
            )
        except (vault_errors.InvalidRequest, vault_errors.InvalidPath):
            raise _lost(tenant_id) from None
        return str(answer["data"]["ciphertext"])

    async def destroy(self, tenant_id: str) -> None:
        """Delete the tenant's transit key: what it wrapped is unreadable from then on."""
        try:
            await self._session.call(
                f"allow the deletion of transit key {tenant_id}",
                lambda client: client.secrets.transit.update_key_configuration(
                    tenant_id, deletion_allowed=True, mount_point=self._transit
                ),
            )
            await self._session.call(
                f"delete transit key {tenant_id}",
                lambda client: client.secrets.transit.delete_key(tenant_id, mount_point=self._transit),
            )
        except (vault_errors.InvalidRequest, vault_errors.InvalidPath):
            return  # there is none (any more)


def _lost(tenant_id: str) -> errors.Stalled:
    message = f"Vault cannot unwrap the data key of tenant id {tenant_id}: restore its transit key"
    return errors.Stalled("DataKeyLost", message)


def _policy(mount: str, tenant_id: str) -> str:
    """The tenant's own folder, three names deep, and no way up from it.

    The key-value store cleans a path after the policy has compared its text, so that below a glob
    `user/../../<other id>/…` would lead to another tenant. A `+` stands for one name; what begins with `..`
    is denied by a rule that goes first because it is the more exact one; and three names are too few to climb
    out and then name something.
    """
    rules = []
    for part, capabilities in _CAPABILITIES.items():
        folder = f"{mount}/{part}/{tenant_id}/user"
        rules += [_rule(folder + "/+" * depth, capabilities) for depth in DEPTHS]
        rules.append(_rule(f"{folder}/..*", ("deny",)))
    folder = f"{mount}/metadata/{tenant_id}/user"
    rules += [_rule(f"{folder}/" + "+/" * depth, ("list",)) for depth in range(max(DEPTHS))]
    return "\n".join(rules)


DEPTHS = (1, 2, 3)
"""How many names a tenant's own secret may have below `<id>/user/`."""
_CAPABILITIES = {
    "data": ("create", "read", "update", "patch", "delete"),
    "metadata": ("read", "list", "delete"),
    "delete": ("update",),
    "undelete": ("update",),
    "destroy": ("update",),
}


def _rule(path: str, capabilities: Sequence[str]) -> str:
    quoted = ", ".join(f'"{word}"' for word in capabilities)
    return f'path "{path}" {{ capabilities = [{quoted}] }}'


def _time(text: str) -> datetime:
    """RFC 3339 as Vault writes it: nanoseconds without their trailing zeros."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}+00:00")


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
