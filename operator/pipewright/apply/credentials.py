"""A tenant's passwords during one pass: made or read once, whoever needs them.

They live in here between the ports and nowhere else, and are forgotten with the pass. A version of them never
changes, so what one action made or read is what the next would read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from pipewright import errors, names
from pipewright.facts import active_login
from pipewright.ports import LOGINS, Secret, SecretStore

PASSWORD_BYTES = 32
"""Entropy of a generated password; 43 characters of base64url."""


class Credentials:
    """The passwords of tenants' logins in one secret store, by version."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._held: dict[tuple[str, int], Mapping[str, Secret]] = {}

    async def issue(self, tenant_id: str, *, owner: str) -> None:
        """Make the first ones, unless an earlier pass did: then its count, and ours are forgotten."""
        made = _generated()
        version = await self._store.create(names.platform_path(tenant_id), made, owner=owner)
        if version is not None:
            self._held[tenant_id, version] = made

    async def renew(self, tenant_id: str, *, expected: int) -> None:
        """Make new ones of all, unless somebody did meanwhile: then theirs count."""
        await self._store.replace(names.platform_path(tenant_id), _generated(), expected=expected)

    async def rotate(self, tenant_id: str, *, expected: int) -> None:
        """Make new ones of all but the login that is used until then, unless somebody did meanwhile."""
        kept = active_login(expected)
        now = await self.newest(tenant_id)
        await self._store.replace(
            names.platform_path(tenant_id), {**_generated(), kept: now[kept]}, expected=expected
        )

    async def newest(self, tenant_id: str) -> Mapping[str, Secret]:
        """Login → password.

        Raises:
            Waiting: there are none.
        """
        return _there(tenant_id, await self._store.read(names.platform_path(tenant_id)))

    async def of(self, tenant_id: str, *, version: int) -> Mapping[str, Secret]:
        """Login → password, as of this version.

        Raises:
            Waiting: there are none (any more).
        """
        return _there(tenant_id, await self.find(tenant_id, version=version))

    async def find(self, tenant_id: str, *, version: int) -> Mapping[str, Secret] | None:
        """The same; None where this version is not kept."""
        held = self._held.get((tenant_id, version))
        if held is None:
            held = await self._store.read(names.platform_path(tenant_id), version=version)
            if held is not None:
                self._held[tenant_id, version] = held
        return held


def _there(tenant_id: str, found: Mapping[str, Secret] | None) -> Mapping[str, Secret]:
    if found is None:
        message = f"no credentials are at {names.platform_path(tenant_id)} yet"
        raise errors.Waiting("CredentialsMissing", message)
    return found


def _generated() -> dict[str, Secret]:
    return {purpose: Secret(secrets.token_urlsafe(PASSWORD_BYTES)) for purpose in LOGINS}
