"""Are the watch streams alive? Kopf does not tell, so its HTTP session is asked.

Kopf takes an aiohttp session of ours (see `watch`). This trace notes every LIST and every WATCH that the API
server accepts, and reads how many bytes each open stream has delivered so far; the server sends a bookmark
about once a minute even when nothing happens. Nothing of kopf is patched, and a stream that kopf itself gave
up, replaced or never opened counts the same: as silence. What it cannot see is a handler that hangs; ours
only add a key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp

from pipewright.runtime.metrics import Metrics


@dataclass(slots=True)
class _Stream:
    heard_at: float
    listed: bool = False
    response: aiohttp.ClientResponse | None = field(default=None, repr=False)
    received: int = 0


class Streams:
    """The watch streams that this process needs, by plural name of the resource."""

    def __init__(
        self, resources: Iterable[str], *, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`resources` are the plurals that must be watched, for example `tenants`."""
        self._monotonic = monotonic
        self._streams = {resource: _Stream(heard_at=monotonic()) for resource in resources}
        for resource in self._streams:
            metrics.watch_stream(resource, lambda resource=resource: self.silence(resource))  # type: ignore[misc]

    @property
    def resources(self) -> frozenset[str]:
        """The plurals that must be watched."""
        return frozenset(self._streams)

    def trace(self) -> aiohttp.TraceConfig:
        """What to give to the session that kopf uses."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._request_ended)
        return config

    async def _request_ended(
        self, _session: aiohttp.ClientSession, _context: object, params: aiohttp.TraceRequestEndParams
    ) -> None:
        stream = self._streams.get(params.url.path.rsplit("/", 1)[-1])
        if stream is None or params.method != "GET" or params.response.status != 200:
            return
        stream.heard_at = self._monotonic()
        if params.url.query.get("watch") == "true":
            stream.listed = True  # kopf watches only after it has read the list to its end
            stream.response, stream.received = params.response, 0

    def silence(self, resource: str) -> float:
        """Seconds since the API server was last heard about this resource.

        Bytes are counted when somebody asks, so the answer is as precise as the probe is frequent.
        """
        stream = self._streams[resource]
        if stream.response is not None:
            received = stream.response.content.total_raw_bytes
            if received != stream.received:
                stream.received, stream.heard_at = received, self._monotonic()
        return self._monotonic() - stream.heard_at

    def silent(self, limit: float) -> str | None:
        """Which resources have been silent for longer than `limit` seconds, in words; None: all are well."""
        silences = sorted((resource, self.silence(resource)) for resource in self._streams)
        dead = [f"{resource} for {seconds:.0f} s" for resource, seconds in silences if seconds > limit]
        return f"nothing heard on the watch of {', '.join(dead)}" if dead else None

    def unlisted(self) -> str | None:
        """Which resources have not been listed yet, in words; None: all are."""
        missing = sorted(resource for resource, stream in self._streams.items() if not stream.listed)
        return f"not listed yet: {', '.join(missing)}" if missing else None

    def restart(self) -> None:
        """Count silence from now: the watching begins (a standby replica does not watch)."""
        for stream in self._streams.values():
            stream.heard_at = self._monotonic()
