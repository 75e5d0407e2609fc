"""When something runs otherwise than usual: one outlier, a lasting shift of times, or a rise of the failure
rate.

An outlier: the robust z-score of the logarithm, median and MAD or, where that is wider, the central 80 %
(Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), limit 3.5). A shift: two-sided CUSUM of the
same scores (Page, Biometrika 41 (1954); Montgomery, Statistical Quality Control, §9.1, k = 0.5, h = 8 as
scores have heavier tails than normal ones). Failures: Bernoulli CUSUM (Reynolds and Stoumbos, Journal of
Quality Technology 31 (1999)) of the likelihood ratio between the usual rate and twice that; by Wald's bound
one cycle alarms wrongly with probability e^-h at most. Keys are the caller's: a job, a runner, an external
host. Every function is a pure step from state to state, small enough to be stored by key.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

from ml import taxonomy

OUTLIER = 3.5
LEAST = 8
"""Observations without which nothing is called unusual."""
SLACK, SHIFT = 0.5, 8.0
RATE_LIMIT = math.log(200)


@dataclasses.dataclass(frozen=True, slots=True)
class Usual:
    """What is usual of a time: the middle of its logarithm, and how far from it is nothing special."""

    middle: float
    deviation: float

    @property
    def seconds(self) -> float:
        """The usual time."""
        return math.exp(self.middle)

    def z(self, seconds: float) -> float:
        """How unusual a time is, in deviations of its logarithm."""
        return (math.log(seconds) - self.middle) / self.deviation


def usual(recent: Sequence[float]) -> Usual | None:
    """What is usual by recent times; None: too few.

    The deviation is the larger of what the MAD and the central 80 % of the times say: many jobs have two
    usual times (with and without a cache), and the MAD sees only the more frequent one. A floor of 5 % keeps
    lines of nearly constant times from crying at each second.
    """
    if len(recent) < LEAST:
        return None
    # Lists, not arrays: of a hundred numbers they are six times as fast, and thousands of lines are asked.
    logs = sorted(math.log(each) for each in recent if each > 0) or [0.0]
    middle = _quantile(logs, 0.5)
    spread = _quantile(logs, 0.9) - _quantile(logs, 0.1)
    apart = sorted(abs(each - middle) for each in logs)
    return Usual(middle, max(1.4826 * _quantile(apart, 0.5), spread / 2.563, 0.05))


def _quantile(rising: Sequence[float], share: float) -> float:
    """Between the two values that are nearest, as NumPy has it."""
    place = share * (len(rising) - 1)
    below = math.floor(place)
    above = min(below + 1, len(rising) - 1)
    return rising[below] + (place - below) * (rising[above] - rising[below])


def robust_z(recent: Sequence[float], seconds: float) -> float | None:
    """How unusual a time is beside recent ones, as `usual` measures it; None: too few, or no time."""
    found = usual(recent)
    return None if found is None or seconds <= 0 else found.z(seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class Cusum:
    """Sums of what exceeded the slack, upwards and downwards; nought is the usual."""

    up: float = 0.0
    down: float = 0.0

    def step(self, z: float) -> "Cusum":
        """The sums after another score, cut at ±4 so that one outlier alone is no shift."""
        z = min(max(z, -4.0), 4.0)
        return Cusum(max(0.0, self.up + z - SLACK), max(0.0, self.down - z - SLACK))

    @property
    def shifted(self) -> int:
        """1 when times have risen for good, -1 when they have fallen, 0 when neither; start anew after it."""
        return 1 if self.up > SHIFT else -1 if self.down > SHIFT else 0


@dataclasses.dataclass(frozen=True, slots=True)
class FailureCusum:
    """Evidence that failures have become more frequent than usual."""

    score: float = 0.0
    since: int = 0
    """Observations since the evidence was nought: about when it began."""

    def step(self, *, failed: bool, usual: float) -> "FailureCusum":
        """After another result; `usual` is the rate to compare with, known beforehand."""
        low = min(max(usual, 0.01), 0.8)
        high = min(max(2 * low, low + 0.1), 0.95)
        gain = math.log(high / low) if failed else math.log((1 - high) / (1 - low))
        score = max(0.0, self.score + gain)
        return FailureCusum(score, self.since + 1 if score else 0)

    @property
    def risen(self) -> bool:
        """Whether an incident should be told; start anew when it is over."""
        return self.score > RATE_LIMIT


_HOST = re.compile(
    r"(?:://(?:[^/@\s]*@)?|\blookup |could not resolve host: |connect to )((?:[a-z0-9-]+\.)+[a-z]{2,})",
    re.IGNORECASE,
)


def hosts(log: str) -> set[str]:
    """External hosts in the lines that show trouble of infrastructure: whom an incident may concern."""
    return {
        host.lower()
        for finding in taxonomy.findings(log)
        if finding.category.kind == "infra"
        for host in _HOST.findall(finding.line)
    }
