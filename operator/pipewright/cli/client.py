"""The gateway's REST API, as far as the commands use it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import aiohttp

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT = 120.0
"""Seconds of one request: a page of replays takes a while."""


class CallFailed(Exception):
    """The gateway refused, or did not answer. The message is for people."""


class Gateway:
    """An Integration's routes at one gateway."""

    def __init__(self, base_url: str, *, token: str, integration: str, ca_file: Path | None = None) -> None:
        """`integration` is namespace/name.

        Raises:
            CallFailed: it is not, the token would be sent in the clear, or `ca_file` cannot be used.
        """
        parts = urlsplit(base_url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise CallFailed(f"{base_url}: the gateway's address must begin with https://")
        namespace, _, name = integration.partition("/")
        if not namespace or not name or "/" in name:
            raise CallFailed(f"{integration}: name the Integration as namespace/name")
        self._base = (
            f"{base_url.rstrip('/')}/v1/namespaces/{quote(namespace, safe='')}"
            f"/integrations/{quote(name, safe='')}"
        )
        self._headers = {"Authorization": f"Bearer {token}"}
        try:
            self._ssl = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        except OSError as error:
            raise CallFailed(f"cannot use {ca_file}: {error.strerror or error}") from None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON of an answer.

        Raises:
            CallFailed: it is not a good one.
        """
        try:
            async with self._session.request(
                method, self._base + path, params=query, ssl=self._ssl, allow_redirects=False
            ) as answer:
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"the gateway gave no answer: {type(error).__name__}") from None
        if answer.status >= 300:
            detail = body.get("detail") if isinstance(body, dict) else None
            raise CallFailed(f"{answer.status}: {detail or 'the gateway refused'}")
        return body

    async def pages(self, method: str, path: str) -> AsyncIterator[Any]:
        """All pages of a list, or of work that is done in parts."""
        query = {"limit": "200"}
        while True:
            page = await self.ask(method, path, query)
            yield page
            if page["next"] is None:
                return
            query = {"limit": "200", "cursor": page["next"]}
