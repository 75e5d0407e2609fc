"""One token of Vault for all calls of a process, replaced or renewed before it ends. One login at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hvac
import requests
from hvac import exceptions as vault_errors

from pipewright import errors

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
