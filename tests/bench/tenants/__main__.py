"""Measure, and print one JSON line a figure at the end: name, value, unit, limit, ratio.

    N=60 ROUNDS=3 python -m tests.bench.tenants

N is the number of Tenants of each round, ours and the bare loop's by turns on the same servers. FIGURES names
the parts to measure, of `kubernetes_only full idle fairness restart`; all of them by default.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from dev import places, process, product, throwaway
from dev.stack import Stack
from pipewright.store import roles
from tests.bench.tenants import bare, counts
from tests.bench.tenants.profile import PARTS, Profile, cpu
from tests.bench.tenants.servers import TENANTS, Servers

N = int(os.environ.get("N", "60"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
FIGURES = (os.environ.get("FIGURES") or "kubernetes_only full idle fairness restart").split()
FEW = 5
"""Tenants whose writes are counted."""
IDLE_SECONDS = 60.0
FAILURES = 500
NAME = "provisioner"
ONLY = Path(__file__).with_name("kubernetes_only.py")


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(
        f"{time.strftime('%H:%M:%S')} load {psutil.getloadavg()[0]:.1f}: {text}", file=sys.stderr, flush=True
    )


def figure(name: str, value: float, unit: str, limit: float | None, ratio: float | None) -> dict[str, Any]:
    """One line of the result."""
    line = {"name": name, "value": value, "unit": unit, "limit": limit, "ratio": ratio}
    return {key: round(it, 4) if isinstance(it, float) else it for key, it in line.items()}


class Bench:
    """One stack and its provisioner."""

    def __init__(self, stack: Stack, servers: Servers) -> None:
        self.stack, self.servers = stack, servers
        self.made = 0
        """Tenants of ours that are there."""
        self.small = (0.0, 0)
        """MiB that the process held when it had just started, and with how many tenants."""

    def start(self, entry: Path | None = None) -> None:
        """Start the provisioner, or another program in its place and with its settings."""
        usual = product.process(NAME, folder=self.stack.folder, port=self.stack.layout.ports[NAME])
        other = () if entry is None else (sys.executable, str(entry))
        process.start(dataclasses.replace(usual, command=other or usual.command, directory=places.ROOT))

    def stop(self) -> None:
        """End it."""
        process.stop(self.stack.folder, NAME)

    @property
    def running(self) -> psutil.Process:
        """The provisioner."""
        found = process.find(self.stack.folder, NAME)
        assert found is not None, "the provisioner does not run"
        return found

    def cpu(self) -> float:
        """Its CPU seconds so far."""
        times = self.running.cpu_times()
        return float(times.user + times.system)

    async def rates(self, name: str, entry: Path | None = None) -> dict[str, Any]:
        """Tenants per second, ours beside the bare loop's, by turns."""
        ours, raw = list[float](), list[float]()
        for number in range(ROUNDS):
            self.stop()
            used = cpu(self.stack.folder)
            seconds, made = await bare.loop(self.servers, N, kubernetes_only=entry is not None)
            raw.append(N / seconds)
            spent = {name: round(1000 * (it - used[name]) / N) for name, it in cpu(self.stack.folder).items()}
            say(f"bare loop: {raw[-1]:.2f}/s, {spent} ms of CPU for a tenant")
            await bare.clear(self.servers, made, kubernetes_only=entry is not None)
            self.start(entry)
            await self.servers.at_rest()
            writes, busy, before = self.servers.written(), self.cpu(), await self.metrics()
            ready = await self.profiled()
            ours.append(N / max(ready.values()))
            busy = self.cpu() - busy
            await self.servers.at_rest()
            each = (self.servers.written() - writes) / N
            after = await self.metrics()
            calls = counts.looks(after) - counts.looks(before)
            waits = sorted(ready.values())
            say(
                f"{name} {number + 1}/{ROUNDS}: ours {ours[-1]:.2f}/s, bare {raw[-1]:.2f}/s; CPU"
                f" {busy / N:.3f} s and {each:.1f} API writes a tenant; p50 {waits[N // 2]:.1f} s,"
                f" max {waits[-1]:.1f} s; { ({what: round(it / N, 1) for what, it in calls.items()}) }"
            )
            if entry is None:
                self.made += N
            else:
                await self.forget(list(ready))
        value, limit = statistics.median(ours), statistics.median(raw)
        return figure(name, value, "tenants/s", limit, value / limit)

    async def profiled(self) -> dict[str, float]:
        """Make N Tenants, and say what each fifth of them cost."""
        taken = Profile(self.stack.folder, self.metrics)
        await taken.note(0)
        async with asyncio.TaskGroup() as noting:

            def note(ready: int) -> None:
                if ready % max(1, N // PARTS) == 0:
                    noting.create_task(taken.note(ready))

            ready = await self.servers.until_ready(N, note=note)
        for line in taken.told():
            say(line)
        return ready

    async def metrics(self) -> str:
        """The provisioner's metrics since its start."""
        port = self.stack.layout.ports[NAME]
        async with self.servers.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text()

    async def same_writes(self, entry: Path | None = None) -> None:
        """Say what one Tenant costs the servers in writes, made by the bare loop and by us."""
        alone = entry is not None
        self.stop()
        before = await counts.count(self.servers)
        _, made = await bare.loop(self.servers, FEW, kubernetes_only=alone)
        await asyncio.sleep(counts.FLUSH_SECONDS)
        raw = (await counts.count(self.servers)).since(before)
        await bare.clear(self.servers, made, kubernetes_only=alone)
        self.start(entry)
        await self.servers.at_rest()
        before = await counts.count(self.servers)
        ready = await self.servers.until_ready(FEW)
        await asyncio.sleep(counts.FLUSH_SECONDS)
        ours = (await counts.count(self.servers)).since(before)
        say(f"a tenant's writes: bare {raw.each(FEW)}; ours {ours.each(FEW)}")
        for more, less, who in ((raw, ours, "the bare loop"), (ours, raw, "we")):
            if rest := {**(more.api - less.api), **(more.vault - less.vault)}:
                say(f"only {who}, for {FEW}: {', '.join(f'{count} {what}' for what, count in rest.items())}")
        if alone:
            await self.forget(list(ready))
            return
        self.made += FEW
        self.stop()
        self.start()
        await self.servers.at_rest(quiet=10)
        self.small = (self.rss(), self.made)

    async def forget(self, names: list[str]) -> None:
        """Take Tenants of the Kubernetes-only program away: the real one's registry does not know them."""
        self.stop()
        for name in names:
            await self.servers.forget(name)

    async def idle(self) -> list[dict[str, Any]]:
        """Writes and CPU in a minute in which nothing happens; memory then; CPU of one verification pass."""
        self.stop()
        self.start()
        begun = time.monotonic()
        await self.servers.at_rest(quiet=10)
        calm = 0.0
        while calm < 5:  # the initial list is a verification of everything: until the CPU rests
            before = self.cpu()
            await asyncio.sleep(2.5)
            calm = calm + 2.5 if self.cpu() - before < 0.1 else 0.0
        say(
            f"{self.made} tenants verified after a start:"
            f" {self.cpu():.1f} s CPU in {time.monotonic() - begun:.0f} s"
        )
        verified = self.cpu()
        writes, begun_with = self.servers.written(), self.cpu()
        await asyncio.sleep(IDLE_SECONDS)
        share = 100 * (self.cpu() - begun_with) / IDLE_SECONDS
        return [
            figure(
                "idle_writes", self.servers.written() - writes, f"writes in {IDLE_SECONDS:.0f} s", 0, None
            ),
            figure("idle_cpu", share, "% of a core", 1, share),
            figure("verification_cpu", verified, f"s, {self.made} tenants and the start", 40, verified / 40),
            *self.memory(),
        ]

    def memory(self) -> list[dict[str, Any]]:
        """What the process holds, and how much more than with a few tenants for each further one."""
        rss, (small, few) = self.rss(), self.small
        each = 1024 * (rss - small) / max(1, self.made - few)
        return [
            figure("memory", rss, f"MiB with {self.made} tenants", 150, rss / 150),
            figure("memory_each", each, f"KiB for each tenant beyond {few}", 60, each / 60),
        ]

    def rss(self) -> float:
        """MiB of it that are in memory."""
        return float(self.running.memory_info().rss / 2**20)

    async def fairness(self) -> dict[str, Any]:
        """Another's time to Ready while one Tenant fails at every look, beside the time without."""
        quiet = [await self.one() for _ in range(5)]
        [name] = await self.servers.until_ready(1)
        self.made += 1
        found = await self.servers.kubernetes("GET", f"{TENANTS}/{name}")
        role = roles.login(found["status"]["id"], "ingest")
        await self.mark(role, "another")
        done = asyncio.Event()

        async def fail() -> None:
            for number in range(FAILURES):
                note = {"metadata": {"annotations": {"bench/look": str(number)}}}
                await self.servers.kubernetes("PATCH", f"{TENANTS}/{name}", note, kind="merge-patch+json")
                await asyncio.sleep(0.02)
            done.set()

        failing, busy = asyncio.create_task(fail()), list[float]()
        while not done.is_set() or not busy:
            busy.append(await self.one())
        await failing
        told = (await self.servers.kubernetes("GET", f"{TENANTS}/{name}"))["status"]["conditions"]
        assert any(it["type"] == "Ready" and it["status"] == "False" for it in told), "it did not fail"
        await self.mark(role, str(found["metadata"]["uid"]))
        note = {"metadata": {"annotations": {"bench/look": "repaired"}}}
        await self.servers.kubernetes("PATCH", f"{TENANTS}/{name}", note, kind="merge-patch+json")
        await self.servers.at_rest()
        value, limit = statistics.median(busy), statistics.median(quiet)
        say(f"fairness: {len(busy)} tenants beside {FAILURES} failing looks")
        return figure("fairness", value, "s to Ready beside one that fails", 2 * limit, value / limit)

    async def mark(self, role: str, uid: str) -> None:
        """Say in the role's COMMENT whose it is."""
        await self.servers.sql(f'COMMENT ON ROLE {role} IS \'{{"uid":"{uid}"}}\'')

    async def one(self) -> float:
        """A Tenant alone: its seconds from create to Ready."""
        [seconds] = (await self.servers.until_ready(1)).values()
        self.made += 1
        return seconds

    async def restart(self) -> dict[str, Any]:
        """SIGKILL with all Tenants there; a new one's Ready, counted from the start of the next process.

        Not from its readiness: it is ready, too, while it stands by for its Lease.
        """
        await self.servers.at_rest()
        self.stack.kill(NAME)
        before = self.servers.written()
        waiting = asyncio.create_task(self.servers.until_ready(1))
        await asyncio.sleep(0.5)
        starting = time.perf_counter()
        await asyncio.to_thread(self.start)
        back = time.perf_counter()
        [name] = await waiting
        ready = time.perf_counter()
        self.made += 1
        await self.servers.at_rest(quiet=10)
        others = self.servers.written(but=name) - before
        say(
            f"restart: back after {back - starting:.1f} s, Ready {ready - starting:.1f} s after the start,"
            f" {others} writes for others"
        )
        value = ready - starting
        return figure("restart", value, f"s from the start to Ready, {self.made} tenants", 5, value / 5)


async def measure(stack: Stack) -> list[dict[str, Any]]:
    """All figures."""
    stack.up(ray=False)
    for name in ("runner", "gateway"):  # they share the cores and have no part in this
        stack.stop(name)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        bench = Bench(stack, Servers(stack, http))
        found = list[dict[str, Any]]()
        if "kubernetes_only" in FIGURES:
            await bench.same_writes(ONLY)
            found.append(await bench.rates("tenants_kubernetes_only", ONLY))
        if set(FIGURES) != {"kubernetes_only"}:
            await bench.same_writes()
        if "full" in FIGURES:
            found.append(await bench.rates("tenants_full"))
        if "idle" in FIGURES:
            found += await bench.idle()
        if "fairness" in FIGURES:
            found.append(await bench.fairness())
        if "restart" in FIGURES:
            found.append(await bench.restart())
        return found


def main() -> None:
    """Run on a stack of its own and print the figures."""
    with throwaway.stack() as stack:
        lines = asyncio.run(measure(stack))
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
