"""`ports.HistoryImport` on the gateway's REST API, as the runner's ServiceAccount: only it writes history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp

from pipewright import errors, events
from pipewright.events import Record

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5)
PATIENCE: Final = 50.0
"""Seconds for all of it: reading and storing a part must end before the reconcile is stopped."""
BODY: Final = 4 * 1024 * 1024
"""Bytes of one request, about."""
LATER: Final = timedelta(seconds=30)
"""When to come again to a gateway that has no time, or does not know the Integration yet."""
_NOT_NOW: Final = frozenset({404, 408, 409, 429, 503})


class GatewayImport:
    """One per process; keeps its connections. The token is read at each call: it is renewed in its file."""

    def __init__(self, base_url: str, *, token_file: Path | None) -> None:
        self._base = base_url.rstrip("/")
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, *, namespace: str, integration: str, records: Sequence[Record]) -> None:
        """Have these stored; they are when it returns.

        Raises:
            as `ports.HistoryImport`.
        """
        place = f"namespaces/{quote(namespace, safe='')}/integrations/{quote(integration, safe='')}/history"
        try:
            async with asyncio.timeout(PATIENCE):
                for body in _bodies(records):
                    await self._post(f"{self._base}/v1/{place}", body)
        except (aiohttp.ClientError, TimeoutError):
            raise errors.Unreachable("the gateway did not answer") from None

    async def _post(self, url: str, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/x-ndjson"}
        async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as answer:
            status = answer.status
        if status == 200:
            return
        if status in _NOT_NOW:
            raise errors.Waiting("GatewayBusy", "the gateway takes no history now", after=LATER)
        if status in (401, 403):
            raise errors.Forbidden(f"the gateway does not let the runner import history (status {status})")
        if status in (413, 422):
            raise errors.Stalled("HistoryRefused", f"the gateway refused the records (status {status})")
        raise errors.Unreachable(f"the gateway answered {status}")

    def _token(self) -> str:
        if self._token_file is None:
            raise errors.Stalled(
                "NotConfigured", "the runner's settings have no gateway.tokenFile: the platform team sets it"
            )
        try:
            return self._token_file.read_text(encoding="utf-8").strip()
        except OSError:
            raise errors.Unreachable("the runner's token for the gateway cannot be read") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False)
        return self._session


def _bodies(records: Iterable[Record]) -> Iterator[bytes]:
    """The records as lines, in bodies that are not much longer than `BODY`."""
    body = bytearray()
    for record in records:
        body += json.dumps(events.record_json(record)).encode() + b"\n"
        if len(body) >= BODY:
            yield bytes(body)
            body.clear()
    if body:
        yield bytes(body)
