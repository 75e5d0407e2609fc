"""Which known category of failure a log shows, by patterns (`taxonomy.toml`): the cause one can act upon.

Only the end of a log is read, line by line. A pattern decides; hints decide where no pattern does. Of several
categories the one whose line stands nearest to the end wins: a job stops soon after what stopped it.
"""

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Literal

from ml import templates

Kind = Literal["infra", "flaky", "code", "config"]
Owner = Literal["platform", "service", "team", "author"]

TAIL = 20_000
"""Characters of the log's end that are read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A kind of failure with its owner and what mends it."""

    name: str
    group: str
    kind: Kind
    owner: Owner
    transient: bool
    """Whether the same commit may well pass when it is run again."""
    recipe: str
    patterns: tuple[re.Pattern[str], ...]
    hints: tuple[re.Pattern[str], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A category that the log shows, and the line that shows it."""

    category: Category
    line: str
    hint: bool


@functools.cache
def categories() -> Mapping[str, Category]:
    """The taxonomy by name, in the file's order."""
    file = tomllib.loads(resources.files("ml").joinpath("taxonomy.toml").read_text("utf-8"))
    return {
        name: Category(
            name=name,
            group=entry["group"],
            kind=entry["kind"],
            owner=entry["owner"],
            transient=entry["transient"],
            recipe=entry["recipe"],
            patterns=tuple(re.compile(pattern, re.MULTILINE) for pattern in entry["patterns"]),
            hints=tuple(re.compile(pattern, re.MULTILINE) for pattern in entry.get("hints", ())),
        )
        for name, entry in file.items()
    }


def lines(log: str, *, tail: int = TAIL) -> list[str]:
    """The cleaned, non-empty lines of the log's last `tail` characters."""
    return [line for line in map(templates.clean, log[-tail:].splitlines()) if line]


def findings(log: str) -> Sequence[Finding]:
    """All categories that the log's end shows, the deciding one first, each with its last line."""
    return _findings(log[-TAIL:])


@functools.lru_cache(maxsize=8)  # one failure is asked about several times in a row
def _findings(log: str) -> tuple[Finding, ...]:
    text = "\n".join(lines(log))
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters get longer; positions must hold
        text = lowered
    found = [
        (hint, -match.end(), category, match)
        for category in categories().values()
        for hint, patterns in ((False, category.patterns), (True, category.hints))
        for match in _last(patterns, lowered)
    ]
    best: dict[str, Finding] = {}
    for hint, _, category, match in sorted(found, key=lambda each: each[:2]):
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
        line = text[start : end if end >= 0 else None]
        best.setdefault(category.name, Finding(category=category, line=line, hint=hint))
    return tuple(best.values())


def _last(patterns: tuple[re.Pattern[str], ...], text: str) -> Iterator[re.Match[str]]:
    for pattern in patterns:
        match = None
        for match in pattern.finditer(text):  # noqa: B007 - the last one counts
            pass
        if match:
            yield match
