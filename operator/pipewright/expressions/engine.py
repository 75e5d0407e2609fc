"""The one module that touches the CEL runtime (cel-expr-python, the CEL team's C++ one).

What the binding really does, and what is done about it here:
- a syntax or type error is a RuntimeError with the position in its text: it becomes an `ExpressionError`;
- a missing key, an overflow or a wrong operand is a *value* of type ERROR: it becomes an `EvaluationError`;
- after 10,000 iterations it raises, which is not enough against `map`, nested lists and patterns: every
  expression is priced when it compiles (`cost`);
- a function of ours takes `dyn` only by an extension, with one overload for each number of arguments; what it
  raises becomes an ERROR with its message;
- a text with NUL is cut there, one with a lone surrogate raises, an integer beyond 64 bits is an ERROR, a
  nested datetime is refused: `untyped` cleans what goes in;
- each None within a plain value is a reference that was never taken; before Python 3.12, which counts them no
  more, the interpreter ends when they are spent: so one is taken for each (`_pay_back`);
- a message's unset field is its type's default: the types leave out what cannot be there (`types`).
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from pipewright.expressions import cost, tree, types

MAX_EXPRESSION: Final = 2000
"""Characters."""
MAX_DEPTH: Final = 64
"""Levels of nesting in an untyped value."""

_CACHED = 1024
_COUNTS_NONE: Final = sys.version_info < (3, 12)
_WHERE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_NO_FIELD = re.compile(r"undefined field '([^']*)' not found in struct '([^']*)'")
_NO_NAME = re.compile(r"undeclared reference to '([^']*)'.*")
_NO_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '(.*)'")
_CODE = re.compile(r"^[A-Z_]+: ")
_TRAILER = re.compile(r" \[[A-Z_]+\]?$")
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")


class ExpressionError(ValueError):
    """An expression that does not compile. `str` has the message, the line and a caret under the place."""

    def __init__(self, message: str, *, line: int = 1, column: int = 1, source: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.source = source

    @property
    def pointer(self) -> str:
        """The source line with a caret under the column."""
        lines = self.source.splitlines() or [""]
        line = lines[min(self.line, len(lines)) - 1]
        return f"{line}\n{' ' * (self.column - 1)}^"

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}\n{self.pointer}"


class EvaluationError(Exception):
    """An expression had no value this time: something absent, of another type, or too much of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Scope:
    """The values of an environment's variables, converted once for any number of expressions."""

    __slots__ = ("activation", "environment")

    def __init__(self, environment: Environment, activation: Any) -> None:
        self.environment = environment
        self.activation = activation


class Program:
    """A compiled expression. Immutable: may be shared and kept."""

    __slots__ = ("_compiled", "_environment", "cost", "is_message", "source", "type")

    def __init__(self, source: str, *, compiled: Any, environment: Environment, worst: int) -> None:
        self.source = source
        self.cost = worst
        """Units of `cost` at worst."""
        self.type: str = compiled.return_type().name()
        """The CEL name of the value's type, such as BOOL, STRING or DYN."""
        self.is_message: bool = compiled.return_type().is_message()
        """A message is no text and leaves no expression."""
        self._compiled = compiled
        self._environment = environment

    def value(self, scope: Scope) -> Any:
        """The value as plain Python: None, bool, int, float, str, datetime, timedelta, list or dict.

        Raises:
            EvaluationError: the expression has no value here.
        """
        if scope.environment is not self._environment:
            raise TypeError("the scope was made by another environment")
        return _evaluated(self._compiled, scope)

    def reads(self, variable: str) -> frozenset[tuple[str, ...]]:
        """The paths below a variable that this may read; () is all of it. See `tree.reads`."""
        return tree.reads(self._compiled.serialize(), variable)

    def __repr__(self) -> str:
        return f"Program({self.source!r})"


class Condition:
    """A compiled expression that is certainly a bool."""

    __slots__ = ("program",)

    def __init__(self, program: Program) -> None:
        self.program = program

    def holds(self, scope: Scope) -> bool:
        """Whether the condition holds.

        Raises:
            EvaluationError: it cannot be said; workflows record that as "not fired".
        """
        return self.program.value(scope) is True


class Bundle:
    """Expressions that are asked together: most of what an evaluation costs is being asked."""

    __slots__ = ("_compiled", "_environment")

    def __init__(self, compiled: Any, environment: Environment) -> None:
        self._compiled = compiled
        self._environment = environment

    def values(self, scope: Scope) -> list[Any]:
        """Their values, each as `Program.value` gives it; none when the bundle's condition does not hold.

        Raises:
            EvaluationError: one of them has no value here; ask each to learn which.
        """
        if scope.environment is not self._environment:
            raise TypeError("the scope was made by another environment")
        found: list[Any] = _evaluated(self._compiled, scope)
        return found


class Environment:
    """The variables that expressions of one place may name, and how big they may be."""

    def __init__(
        self,
        variables: Mapping[str, str],
        *,
        bounds: cost.Bounds | None = None,
    ) -> None:
        """`variables`: name to type: `dyn`, `int`, `string`, a message, or a `map(string, …)` of one."""
        self.names = tuple(variables)
        self._bounds = bounds or cost.Bounds()
        self._cel = cel.NewEnv(
            descriptor_pool=types.POOL,
            variables={name: _cel_type(signature) for name, signature in variables.items()},
            extensions=[ext_strings.ExtStrings()],
        )
        self._compile = functools.lru_cache(maxsize=_CACHED)(self._compile_once)

    @property
    def bounds(self) -> cost.Bounds:
        """How big values bound here may be."""
        return self._bounds

    def expression(self, source: str) -> Program:
        """Compile; the same source again costs nothing.

        Raises:
            ExpressionError: with line and column.
        """
        return self._compile(source)

    def condition(self, source: str) -> Condition:
        """Compile a condition.

        Raises:
            ExpressionError: it does not compile, or its value is not certainly a bool.
        """
        program = self._compile(source)
        if program.type != "BOOL":
            raise ExpressionError(
                f"must be true or false, this is of type {program.type.lower()}", source=source
            )
        return Condition(program)

    def bundle(self, programs: Sequence[Program], *, when: Condition | None = None) -> Bundle | None:
        """The programs as one, asked where the condition holds; None: together they are too much."""
        values = ", ".join(f"({program.source}\n)" for program in programs)
        source = f"[{values}]" if when is None else f"({when.program.source}\n) ? [{values}] : []"
        try:
            compiled = self._cel.compile(source)
            cost.check(compiled.serialize(), bounds=self._bounds)
        except (RuntimeError, cost.Refused):
            return None
        return Bundle(compiled, self)

    def bind(self, **values: Any) -> Scope:
        """Bind the variables. Values are messages of `types`, or what `untyped` gave."""
        return Scope(self, self._cel.Activation(values))

    def _compile_once(self, source: str) -> Program:
        if not source.strip():
            raise ExpressionError("the expression is empty", source=source)
        if len(source) > MAX_EXPRESSION:
            raise ExpressionError(
                f"has {len(source)} characters, at most {MAX_EXPRESSION} are allowed",
                source=source[:80] + "…",
            )
        if _BAD_TEXT.search(source):
            raise ExpressionError("contains characters that are no text", source="")
        try:
            compiled = self._cel.compile(source)
        except RuntimeError as error:
            raise self._refusal(str(error), source) from None
        try:
            worst = cost.check(compiled.serialize(), bounds=self._bounds)
        except cost.Refused as refused:
            line, column = _line_and_column(source, refused.offset)
            raise ExpressionError(refused.message, line=line, column=column, source=source) from None
        return Program(source, compiled=compiled, environment=self, worst=worst)

    def _refusal(self, text: str, source: str) -> ExpressionError:
        found = _WHERE.search(text)
        if found is None:
            return ExpressionError(
                "is nested too deeply" if "recursion" in text else _bare(text), source=source
            )
        line, column, message = int(found[1]), int(found[2]), _bare(found[3])
        return ExpressionError(
            self._reworded(message), line=max(1, line), column=max(1, column), source=source
        )

    def _reworded(self, message: str) -> str:
        if "recursion depth" in message:
            return "is nested too deeply"
        if found := _NO_FIELD.search(message):
            known = types.fields_of(found[2])
            return f"{found[2]} has no field {found[1]!r}" + (f"; it has {', '.join(known)}" if known else "")
        if found := _NO_NAME.fullmatch(message):
            return f"nothing is called {found[1]!r} here; there is {', '.join(self.names)}"
        if found := _NO_OVERLOAD.search(message):
            return f"{_operator(found[1])} does not take {found[2]}"
        message, _, _ = message.partition(" expecting {")
        return message.removeprefix("Syntax error: ").replace("'<EOF>'", "the end")


def _evaluated(compiled: Any, scope: Scope) -> Any:
    try:
        found = compiled.eval(scope.activation)
        kind = found.type()
        if kind == cel.Type.NULL:
            return None
        plain = found.plain_value()
    except RuntimeError as error:
        raise EvaluationError(_evaluation_text(str(error))) from None
    if kind in (cel.Type.ERROR, cel.Type.UNKNOWN):
        raise EvaluationError(_evaluation_text(str(plain)))
    if _COUNTS_NONE and isinstance(plain, list | dict):
        _pay_back(plain)
    return plain


def _pay_back(value: list[Any] | dict[str, Any]) -> None:
    """Take the reference of each None within a value that the binding did not take."""
    for entry in value.values() if type(value) is dict else value:
        if entry is None:
            _increase(_NONE)
        elif type(entry) is list or type(entry) is dict:
            _pay_back(entry)


_NONE: Final = ctypes.py_object(None)
_increase: Final = ctypes.pythonapi.Py_IncRef


def _cel_type(signature: str) -> Any:
    """The binding reads only names: a map's type must be put together."""
    if signature.startswith("map(string, "):
        return cel.Type.Map(cel.Type.STRING, _cel_type(signature[len("map(string, ") : -1]))
    known = {"dyn": cel.Type.DYN, "string": cel.Type.STRING, "int": cel.Type.INT}
    return known.get(signature) or cel.Type(signature)


def _bare(text: str) -> str:
    return _CODE.sub("", _TRAILER.sub("", text)).strip()


def _operator(name: str) -> str:
    return name.strip("_@") if name.startswith(("_", "@", "!", "-")) else name


def _evaluation_text(text: str) -> str:
    text = _bare(_bare(text))
    if "budget" in text:
        return "loops over too much"
    if "null_type" in text or "non-message type" in text:
        return f"a value is absent or of another type: {text}"
    return text


def _line_and_column(source: str, offset: int) -> tuple[int, int]:
    before = source[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def untyped(value: Any, *, max_items: int, depth: int = 0) -> Any:
    """A JSON value as the runtime can take it: clean texts, 64-bit or floating numbers, bounded nesting.

    Raises:
        EvaluationError: nested too deeply, too many entries, not a number, or not JSON.
    """
    kind = type(value)
    if kind is str:
        return _clean(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else _finite(value)
    if kind is float:
        return _finite(value)
    if depth >= MAX_DEPTH:
        raise EvaluationError(f"a value is nested more than {MAX_DEPTH} levels deep")
    if kind is not dict and kind is not list:
        raise EvaluationError(f"a value is a {kind.__name__}, which JSON does not have")
    if len(value) > max_items:
        raise EvaluationError(f"a value has {len(value)} entries, at most {max_items} are allowed")
    inner = depth + 1
    if kind is list:
        return [untyped(entry, max_items=max_items, depth=inner) for entry in value]
    found = {}
    for key, entry in value.items():
        kind = type(entry)
        if kind is str:  # most are, and most of them need nothing: no call for each
            if not entry.isascii() or "\0" in entry:
                entry = _clean(entry)
        elif entry is not None and kind is not bool:
            entry = untyped(entry, max_items=max_items, depth=inner)
        known = type(key) is str and key.isascii() and "\0" not in key
        found[key if known else _clean(str(key))] = entry
    return found


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:  # told without looking at each character
        return text
    return _BAD_TEXT.sub("\ufffd", text)


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise EvaluationError("a number is out of range")
    return number
