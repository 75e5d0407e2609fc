"""Around every request: an id, a span, a line in the log, metrics, a limit on the body, and no exception out.

The log has the route's template, never the path of a webhook (its id is as good as an address), never a
query string, a header or a body.
"""

from __future__ import annotations

import secrets
import time

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.metrics import Metrics
from pipewright.runtime import logs, tracing

log = logs.get(__name__)

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_OWN_LIMIT = ("/hooks/", "/history")
"""Routes that read their bodies themselves, with limits of their own."""


class Observed:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, other_body: int) -> None:
        self._app = app
        self._metrics = metrics
        self._other_body = other_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
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
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if route not in _QUIET:
            where = {key: value for key, value in scope.get("path_params", {}).items() if key != "hook_id"}
            log.info("request", method=method, route=route, status=status, seconds=round(seconds, 4), **where)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        path: str = scope["path"]
        if path.startswith(_OWN_LIMIT[0]) or path.endswith(_OWN_LIMIT[1]):
            return receive
        left = self._other_body

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the body has more than {self._other_body} bytes")
            return message

        return limited
