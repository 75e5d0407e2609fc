"""Around every request: an id, a span, a line in the log, metrics, limits, and no exception out.

The log has the route's template, never the path of a webhook (its id is as good as an address), never a
query string, a header or a body.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import lru_cache

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems, reading
from gateway.metrics import Metrics
from pipewright.runtime import logs, tracing

log = logs.get(__name__)

_METHODS = ("GET", "POST", "DELETE")

_COUNTED = 512
"""Sets of labels at hand."""
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_OWN_LIMIT = ("/hooks/", "/history")
"""Routes that read their bodies themselves, with limits of their own."""


class Observed:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, other_body: int, requests: int) -> None:
        """`other_body`: bytes; `requests`: how many may be under way, probes aside."""
        self._app = app
        self._metrics = metrics
        self._other_body = other_body
        self._requests = requests
        self._under_way = 0
        # `labels` makes texts of all values each time; there are few, and they come with each request.
        self._counted = lru_cache(_COUNTED)(metrics.requests.labels)
        self._timed = lru_cache(_COUNTED)(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in _QUIET:
            await self._observe(scope, receive, send)
            return
        if self._under_way >= self._requests:
            await self._refuse(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._observe(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """503, at next to no cost: nothing is read, and only counted."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, "none", "503").inc()
        busy = problems.unavailable("Busy", "too many requests are under way; try again", after=1)
        await busy.response()(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, begun, status = secrets.token_hex(8), time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request=request_id)
        self._metrics.in_flight.inc()
        try:
            with tracing.span(f"{scope['method']} request"):
                await self._app(scope, self._limited(scope, receive), answer)
        except Exception as error:  # noqa: BLE001 - the border: whatever it is becomes an answer and a log line
            log.error("a request failed", **logs.describe(error))
            if not status:
                await problems.from_error(error).response()(scope, receive, answer)
        finally:
            self._metrics.in_flight.dec()
            self._tell(scope, status=status, seconds=time.perf_counter() - begun)
            structlog.contextvars.unbind_contextvars("request")

    def _tell(self, scope: Scope, *, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counted(method, route, str(status)).inc()
        self._timed(route).observe(seconds)
        if route not in _QUIET:
            where = {key: value for key, value in scope.get("path_params", {}).items() if key != "hook_id"}
            log.info("request", method=method, route=route, status=status, seconds=round(seconds, 4), **where)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        path: str = scope["path"]
        if path.startswith(_OWN_LIMIT[0]) or path.endswith(_OWN_LIMIT[1]):
            return receive
        left, ends_at = self._other_body, asyncio.get_running_loop().time() + reading.PATIENCE
        more = True

        async def limited() -> Message:
            nonlocal left, more
            try:
                async with asyncio.timeout_at(ends_at if more else None):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    408, "the body came too slowly", headers={"Connection": "close"}
                ) from None
            more = message["type"] == "http.request" and message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the body has more than {self._other_body} bytes")
            return message

        return limited
