"""Data keys, wrapped by a transit key of the tenant's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from hvac import exceptions as vault_errors

from pipewright import errors
from pipewright.backends.vault.session import VaultSession
from pipewright.ports import Secret, WrappingKey


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
        found = await self._of_wrapped(tenant_id, wrapped, "unwrap", lambda transit: transit.decrypt_data)
        return Secret(found["plaintext"])

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
        found = await self._of_wrapped(tenant_id, wrapped, "rewrap", lambda transit: transit.rewrap_data)
        return str(found["ciphertext"])

    async def _of_wrapped(
        self, tenant_id: str, wrapped: str, verb: str, method: Callable[[Any], Callable[..., Any]]
    ) -> Mapping[str, str]:
        """What the transit engine makes of the wrapped data key."""
        try:
            answer = await self._session.call(
                f"{verb} the data key of {tenant_id}",
                lambda client: method(client.secrets.transit)(
                    tenant_id, ciphertext=wrapped, mount_point=self._transit
                ),
            )
        except (vault_errors.InvalidRequest, vault_errors.InvalidPath):
            message = f"Vault cannot unwrap the data key of tenant id {tenant_id}: restore its transit key"
            raise errors.Stalled("DataKeyLost", message) from None
        found: Mapping[str, str] = answer["data"]
        return found

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
