"""Log templates: the constant part of log lines, learned line by line with bounded memory.

Drain: He, Zhu, Zheng and Lyu, ICWS 2017: mask what varies, walk a tree of fixed depth (number of tokens, then
the first tokens), and join the line to the most similar template of that leaf, or open a new one. Our own
additions are the bounds: when a leaf or the whole is full, the template that was not seen for longest goes.
The same lines in the same order always give the same templates.
"""

import dataclasses
import json
import re
from collections import OrderedDict
from typing import Any

FORMAT = "pipewright-templates/1"
WILD = "<*>"
MAX_CHARACTERS = 1000
"""What a line has beyond is not looked at."""
MAX_TOKENS = 60
"""Tokens beyond are dropped, so that numbers of tokens, the first level of the tree, are few."""

_NOISE = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]"  # colours and cursor
    r"|section_(?:start|end):\d+:\w+(?:\[[^\]]*\])?"  # GitLab's folds
    r"|^##\[\w+\]"  # and those of GitHub and Azure
    r"|[\r\x00-\x08\x0b-\x1f]"
)
_MASKS = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"  # a time
    r"|\b\w{2,10}://[^\s'\"<>)]+"  # an address
    r"|(?<![\w.])(?:~|\.{1,2})?(?:/[\w.@+:=-]+){2,}/?"  # a path
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # a UUID
    r"|\b(?=[0-9a-f]*\d)[0-9a-f]{7,64}\b"  # a hash
    r"|\b\d[\d.,:]*(?:[a-zA-Z%]{1,3}\b)?"  # a number, a clock, a size
)


def clean(line: str) -> str:
    """The line without colours, folds and control characters, cut at `MAX_CHARACTERS`."""
    return _NOISE.sub("", line[: 2 * MAX_CHARACTERS]).strip()[:MAX_CHARACTERS]


def tokens(line: str) -> tuple[str, ...]:
    """The masked line's words, at most `MAX_TOKENS`."""
    return tuple(_MASKS.sub(WILD, clean(line)).split(None, MAX_TOKENS)[:MAX_TOKENS])


@dataclasses.dataclass(slots=True)
class Template:
    """One template: its words, where it lies in the tree, and how many lines it stands for."""

    words: tuple[str, ...]
    path: tuple[str, ...]
    count: int

    @property
    def text(self) -> str:
        """The template as people read it."""
        return " ".join(self.words)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The tree's shape and bounds. A line costs at most `leaf` comparisons."""

    depth: int = 2
    """Words that choose the way to a leaf."""
    similarity: float = 0.5
    """The least share of equal words of one template; Drain's st."""
    children: int = 100
    """Ways out of one node; beyond them all go the wild way."""
    leaf: int = 32
    """Templates of one leaf."""
    templates: int = 4000
    """Templates in all."""


class Drain:
    """Templates by number, the one seen longest ago first. A number is never given twice."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.templates: OrderedDict[int, Template] = OrderedDict()
        self._next = 0
        self._children: dict[tuple[str, ...], set[str]] = {}
        self._leaves: dict[tuple[str, ...], OrderedDict[int, None]] = {}

    def learn(self, line: str) -> int | None:
        """The number of the line's template, which learns from it; None for a line without words."""
        words = tokens(line)
        if not words:
            return None
        path = self._way(words)
        found = self._closest(path, words)
        if found is None:
            return self._open(path, words)
        template = self.templates[found]
        if template.words != words:
            template.words = tuple(
                mine if mine == other else WILD for mine, other in zip(template.words, words, strict=True)
            )
        template.count += 1
        self.templates.move_to_end(found)
        self._leaves[path].move_to_end(found)
        return found

    def match(self, line: str) -> int | None:
        """The number of the template that the line belongs to, without learning; None if there is none."""
        words = tokens(line)
        return self._closest(self._way(words), words) if words else None

    def _way(self, words: tuple[str, ...]) -> tuple[str, ...]:
        path: tuple[str, ...] = (str(len(words)),)
        for word in words[: self.settings.depth]:
            known = self._children.get(path, ())
            fits = word in known or len(known) < self.settings.children
            path += (word if fits and not any(map(str.isdigit, word)) else WILD,)
        return path

    def _closest(self, path: tuple[str, ...], words: tuple[str, ...]) -> int | None:
        best, chosen = self.settings.similarity * len(words), None
        for number in self._leaves.get(path, ()):
            own = self.templates[number].words
            if own == words:
                return number
            same = sum(map(str.__eq__, own, words))
            if same > best or (chosen is None and same == best):
                best, chosen = same, number
        return chosen

    def _open(self, path: tuple[str, ...], words: tuple[str, ...]) -> int:
        leaf = self._leaves.get(path, ())
        if len(leaf) >= self.settings.leaf:
            self._drop(next(iter(leaf)))
        elif len(self.templates) >= self.settings.templates:
            self._drop(next(iter(self.templates)))
        number, self._next = self._next, self._next + 1
        self._place(number, Template(words=words, path=path, count=1))
        return number

    def _place(self, number: int, template: Template) -> None:
        path = template.path
        self.templates[number] = template
        self._leaves.setdefault(path, OrderedDict())[number] = None
        for level in range(1, len(path)):
            self._children.setdefault(path[:level], set()).add(path[level])

    def _drop(self, number: int) -> None:
        path = self.templates.pop(number).path
        del self._leaves[path][number]
        if self._leaves[path]:
            return
        del self._leaves[path]
        for level in range(len(path) - 1, 0, -1):
            ways = self._children[path[:level]]
            ways.discard(path[level])
            if ways:
                return
            del self._children[path[:level]]

    def to_json(self) -> str:
        """The whole state as compact JSON; `from_json` goes on exactly where this one stands."""
        return json.dumps(
            {
                "format": FORMAT,
                "settings": dataclasses.asdict(self.settings),
                "next": self._next,
                "templates": [[n, t.words, t.path, t.count] for n, t in self.templates.items()],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Drain":
        """The state of `to_json`. Raises ValueError where the text is not one."""
        try:
            state: dict[str, Any] = json.loads(text)
            if state["format"] != FORMAT:
                raise ValueError(f"format is {state['format']!r}")
            drain = cls(Settings(**state["settings"]))
            drain._next = int(state["next"])
            for number, words, path, count in state["templates"]:
                drain._place(int(number), Template(words=tuple(words), path=tuple(path), count=int(count)))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"these are not log templates of {FORMAT}: {error}") from None
        return drain
