"""Three questions from outside, answered over HTTP: /healthz, /readyz and /metrics.

Alive means that the work can go on: the watch streams deliver and the queue moves. Kopf's own probe says only
that its task runs. Not alive is answered 503 with the reasons, and the kubelet restarts us.
Ready means that this replica is in its place: it leads and has listed everything once, or it stands by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from pipewright.runtime.metrics import CONTENT_TYPE, Metrics
from pipewright.runtime.queue import WorkQueue
from pipewright.runtime.streams import Streams

Check = Callable[[], str | None]
"""None when all is well, else what is wrong, in words for a person."""

STUCK_AFTER = 300.0
"""A reconcile is stopped after 120 s, so a queue without progress for so long does not recover by itself."""


def queue_moves(queue: WorkQueue, *, limit: float = STUCK_AFTER) -> Check:
    """The queue makes progress: ready keys get workers, and no worker holds a key forever."""

    def check() -> str | None:
        if (stalled := queue.stalled_for()) > limit:
            return f"{queue.depth()} keys are ready and no worker moved for {stalled:.0f} s"
        if (longest := max(queue.running(), default=0.0)) > limit:
            return f"a worker has been busy with one key for {longest:.0f} s"
        return None

    return check


def streams_deliver(streams: Streams, *, watching: Callable[[], bool], limit: float) -> Check:
    """The API server is heard on every watch stream, while this replica watches at all."""
    return lambda: streams.silent(limit) if watching() else None


def all_listed(streams: Streams, *, watching: Callable[[], bool]) -> Check:
    """Every resource was listed once, or this replica stands by."""
    return lambda: streams.unlisted() if watching() else None


class HealthServer:
    """The HTTP server for probes and Prometheus."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        metrics: Metrics,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
    ) -> None:
        """`live` and `ready` are named checks; their names appear in the answer."""
        self._host, self._port, self._metrics = host, port, metrics
        self._live, self._ready = dict(live), dict(ready)
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; return the port, which is a free one when 0 was asked for."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._live)

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._ready)

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def _answer(checks: Mapping[str, Check]) -> web.Response:
    reasons = {name: trouble for name, check in checks.items() if (trouble := check()) is not None}
    if reasons:
        return web.json_response({"status": "failing", "reasons": reasons}, status=503)
    return web.json_response({"status": "ok"})
