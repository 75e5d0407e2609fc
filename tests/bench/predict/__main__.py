"""Evaluate the prediction on real histories, then measure features and fits over generated ones.

    SEEDS=5 SIZES="25000 100000" FIGURES="quality sizes" KEEP=folder python -m tests.bench.predict

`quality` is the evaluation of docs/model.md with a fit for each day of the test part and SEEDS draws of the
model; it is left out where the histories are absent. What a draw said is kept in the folder KEEP, so that
SEEDS=2 and then SEEDS=5 is one run in two pieces. `sizes` measures features and a fit for each of SIZES, the
numbers of generated runs, `features` the features alone; their limit is what the smallest size would take
for so many runs. One JSON line a figure.
"""

import json
import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml import fit, replay
from ml.history import Run
from ml.replay import Attempt
from tests.bench.lines import figure
from tests.bench.predict import histories, quality

SEEDS = int(os.environ.get("SEEDS") or "5")
SIZES = [int(size) for size in (os.environ.get("SIZES") or "25000 100000").split()]
FIGURES = (os.environ.get("FIGURES") or "quality sizes").split()
KEEP = os.environ.get("KEEP")


def main() -> int:
    """Print all figures."""
    if "quality" in FIGURES:
        if histories.FILE.exists():
            for line in quality.measure(seeds=SEEDS, keep=Path(KEEP) if KEEP else None):
                print(json.dumps(line), flush=True)
        else:
            sys.stdout.write(
                "The public histories are not in ../shared/data/gha-runs: nothing to evaluate.\n"
            )
    for part in ("features", "sizes"):
        if part in FIGURES:
            smallest: dict[str, float] = {}
            for size in sorted(SIZES):
                for line in measure(size, fits=part == "sizes", each=smallest):
                    print(json.dumps(line), flush=True)
    return 0


def measure(size: int, *, fits: bool, each: dict[str, float]) -> list[dict[str, Any]]:
    """Features of so many generated runs, then a fit on them: CPU seconds and peak memory.

    `each` has what a run took at the smallest size, and is filled by it.
    """
    attempts = list(generated(size))
    began = time.process_time()
    data = replay.judged(attempts)
    taken = {"features": time.process_time() - began}
    if fits:
        began = time.process_time()
        fit.fit(data, hyperparameters={}, seed=0)
        taken["fit"] = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, seconds in taken.items():
        each.setdefault(name, seconds / size)
    return [
        *(
            figure(f"predict_{name}", seconds, f"CPU s, {size} runs", each[name] * size)
            for name, seconds in taken.items()
        ),
        figure("predict_peak", peak, f"MiB, {size} runs", None),
    ]


def generated(size: int) -> Iterator[Attempt]:
    """Runs of 20 projects with 3 pipelines, on branches that break and are repaired, three a minute."""
    dice = random.Random(1)
    broken: dict[str, bool] = {}
    for number in range(size):
        project, branch = f"p{dice.randrange(20)}", f"b{int(dice.expovariate(0.05))}"
        place = f"{project}/{branch}"
        broken[place] = dice.random() < (0.7 if broken.get(place) else 0.1)
        run = Run(
            integration="i", project=project, pipeline=f"w{number % 3}", event=dice.choice(("push", "pull")),
            branch=branch, actor=f"u{dice.randrange(200)}", sha=f"c{number // 3}", run_id=str(number),
            attempt=1, started_at=20.0 * number,
        )  # fmt: skip
        ended = run.started_at + dice.lognormvariate(6, 1)
        yield Attempt(run=run, outcome="failure" if broken[place] else "success", finished_at=ended)


if __name__ == "__main__":
    sys.exit(main())
