"""Flaky jobs and tests, and whether a re-run would pass: rates of few observations, with how sure they are.

Flaky is what gave different answers on one commit. A rate is the mean of a Beta posterior with its 95 %
credible interval (Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), §2.4); the prior is what is usual
for the tenant's lines, with the weight of a few observations, so that one re-run does not make a rate of 0 or
100 %.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping

from scipy import special


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One finished attempt of a job or a test."""

    line: str
    """The job or test: equal for all its attempts on all commits."""
    commit: str
    finished_at: float
    """Epoch seconds."""
    failed: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate with its 95 % credible interval, and how many observations of its own it rests on."""

    mean: float
    low: float
    high: float
    total: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A Beta prior: the usual rate, and how many observations it is worth."""

    mean: float = 0.5
    weight: float = 2.0

    def rate(self, hits: int, total: int) -> Rate:
        """The posterior after `hits` of `total`."""
        a, b = self.mean * self.weight + hits, (1 - self.mean) * self.weight + total - hits
        low, high = special.betaincinv(a, b, [0.025, 0.975])
        return Rate(mean=a / (a + b), low=float(low), high=float(high), total=total)


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of one line."""

    commits: int = 0
    """Commits with two or more attempts: on the others nothing can disagree."""
    disagreed: int = 0
    """Those of them on which it both passed and failed."""
    reruns: int = 0
    """Attempts that followed a failed one on the same commit."""
    passed: int = 0
    """Those of them that passed."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.commits + other.commits,
            self.disagreed + other.disagreed,
            self.reruns + other.reruns,
            self.passed + other.passed,
        )


WEIGHT = 4.0
"""How many observations the tenant's usual rate is worth against a line's own."""


def count(attempts: Iterable[Attempt]) -> dict[str, Counts]:
    """The counts of each line, whatever the order in which its attempts come."""
    histories: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for each in attempts:
        histories[each.line, each.commit].append((each.finished_at, each.failed))
    found: dict[str, Counts] = defaultdict(Counts)
    for (line, _), history in sorted(histories.items()):
        results = [failed for _, failed in sorted(history)]
        after_failure = [failed for before, failed in itertools.pairwise(results) if before]
        found[line] += Counts(
            commits=int(len(results) > 1),
            disagreed=int(len(set(results)) > 1),
            reruns=len(after_failure),
            passed=after_failure.count(False),
        )
    return dict(found)


def flaky_rates(counts: Mapping[str, Counts]) -> dict[str, Rate]:
    """P(different answers on one commit that is run more than once) of each line."""
    whole = sum(counts.values(), Counts())
    prior = Prior(mean=Prior(mean=0.1).rate(whole.disagreed, whole.commits).mean, weight=WEIGHT)
    return {line: prior.rate(each.disagreed, each.commits) for line, each in counts.items()}


def retry(counts: Mapping[str, Counts], line: str, *, usual: Rate | None = None) -> Rate:
    """P(the next attempt on the commit on which `line` just failed passes).

    `usual` is what is usual for such failures where something better is known than the tenant's mean: the
    probability of `causes.judge`, say, of the failure at hand.
    """
    whole = sum(counts.values(), Counts())
    mean = usual.mean if usual else Prior().rate(whole.passed, whole.reruns).mean
    own = counts.get(line, Counts())
    return Prior(mean=min(max(mean, 0.01), 0.99), weight=WEIGHT).rate(own.passed, own.reruns)


def advice(passes: Rate, *, machine_cost: float, wait_cost: float) -> str:
    """Whether a re-run is worth it, in words: what it costs against the person's time that a pass saves.

    Both are in the same currency: one re-run on a machine, and a person who looks for a cause that is none.
    """
    gain = passes.mean * wait_cost - machine_cost
    sure = f"{passes.mean:.0%} ({passes.low:.0%} to {passes.high:.0%}, {passes.total} re-runs seen)"
    if passes.low * wait_cost > machine_cost:
        return f"run it again: it passes with {sure}"
    if gain > 0:
        return f"running it again is worth a try: it passes with {sure}"
    return f"do not run it again: it passes with {sure}, which is not worth the machine"
