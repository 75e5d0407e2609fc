"""Where something stands in a YAML file: from a path of keys to line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Step = str | int
_MERGE: Final = "tag:yaml.org,2002:merge"
_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A place in a text, counted from 1."""

    line: int = 1
    column: int = 1


def steps(place: str) -> list[Step]:
    """`webhook.events[0].map.sha` as keys and positions."""
    return [int(found[1]) if found[1] else found[2] for found in _STEP.finditer(place)]


def spot(root: Node | None, path: Sequence[Step]) -> Spot:
    """Where the key of this path stands, or that of the nearest parent that is there."""
    at, found = root, Spot()
    for step in path:
        below = _below(at, step)
        if below is None:
            break
        found, at = below
    return found


def _below(node: Node | None, step: Step) -> tuple[Spot, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == str(step):
                return _spot(key), value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: Node = node.value[step]
        return _spot(found), found
    return None


def twice(root: Node | None) -> Iterator[tuple[Spot, str]]:
    """Keys that a mapping has more than once: YAML's reader keeps the last and says nothing."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))  # an alias is the same node again
        if isinstance(node, SequenceNode):
            waiting.extend(node.value)
        if isinstance(node, MappingNode):
            names = set[str]()
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, ScalarNode) or key.tag == _MERGE:
                    continue
                if key.value in names:
                    yield _spot(key), key.value
                names.add(key.value)


def _spot(node: Node) -> Spot:
    return Spot(node.start_mark.line + 1, node.start_mark.column + 1)


def compose(text: str) -> Node | None:
    """The nodes of a YAML text.

    Raises:
        yaml.YAMLError: it is none.
    """
    found: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return found
