"""What trainings of all tasks share: when there is too little to learn from, and how gates are missed."""

from collections.abc import Iterable

MIN_ROWS = 200
"""Labelled attempts below which nothing can be learned, split and tested."""

Rule = tuple[str, float, str, float | None]
"""A gate in words, the value that was reached, `at most` or `at least`, and the limit; None: it is open."""


class TrainingFailed(Exception):
    """The data cannot be trained on; the message is for the user."""


def missed(rules: Iterable[Rule]) -> list[str]:
    """A sentence for each gate that is not passed: the gate, its value, its limit."""
    return [
        f"{gate} is {value:.4f}, must be {word} {limit:g}"
        for gate, value, word, limit in rules
        if limit is not None and (value > limit if word == "at most" else value < limit)
    ]
