"""What an expression can cost at worst, from its checked syntax tree: known before it ever runs.

The CEL runtime stops after 10,000 iterations, but one iteration may do a lot: `map` and `filter` copy their
list each time, nested lists share elements that an equality walks one by one, a string may double at each
level, and a regular expression is compiled anew. So every expression is priced when it compiles, as the
Kubernetes API server does it, and refused when the price or the size of a value could be too high.

One unit is one visit of a node: 25 to 80 ns on the machine where the limits were set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipewright.expressions import tree

ITERATIONS: Final = 10_000
"""The CEL runtime's own budget, for a whole evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How big the values are that an environment's variables hold. Whoever binds them keeps to it."""

    text: int = 4096
    """Bytes of a text."""
    items: int = 64
    """Entries of a list or a map."""
    dyn_size: int = 64 * 1024
    """Bytes of an untyped value."""
    dyn_items: int = 256
    """Entries of a list or a map in an untyped value."""
    made: int = 256 * 1024
    """Bytes of the largest value that an expression may make."""
    cost: int = 500_000
    """Units that an evaluation may take: 15 to 40 ms."""


@dataclass(frozen=True, slots=True)
class _Size:
    """At most this big: bytes in all, entries, and what one entry is (None: a scalar, text or message)."""

    bytes: int
    count: int = 0
    entry: _Size | None = None

    def plus(self, other: _Size) -> _Size:
        return _Size(self.bytes + other.bytes, self.count + other.count, _either(self.entry, other.entry))


_SCALAR: Final = _Size(8)


def _either(a: _Size | None, b: _Size | None) -> _Size | None:
    if a is None or b is None:
        return a or b
    if a is b:
        return a
    return _Size(max(a.bytes, b.bytes), max(a.count, b.count), _either(a.entry, b.entry))


class Refused(Exception):
    """The expression may not be: too expensive, too big, or something that we do not offer."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        """In characters from the expression's begin."""


def check(serialized: bytes, *, bounds: Bounds) -> int:
    """The worst cost in units of a checked expression, as the binding serialises it.

    Raises:
        Refused: with the offset of the part that breaks a limit.
    """
    checked = tree.parse(serialized)
    estimate = _Estimate(checked, bounds)
    cost, _ = estimate.visit(checked.expr, {}, ITERATIONS)
    if cost > bounds.cost:
        raise Refused(f"may take {cost} steps, at most {bounds.cost} are allowed; loop over less", offset=0)
    return cost


_Scope = Mapping[str, _Size]


class _Estimate:
    """One walk over one tree: (cost, size of the value) of each node, from the leaves up."""

    def __init__(self, checked: Any, bounds: Bounds) -> None:
        self._types = {entry.key: entry.value for entry in checked.type_map}
        self._offsets = {entry.key: entry.value for entry in checked.source_info.positions}
        self._bounds = bounds
        self._dyn = _Size(bounds.dyn_size, bounds.dyn_items, None)

    def visit(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        """Cost and size of a node; `room` is how many iterations the runtime's budget leaves here."""
        match node.WhichOneof("kind"):
            case "const_expr":
                found = 1, _constant(node.const_expr)
            case "ident_expr":
                name = node.ident_expr.name
                found = 1, scope[name] if name in scope else self._of_type(self._types[node.id])
            case "select_expr":
                found = self._select(node, scope, room)
            case "list_expr":
                found = self._list(node, scope, room)
            case "struct_expr":
                found = self._map(node, scope, room)
            case "comprehension_expr":
                found = self._loop(node, scope, room)
            case _:
                found = self._call(node, scope, room)
        if found[1].bytes > self._bounds.made:
            raise Refused(
                f"may make a value of more than {self._bounds.made // 1024} KiB", offset=self._at(node)
            )
        return found

    def _select(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        cost, operand = self.visit(node.select_expr.operand, scope, room)
        if node.select_expr.test_only:
            return cost + 1, _SCALAR
        return cost + 1, self._entry(operand, node)

    def _entry(self, operand: _Size, node: Any) -> _Size:
        """An entry of a made list or map is known; a message's field or a bound value's is by its type."""
        return operand.entry if operand.entry is not None else self._of_type(self._types.get(node.id))

    def _list(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        visited = [self.visit(element, scope, room) for element in node.list_expr.elements]
        return 1 + sum(cost for cost, _ in visited), _made([size for _, size in visited])

    def _map(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        if node.struct_expr.message_name:
            raise Refused("a message cannot be made here", offset=self._at(node))
        total, sizes = 1, []
        for entry in node.struct_expr.entries:
            key_cost, key = self.visit(entry.map_key, scope, room)
            cost, size = self.visit(entry.value, scope, room)
            total += key_cost + cost
            sizes.append(_Size(key.bytes + size.bytes, size.count, size.entry))
        return total, _made(sizes)

    def _loop(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        """A macro (all, exists, map, …): its step once, times the entries that it may walk over."""
        loop = node.comprehension_expr
        range_cost, over = self.visit(loop.iter_range, scope, room)
        times = min(over.count or self._bounds.items, room)
        start_cost, start = self.visit(loop.accu_init, scope, room)
        inner = {**scope, loop.iter_var: over.entry or self._dyn, loop.accu_var: _Size(start.bytes)}
        left = max(1, room // max(1, times))
        test_cost, _ = self.visit(loop.loop_condition, inner, left)
        step_cost, step = self.visit(loop.loop_step, inner, left)
        made = _Size(start.bytes + times * step.bytes, times * step.count, step.entry) if step.count else step
        copying = times * times if step.count else 0  # the runtime copies the list at each step
        result_cost, result = self.visit(loop.result, {**inner, loop.accu_var: made}, left)
        return range_cost + start_cost + times * (1 + test_cost + step_cost) + copying + result_cost, result

    def _call(self, node: Any, scope: _Scope, room: int) -> tuple[int, _Size]:
        call = node.call_expr
        parts = [call.target, *call.args] if call.HasField("target") else list(call.args)
        if call.function == "_[_]":
            (cost, operand), (index_cost, _) = (self.visit(part, scope, room) for part in parts)
            return cost + index_cost + 1, self._entry(operand, node)
        visited = [self.visit(part, scope, room) for part in parts]
        total = 1 + sum(cost for cost, _ in visited)
        sizes = [size for _, size in visited]
        if call.function == "matches":
            return total + self._regex(node, parts, sizes), _SCALAR
        rule = _FUNCTIONS.get(call.function)
        if rule is None:
            raise Refused(f"the function {call.function!r} is not offered here", offset=self._at(node))
        cost, size = rule(sizes)
        return total + cost, size

    def _regex(self, node: Any, parts: list[Any], sizes: list[_Size]) -> int:
        """RE2 matches in linear time, but compiling takes a pattern's length times its repetitions."""
        if parts[-1].const_expr.WhichOneof("kind") != "string_value":
            raise Refused("the pattern of matches must be a literal", offset=self._at(node))
        pattern = parts[-1].const_expr.string_value
        weight = len(pattern)
        for low, high in _REPEATED.findall(pattern):
            weight *= max(1, int(low or 0), int(high or 0))
        if weight > _PATTERN_LIMIT:
            raise Refused("the pattern of matches repeats too much", offset=self._at(node))
        return 200 + 8 * weight + sizes[0].bytes // 4

    def _of_type(self, kind: Any) -> _Size:
        """The bound of what a variable or a message's field of this type may hold."""
        which = kind.WhichOneof("kind") if kind is not None else None
        if which in ("primitive", "wrapper"):
            return _Size(self._bounds.text) if getattr(kind, which) in (tree.STRING, tree.BYTES) else _SCALAR
        if which in ("well_known", "null", "type"):
            return _SCALAR
        if which == "message_type":
            return _Size(self._bounds.text)  # all of an event together is no longer than its longest texts
        if which in ("list_type", "map_type"):
            inner = kind.list_type.elem_type if which == "list_type" else kind.map_type.value_type
            entry = self._of_type(inner)
            items = self._bounds.items
            if entry is self._dyn:
                return _Size(entry.bytes, entry.count, entry)
            return _Size(items * entry.bytes, items, entry)
        return self._dyn

    def _at(self, node: Any) -> int:
        return int(self._offsets.get(node.id, 0))


def _made(sizes: list[_Size]) -> _Size:
    entry: _Size | None = None
    for size in sizes:
        entry = _either(entry, size)
    return _Size(8 + sum(size.bytes for size in sizes), len(sizes), entry)


def _constant(constant: Any) -> _Size:
    match constant.WhichOneof("kind"):
        case "string_value":
            return _Size(len(constant.string_value.encode()))
        case "bytes_value":
            return _Size(len(constant.bytes_value))
        case _:
            return _SCALAR


# --- what each function costs beyond the visit of its node, and how big its value is ------------------------

_Rule = Callable[[list[_Size]], tuple[int, _Size]]


def _scalar(_: list[_Size]) -> tuple[int, _Size]:
    return 0, _SCALAR


def _compare(sizes: list[_Size]) -> tuple[int, _Size]:
    return min(size.bytes for size in sizes) // 8, _SCALAR


def _scan(sizes: list[_Size]) -> tuple[int, _Size]:
    return sum(size.bytes for size in sizes) // 8, _SCALAR


def _same(sizes: list[_Size]) -> tuple[int, _Size]:
    return sizes[0].bytes // 8, _Size(sizes[0].bytes)


def _as_text(sizes: list[_Size]) -> tuple[int, _Size]:
    return sizes[0].bytes // 8, _Size(max(32, sizes[0].bytes))


def _sum(sizes: list[_Size]) -> tuple[int, _Size]:
    made = sizes[0].plus(sizes[1])
    return made.bytes // 8, made


def _choice(sizes: list[_Size]) -> tuple[int, _Size]:
    return 0, _either(sizes[1], sizes[2]) or _SCALAR


def _replace(sizes: list[_Size]) -> tuple[int, _Size]:
    grown = (sizes[0].bytes + 1) * (1 + sizes[2].bytes)
    return grown // 8, _Size(grown)


def _split(sizes: list[_Size]) -> tuple[int, _Size]:
    size = sizes[0].bytes
    return 8 * size, _Size(8 * (size + 1), size + 1, _Size(size))


def _join(sizes: list[_Size]) -> tuple[int, _Size]:
    made = sizes[0].bytes + sizes[0].count * (sizes[1].bytes if len(sizes) > 1 else 0)
    return made // 8, _Size(made)


_FUNCTIONS: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(("_&&_", "_||_", "!_", "-_", "_-_", "_*_", "_/_", "_%_", "@not_strictly_false"), _scalar),
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "startsWith", "endsWith"), _compare),
    **dict.fromkeys(("@in", "size", "contains", "indexOf", "lastIndexOf"), _scan),
    **dict.fromkeys(("int", "uint", "double", "bool", "duration", "timestamp", "type"), _scan),
    **dict.fromkeys(("lowerAscii", "upperAscii", "trim", "substring", "charAt", "reverse"), _same),
    **dict.fromkeys(
        (
            *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
            *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
        ),
        _scalar,
    ),
    "string": _as_text,
    "dyn": lambda sizes: (0, sizes[0]),
    "_+_": _sum,
    "_?_:_": _choice,
    "replace": _replace,
    "split": _split,
    "join": _join,
}

_REPEATED = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_PATTERN_LIMIT: Final = 10_000
