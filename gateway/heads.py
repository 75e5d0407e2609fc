"""The server's protocol with bounds for heads, in time and bytes: who connects and asks nothing is not kept.

uvicorn closes a connection that is idle between two requests, but waits without end for the first one, and
for the rest of one that has begun, and keeps as many headers as come. Whoever may open connections could
hold as many as there are files, and as much memory as they like.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""For a whole head: from the connection on, later from the first byte after an answer."""

HEAD_BYTES = 64 * 1024
"""Of a head that is not complete."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PromptHeads(HttpToolsProtocol):
    """uvicorn's protocol; closes connections whose next request has no complete head in time."""

    _head_due: asyncio.TimerHandle | None = None
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that end the pause between two requests start the wait for a head."""
        if self.timeout_keep_alive_task is not None:
            self._wait_for_head()
        super().data_received(data)
        if self._head_due is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self._close()

    def on_headers_complete(self) -> None:
        """The head is there: the request's own deadlines count now."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_size = 0
        self._head_due = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _close(self) -> None:
        self._head_due = None
        if not self.transport.is_closing():
            self.transport.close()
