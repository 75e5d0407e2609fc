"""Measure, and print one JSON line a figure: name, value, unit, limit, ratio.

    ROUNDS=3 FIGURES="compute batch endpoint ray_serve cycle" python -m tests.bench.train

`compute` is in this process, `batch` in it and over HTTP. `endpoint` is the gateway on PostgreSQL, beside
itself answering a constant; `ray_serve` the same beside Ray Serve; `cycle` a training from due to promoted.
SECONDS is how long a rate is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
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


def measured() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was asked for, one after the other; servers start before the first that needs them."""
    records = trained.records()
    history_window = trained.window_of(records)
    wanted = set(FIGURES)
    content = trained.model_of(history_window) if wanted - {"cycle"} else b""
    rows = compute.asked(history_window)
    if "compute" in wanted:
        yield lambda: compute.one(content, rows, rounds=ROUNDS)
    if "batch" in wanted:
        yield lambda: compute.batch(content, rows, rounds=ROUNDS)
    if not wanted & {"batch", "endpoint", "ray_serve", "cycle"}:
        return
    with throwaway.stack() as stack:
        stack.up(ray="cycle" in wanted)
        site = _site(stack, records)
        if "cycle" in wanted:
            yield lambda: Cycles(site, stack.parts.ray()).measure(rounds=ROUNDS)
        if wanted == {"cycle"}:
            return
        asyncio.run(site.serve(content))
        endpoint = Endpoint(site, records, lines=lines_of(history_window), seconds=SECONDS)
        if "batch" in wanted:
            yield lambda: endpoint.batches(rows, content=content, rounds=ROUNDS)
        if wanted & {"endpoint", "ray_serve"}:
            yield lambda: endpoint.beside_a_constant(rounds=ROUNDS)
        if "ray_serve" in wanted:
            yield lambda: endpoint.beside_ray_serve(content, rounds=ROUNDS)


def _site(stack: Stack, records: list[dict[str, Any]]) -> sites.Site:
    """A tenant with the history."""
    provider = ProviderClient(stack)
    provider.start()
    site = sites.make(stack, provider, "bench")
    answers = asyncio.run(site.bring(records))
    stack.stop("provider")
    say(f"{site.count('runs')} runs and {site.count('jobs')} jobs imported in {answers.seconds:.1f} s")
    return site


def main() -> int:
    """Print each figure once it is there; one that cannot be taken costs none of the others."""
    failed = 0
    for measure in measured():
        try:
            for line in measure():
                print(json.dumps(line), flush=True)
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the rest is measured
            traceback.print_exc()
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
