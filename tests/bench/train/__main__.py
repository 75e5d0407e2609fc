"""Measure, and print one JSON line a figure at the end: name, value, unit, limit, ratio.

    ROUNDS=3 FIGURES="compute batch endpoint ray_serve cycle" python -m tests.bench.train

`compute` is in this process, `batch` in it and over HTTP. `endpoint` is the gateway on PostgreSQL, beside
itself answering a constant; `ray_serve` the same beside Ray Serve; `cycle` a training from due to promoted.
SECONDS is how long a rate is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

from dev import throwaway
from dev.demo.scene import ProviderClient
from dev.stack import Stack
from tests.bench import sites, trained
from tests.bench.lines import say
from tests.bench.train import compute
from tests.bench.train.cycle import Cycles
from tests.bench.train.endpoint import Endpoint, lines_of

ROUNDS = int(os.environ.get("ROUNDS", "3"))
FIGURES = (os.environ.get("FIGURES") or "compute batch endpoint ray_serve cycle").split()
SECONDS = float(os.environ.get("SECONDS", "6"))


def measured() -> Iterator[list[dict[str, Any]]]:
    """All figures that were asked for."""
    records = trained.records()
    history_window = trained.window_of(records)
    wanted = set(FIGURES)
    content = trained.model_of(history_window) if wanted - {"cycle"} else b""
    rows = compute.asked(history_window)
    if "compute" in wanted:
        yield compute.one(content, rows, rounds=ROUNDS)
    if "batch" in wanted:
        yield compute.batch(content, rows, rounds=ROUNDS)
    if wanted & {"batch", "endpoint", "ray_serve", "cycle"}:
        with throwaway.stack() as stack:
            stack.up(ray="cycle" in wanted)
            site = _site(stack, records)
            if "cycle" in wanted:
                yield Cycles(site, stack.parts.ray()).measure(rounds=ROUNDS)
            if wanted == {"cycle"}:
                return
            asyncio.run(site.serve(content))
            endpoint = Endpoint(site, records, lines=lines_of(history_window), seconds=SECONDS)
            if "batch" in wanted:
                yield endpoint.batches(rows, content=content, rounds=ROUNDS)
            if wanted & {"endpoint", "ray_serve"}:
                yield endpoint.measure(rounds=ROUNDS, content=content, ray="ray_serve" in wanted)


def _site(stack: Stack, records: list[dict[str, Any]]) -> sites.Site:
    """A tenant with the history."""
    provider = ProviderClient(stack)
    provider.start()
    site = sites.make(stack, provider, "bench")
    answers = asyncio.run(site.bring(records))
    say(f"{site.count('runs')} runs and {site.count('jobs')} jobs imported in {answers.seconds:.1f} s")
    return site


def main() -> None:
    """Print the figures at the end."""
    for line in [line for lines in list(measured()) for line in lines]:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
