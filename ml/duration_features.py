"""What a forecast of a duration goes by: how long runs of its lines took, and when and where it runs.

One pure function, used by the gateway when a run is first heard of and by training over the replayed
window: `features` over the lines that `ml.history` keeps. All durations are in seconds, all but the scale as
logarithms of their ratio to it, so that lines of seconds and of hours teach one model.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ml.durations import FEW, QUANTILES
from ml.history import Outcome, Run

LONGEST = 24 * 3600.0
"""Seconds. What took longer is mostly the end of a later re-run, and teaches nothing."""

NAMES = (
    "last", "mean3", "p10", "p90", "spread", "known", "borrowed", "hour", "weekday",
    "branch_last", "branch_middle", "event_middle", "ref_middle", "actor_middle",
    "passed_middle", "failed_middle", "failed_share", "red", "attempt", "before",
)  # fmt: skip
"""The features in the order of a row. NaN: not known."""

SCHEMA = hashlib.sha256("\n".join(NAMES).encode()).hexdigest()[:12]
"""Digest of their names: a model goes with the features that it was trained on."""

_BASES = (
    ("pipeline", "of this pipeline"),
    ("project", "of this project"),
    ("integration", "of this Integration"),
)
"""Scope → in words. The first of enough runs is what a forecast rests on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The recent durations that a forecast rests on."""

    seconds: tuple[float, ...]
    """In the order of finish, the newest last; never empty."""
    words: str
    """Whose they are."""

    @property
    def scale(self) -> float:
        """Their median."""
        return float(np.median(self.seconds))

    @property
    def quantiles(self) -> list[float]:
        """Their empirical quantiles, for each of `durations.QUANTILES`: the baseline."""
        found: list[float] = np.quantile(self.seconds, QUANTILES).tolist()
        return found


def lasted(outcome: Outcome) -> float | None:
    """How long an attempt took; None where that says nothing."""
    seconds = outcome.finished_at - outcome.started_at
    return seconds if 0 < seconds <= LONGEST else None


def basis(lines: Mapping[str, Sequence[Outcome]]) -> Basis | None:
    """What a forecast rests on: the pipeline's runs, or where it has few its project's, or its Integration's.

    None where nothing is known at all.
    """
    best: Basis | None = None
    for scope, words in _BASES:
        seconds = tuple(_seconds(lines.get(scope, ())))
        if len(seconds) >= FEW:
            return Basis(seconds=seconds, words=words)
        if seconds:  # the widest one has the most
            best = Basis(seconds=seconds, words=words)
    return best


def features(run: Run, lines: Mapping[str, Sequence[Outcome]], found: Basis) -> list[float]:
    """A row of `NAMES` for a run with what is known of its lines; `found` is `basis(lines)`."""
    scale = found.scale
    own = list(_seconds(lines.get("pipeline", ())))
    logs = np.log(np.array(found.seconds) / scale)
    low, high = np.quantile(logs, [0.1, 0.9])
    branch = list(_seconds(lines.get("branch", ())))
    pipeline = lines.get("pipeline", ())
    passed = _seconds(each for each in pipeline if not each.failed)
    failed = _seconds(each for each in pipeline if each.failed)
    recent = pipeline[-5:]
    return [
        _log(own[-1:], scale),
        float(np.mean(np.log(np.array(own[-3:]) / scale))) if own else math.nan,
        float(low),
        float(high),
        float(logs.std()),
        float(len(own)),
        float(found.words != _BASES[0][1]),
        run.judged_at % 86400 // 3600,
        run.judged_at // 86400 % 7,
        _log(branch[-1:], scale),
        _log(branch, scale),
        _log(_seconds(lines.get("event", ())), scale),
        _log(_seconds(lines.get("ref", ())), scale),
        _log(_seconds(lines.get("actor", ())), scale),
        _log(passed, scale),
        _log(failed, scale),
        sum(each.failed for each in recent) / len(recent) if recent else math.nan,
        float(pipeline[-1].failed) if pipeline else math.nan,
        float(min(run.attempt, 5)),
        _log(_before(run, lines.get("commit", ())), scale),
    ]


def _before(run: Run, commit: Sequence[Outcome]) -> list[float]:
    """How long the newest earlier attempt of this run took: a re-run mostly runs a part of it."""
    earlier = [each for each in commit if each.run == run.run_id and each.attempt < run.attempt]
    return list(_seconds(earlier[-1:]))


def _seconds(outcomes: Iterable[Outcome]) -> Iterable[float]:
    return (seconds for each in outcomes if (seconds := lasted(each)) is not None)


def _log(seconds: Iterable[float], scale: float) -> float:
    known = list(seconds)
    return math.log(float(np.median(known)) / scale) if known else math.nan
