"""Measure, and print one JSON line a figure at the end: name, value, unit, limit, ratio.

    ROUNDS=3 FIGURES="single batch mapping idle" python -m tests.bench.ingest

The two sides of a ratio take turns on the same servers; value and limit are the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import statistics
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.bench.ingest import bare, load, mapped, payloads
from tests.bench.ingest.load import Seen
from tests.bench.ingest.world import Process, World, world
from tests.bench.lines import figure, say

ROUNDS = int(os.environ.get("ROUNDS", "3"))
FIGURES = (os.environ.get("FIGURES") or "single batch mapping idle").split()
CONNECTIONS = 64
AIM = 100.0
"""Milliseconds of the p99 that a rate must keep."""
SECONDS = float(os.environ.get("SECONDS", "3"))
"""How long a rate is kept."""
BURST = int(os.environ.get("BURST", "1500"))
SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.2)
"""Of what the server did at its own pace: rates that are tried, until one is kept."""
TRIES = 2
"""How often a rate is tried: a stall that comes from outside must not decide alone."""
BATCH, BATCHES = 200, int(os.environ.get("BATCHES", "40"))
IDLE = int(os.environ.get("IDLE", "10000"))


@dataclass(slots=True)
class Side:
    """One way to take a webhook, and the rates that it kept."""

    name: str
    path: str
    kept: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.kept)


class Bench:
    """The figures that need servers."""

    def __init__(self, servers: World) -> None:
        self.world = servers
        self.deliveries = payloads.github()
        self.events = payloads.cloudevents()

    # --- single webhooks ----------------------------------------------------------------------------------

    def single(self) -> list[dict[str, Any]]:
        """Signed webhooks a second, one by one, with a p99 below the aim."""
        ours = Side("the gateway", self.world.github.path)
        insert, least = (
            Side("one insert each", "/bench/insert/it"),
            Side("a bare INSERT each", "/bench/insert-bare/it"),
        )
        twin = Side("the twin in Go", self.world.github.path)
        for number in range(ROUNDS):
            with self.world.server() as server:
                for side in (ours, insert, least):
                    self.keep(side, server, number)
            with self.world.twin() as server:
                self.keep(twin, server, number)
        return [
            figure("ingest_single", ours.rate, f"webhooks/s at p99 < {AIM:.0f} ms", insert.rate),
            figure("ingest_single_bare_insert", ours.rate, "webhooks/s", least.rate),
            figure("ingest_single_go", ours.rate, "webhooks/s", twin.rate),
        ]

    def keep(self, side: Side, server: Process, number: int) -> None:
        """Find a rate that the side keeps."""
        self.send(side, server, rate=0, count=300)  # its caches and connections
        self.world.settle()
        pace = self.send(side, server, rate=0, count=BURST)
        most = pace.answered / pace.seconds
        for share in [share for share in SHARES for _ in range(TRIES)]:
            rate = most * share
            cpu = server.cpu
            seen = self.send(side, server, rate=rate, count=int(rate * SECONDS))
            busy, own = (server.cpu - cpu) / seen.seconds, seen.cpu / seen.seconds
            say(
                f"{side.name} {number + 1}/{ROUNDS}: {rate:.0f}/s of {most:.0f}: p50 {seen.p50:.1f} ms, p99"
                f" {seen.p99:.1f} ms, longest {seen.longest:.0f} ms; server {100 * busy:.0f} % of a core,"
                f" {1000 * busy / rate:.2f} ms each, generator {100 * own:.0f} %"
            )
            if seen.p99 < AIM:
                side.kept.append(rate)
                return
        side.kept.append(0.0)
        say(f"{side.name} {number + 1}/{ROUNDS}: none of the rates was kept")

    def send(self, side: Side, server: Process, *, rate: float, count: int) -> Seen:
        """Send new webhooks, and see that each was answered 202."""
        path = self.world.folder / "messages"
        some = itertools.islice(self.deliveries, count)
        load.write(
            path,
            (
                payloads.webhook(self.world.github, event, body, id=str(uuid.uuid4()), path=side.path)
                for event, body in some
            ),
        )
        before = self.stored()
        seen = load.send(path, port=server.port, rate=rate, connections=CONNECTIONS)
        assert seen.statuses == {"202": count}, f"{side.name}: {seen.statuses}"
        assert self.stored() - before == count, f"{side.name}: something is not stored"
        return seen

    def stored(self) -> int:
        """What is stored of all that was sent."""
        return self.world.count("pipewright.events") + self.world.count("bench.raw")

    # --- batches ------------------------------------------------------------------------------------------

    def batch(self) -> list[dict[str, Any]]:
        """CloudEvents in our own form, in batches, beside the bare loop."""
        hook, ours, limit = self.world.cdevents, list[float](), list[float]()
        with self.world.server() as server:
            for number in range(ROUNDS + 1):
                lists = [list(itertools.islice(self.events, BATCH)) for _ in range(BATCHES)]
                path = self.world.folder / "messages"
                load.write(path, (payloads.batch(hook, events) for events in lists))
                before, cpu = self.stored(), server.cpu
                seen = load.send(path, port=server.port, rate=0, connections=2)
                assert seen.statuses == {"202": BATCHES}, seen.statuses
                assert self.stored() - before == BATCH * BATCHES
                rows = [
                    bare.prepared(list(itertools.islice(self.events, BATCH)), integration=hook.uid)
                    for _ in range(BATCHES)
                ]
                seconds = bare.loop(self.world.dsn, rows)
                if number:  # the first is to get warm
                    ours.append(BATCH * BATCHES / seen.seconds)
                    limit.append(BATCH * BATCHES / seconds)
                    say(
                        f"batches {number}/{ROUNDS}: ours {ours[-1]:.0f}/s, bare {limit[-1]:.0f}/s; server"
                        f" {1e6 * (server.cpu - cpu) / BATCH / BATCHES:.0f} µs of CPU an event"
                    )
        rows_each = "events/s in batches of 200"
        return [figure("ingest_batch", statistics.median(ours), rows_each, statistics.median(limit))]

    # --- idle connections ---------------------------------------------------------------------------------

    def idle(self) -> list[dict[str, Any]]:
        """Memory of the server for each connection that has asked once and asks no more."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(IDLE, hard - 500)
        with self.world.server() as server:
            each = asyncio.run(_idle(server, count))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return [
            figure("ingest_idle_connection", each / 1024, f"KiB each of {count:,} idle connections", 50.0)
        ]


async def _idle(server: Process, count: int) -> float:
    """Bytes for each connection."""
    before = server.rss
    held = list[asyncio.StreamWriter]()
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
        await reader.readuntil(b"}")
        held.append(writer)
    open_ = sum(1 for it in server.process.net_connections("tcp") if it.status == psutil.CONN_ESTABLISHED)
    grown = server.rss - before
    say(f"{open_:,} connections open, {grown / 2**20:.1f} MiB more than before")
    assert open_ >= count, "they are all open at the same time"
    for writer in held:
        writer.close()
    return grown / count


def mapping() -> list[dict[str, Any]]:
    """Provider payloads verified and mapped, a second of a core."""
    some = mapped.given()
    ours, limit = list[float](), list[float]()
    for number in range(ROUNDS):
        ours.append(mapped.rate(mapped.ours, some, seconds=2))
        limit.append(mapped.rate(mapped.bare, some, seconds=1))
        say(f"mapping {number + 1}/{ROUNDS}: ours {ours[-1]:.0f}/s, parsed only {limit[-1]:.0f}/s")
    unit = f"payloads/s and core, {len(some)} of {len({it.connector for it in some})} connectors"
    return [figure("ingest_mapping", max(ours), unit, max(limit))]


def measured() -> Iterator[list[dict[str, Any]]]:
    """All figures that were asked for."""
    if "mapping" in FIGURES:
        yield mapping()
    if set(FIGURES) & {"single", "batch", "idle"}:
        with world() as servers:
            bench = Bench(servers)
            asked: Iterable[tuple[str, Callable[[], list[dict[str, Any]]]]] = (
                ("single", bench.single),
                ("batch", bench.batch),
                ("idle", bench.idle),
            )
            for name, measure in asked:
                if name in FIGURES:
                    yield measure()


def main() -> None:
    """Print the figures at the end."""
    for line in [line for lines in list(measured()) for line in lines]:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
