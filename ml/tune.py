"""The trials of a search side by side, by Ray Tune, where the job runs on a Ray cluster with cores to spare.

Ray is imported when a search runs on a cluster, and not before: ml/ does without it everywhere else. No
trouble with it fails a training: what no trial of Tune's judged was not judged, and the defaults were.
"""

import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml.replay import Dataset

Judge = Callable[[Dataset, int], float | None]
"""The loss of the trial of a number; None: the time was over. It is sent to other processes."""

ADDRESS = "RAY_ADDRESS"
"""Ray sets it for the process of a job; without it there is no cluster, and none is started for a search."""
AT_ONCE = 8
"""Trials side by side at most."""
MEMORY = 512 * 1024 * 1024
"""Bytes that a trial is given: a process with Ray and LightGBM, the data of `search.MOST_ROWS` and a copy."""
_GRACE = 30
"""Seconds after which Tune ends trials that do not end themselves, or that never found a free core."""
_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_INIT": "1",
}
"""Nobody reads Tune's own files, and it starts no cluster."""


@contextlib.contextmanager
def cluster() -> Iterator[int]:
    """For how many trials the Ray cluster has cores and memory free, beside this job; 0 without Ray.

    The connection to the cluster lasts as long as the context.
    """
    with contextlib.ExitStack() as ends:
        room = 0
        if os.environ.get(ADDRESS):
            try:
                import ray
                import ray.tune

                ends.callback(ray.shutdown)
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
                free = ray.available_resources()
                room = int(min(free.get("CPU", 0), free.get("memory", 0) // MEMORY, AT_ONCE))
            except Exception as trouble:  # noqa: BLE001 - one after another is slower, and as good
                sys.stderr.write(
                    f"no Ray Tune ({type(trouble).__name__}: {trouble}): one trial after another\n"
                )
        yield room


def losses(
    known: Dataset, judge: Judge, numbers: Sequence[int], *, ends_at: float, at_once: int
) -> dict[int, float]:
    """The loss of each trial that ended in time, by its number. Only within `cluster`."""
    os.environ.update(_VARIABLES)
    try:
        with tempfile.TemporaryDirectory(prefix="pipewright-search-") as folder:
            return _run(known, judge, numbers, ends_at=ends_at, at_once=at_once, folder=folder)
    except Exception as trouble:  # noqa: BLE001 - the defaults are judged already, and as good as before
        sys.stderr.write(f"Ray Tune ended unexpectedly ({type(trouble).__name__}: {trouble})\n")
        return {}


def _run(
    known: Dataset, judge: Judge, numbers: Sequence[int], *, ends_at: float, at_once: int, folder: str
) -> dict[int, float]:
    from ray import tune

    trainable = tune.with_parameters(_trial, judge=judge, known=known)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "memory": MEMORY}),
        param_space={"number": tune.grid_search(list(numbers))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once, time_budget_s=max(1.0, ends_at + _GRACE - time.time())
        ),
        run_config=tune.RunConfig(storage_path=folder, name="search", verbose=0),
    )
    told = [result.metrics or {} for result in tuner.fit() if result.error is None]
    return {each["number"]: each["loss"] for each in told if each.get("loss") is not None}


def _trial(config: Mapping[str, Any], *, judge: Judge, known: Dataset) -> dict[str, object]:
    """One trial, in a worker of its own."""
    return {"number": config["number"], "loss": judge(known, config["number"])}
