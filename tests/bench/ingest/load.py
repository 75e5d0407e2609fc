"""A load generator: a process of its own that sends prepared bytes and says how long the answers took.

    python -m tests.bench.ingest.load FILE PORT RATE CONNECTIONS

RATE messages of FILE a second, each due at its own moment whether or not the server has answered those
before: what waits for a free connection waits on the clock of whoever sent it (no coordinated omission).
RATE 0 sends whenever a connection is free. The result is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

TICK = 0.001
PATIENCE = 10.0
"""Seconds for the last answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a load generator saw."""

    seconds: float
    """From the first message until the last answer."""
    statuses: dict[str, int]
    p50: float
    """Milliseconds, as the other three."""
    p99: float
    p999: float
    longest: float
    cpu: float
    """Seconds of CPU that the generator took itself."""

    @property
    def answered(self) -> int:
        """All answers."""
        return sum(self.statuses.values())


def write(path: Path, messages: Iterable[bytes]) -> int:
    """Put messages into a file for `send`; how many there are."""
    count = 0
    with path.open("wb") as file:
        for message in messages:
            file.write(struct.pack("!I", len(message)))
            file.write(message)
            count += 1
    return count


def send(path: Path, *, port: int, rate: float, connections: int) -> Seen:
    """Send a file's messages from another process."""
    command = [sys.executable, "-m", __name__, str(path), str(port), str(rate), str(connections)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Seen(**json.loads(done.stdout))


def _read(path: Path) -> list[bytes]:
    content, at, found = path.read_bytes(), 0, list[bytes]()
    while at < len(content):
        (length,) = struct.unpack_from("!I", content, at)
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found


@dataclass(slots=True)
class _Run:
    """One run of the generator."""

    messages: Sequence[bytes]
    rate: float
    free: deque[_Connection] = field(default_factory=deque)
    waiting: deque[tuple[bytes, float]] = field(default_factory=deque)
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def hand(self, message: bytes, due: float) -> None:
        if self.free:
            self.free.popleft().ask(message, due)
        else:
            self.waiting.append((message, due))

    def answered(self, connection: _Connection, status: str, seconds: float) -> None:
        self.statuses[status] += 1
        self.seconds.append(seconds)
        if self.waiting:
            connection.ask(*self.waiting.popleft())
        else:
            self.free.append(connection)
        if len(self.seconds) == len(self.messages):
            self.ended.set()

    async def go(self) -> float:
        began = time.perf_counter()
        for number, message in enumerate(self.messages):
            due = began + number / self.rate if self.rate else time.perf_counter()
            while due > time.perf_counter():  # noqa: ASYNC110 - a moment is no event
                await asyncio.sleep(TICK)  # all that are due by then go together
            self.hand(message, due)
        try:
            async with asyncio.timeout(PATIENCE):
                await self.ended.wait()
        except TimeoutError:
            self.statuses["none"] += len(self.messages) - len(self.seconds)
            self.seconds += [PATIENCE] * (len(self.messages) - len(self.seconds))
        return time.perf_counter() - began


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request under way at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own
        self._run.free.append(self)

    def ask(self, message: bytes, due: float) -> None:
        assert self._transport is not None, "who is free is connected"
        self._due = due
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = body[length:]
            self._run.answered(self, head[9:12].decode(), time.perf_counter() - self._due)


async def _go(messages: Sequence[bytes], *, port: int, rate: float, connections: int) -> Seen:
    run, loop = _Run(messages, rate), asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    cpu = time.process_time()
    seconds = await run.go()
    times = sorted(1000 * each for each in run.seconds)
    return Seen(
        seconds=seconds,
        statuses=dict(run.statuses),
        p50=times[len(times) // 2],
        p99=times[int(len(times) * 0.99)],
        p999=times[int(len(times) * 0.999)],
        longest=times[-1],
        cpu=time.process_time() - cpu,
    )


def main() -> None:
    """Send, and print what was seen."""
    path, port, rate, connections = sys.argv[1:]
    going = _go(_read(Path(path)), port=int(port), rate=float(rate), connections=int(connections))
    seen = uvloop.run(going)
    print(json.dumps({name: getattr(seen, name) for name in Seen.__slots__}))


if __name__ == "__main__":
    main()
