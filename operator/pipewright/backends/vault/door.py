"""The proof of isolation at Vault: a tenant's own role at another's path."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import hvac
from hvac import exceptions as vault_errors

from pipewright import errors, names
from pipewright.backends.vault.session import VaultSession
from pipewright.facts import Target
from pipewright.ports import Secret


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
