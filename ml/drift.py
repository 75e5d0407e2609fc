"""How far a model's probabilities have moved since it was judged.

Population stability index: Siddiqi, Credit Risk Scorecards (2006), ch. 4: below 0.1 nothing moved, above 0.25
the model meets other runs than it was judged on. Standard library only: the operator asks, too.
"""

from collections.abc import Sequence
from math import log

from ml.figures import Decile

MOVED = 0.25
"""From here on a model meets other runs than it was judged on."""
_LEAST_SHARE = 1e-4
"""Stands for an empty class, whose logarithm there is not."""


def stability(expected: Sequence[int], found: Sequence[int]) -> float | None:
    """The index of two counts over the same classes; None where one of them is empty."""
    if not sum(expected) or not sum(found):
        return None
    before = [max(count / sum(expected), _LEAST_SHARE) for count in expected]
    now = [max(count / sum(found), _LEAST_SHARE) for count in found]
    return sum((n - b) * log(n / b) for b, n in zip(before, now, strict=True))


def since(judged: Sequence[Decile], found: Sequence[int]) -> float | None:
    """The index of the runs that a model was judged on, and of predictions counted by the same deciles.

    `found` counts a prediction in the last decile that begins at or below it. Where many runs have one
    probability, several deciles begin at it; the last of them stands for all.
    """
    expected = [0] * len(judged)
    last = {each.least: at for at, each in enumerate(judged)}
    for each in judged:
        expected[last[each.least]] += each.rows
    return stability(expected, found)
