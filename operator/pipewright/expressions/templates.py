"""Texts with `${{ expression }}` holes: a workflow step's `with`, a connector's paths and bodies.

`$${{` writes a literal `${{`. Nothing else is special, so a text without holes is itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from pipewright import records
from pipewright.expressions.engine import Environment, EvaluationError, ExpressionError, Program, Scope

MAX_TEMPLATE: Final = 16_000
"""Characters."""
MAX_HOLES: Final = 50
MAX_RENDERED: Final = 64 * 1024
"""Characters."""

_OPEN, _CLOSE, _ESCAPED = "${{", "}}", "$${{"
_QUOTES = ('"""', "'''", '"', "'")
_UNPRINTABLE = ("BYTES", "TYPE", "ERROR")


class Template:
    """A text whose holes are all compiled, against one environment."""

    __slots__ = ("_parts", "source")

    def __init__(self, source: str, environment: Environment) -> None:
        """Compile every hole.

        Raises:
            ExpressionError: of the first hole that does not compile; the place is counted in the whole text.
        """
        if len(source) > MAX_TEMPLATE:
            raise ExpressionError(f"has {len(source)} characters, at most {MAX_TEMPLATE} are allowed")
        self.source = source
        self._parts = tuple(
            part if isinstance(part, str) else _compile(source, part, environment) for part in _split(source)
        )
        if len(self.holes) > MAX_HOLES:
            raise ExpressionError(
                f"has {len(self.holes)} holes, at most {MAX_HOLES} are allowed", source=source
            )

    @property
    def holes(self) -> tuple[Program, ...]:
        """The compiled expressions, in order."""
        return tuple(part for part in self._parts if isinstance(part, Program))

    def render(self, scope: Scope, *, write: Callable[[Any], str] | None = None) -> str:
        """The text with every hole filled in; `write` makes the texts of what the holes give.

        Raises:
            EvaluationError: a hole has no value, or the whole is too long.
        """
        write = write or text_of
        rendered = "".join(
            part if isinstance(part, str) else write(part.value(scope)) for part in self._parts
        )
        if len(rendered) > MAX_RENDERED:
            raise EvaluationError(
                f"the text has {len(rendered)} characters, at most {MAX_RENDERED} are allowed"
            )
        return rendered

    def value(self, scope: Scope) -> Any:
        """What the one hole gives, as it is, where the text is nothing else; otherwise the text.

        Raises:
            EvaluationError: as `render`.
        """
        filled = [part for part in self._parts if part]
        if len(filled) == 1 and isinstance(filled[0], Program):
            return filled[0].value(scope)
        return self.render(scope)


def text_of(value: Any) -> str:
    """How a value reads in a text: null as nothing, lists and maps as JSON, times as RFC 3339."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case int() | float():
            return str(value)
        case datetime():
            return records.format_time(value)
        case timedelta():
            return f"{text_of(value.total_seconds())}s"
        case _:
            return json.dumps(value, default=text_of, ensure_ascii=False, separators=(",", ":"))


def _compile(source: str, hole: tuple[int, int], environment: Environment) -> Program:
    start, end = hole
    try:
        program = environment.expression(source[start:end])
    except ExpressionError as error:
        before = source[:start]
        column = error.column + (start - (before.rfind("\n") + 1) if error.line == 1 else 0)
        line = error.line + before.count("\n")
        raise ExpressionError(error.message, line=line, column=column, source=source) from None
    if program.type in _UNPRINTABLE or program.is_message:
        line, column = source[:start].count("\n") + 1, start - (source[:start].rfind("\n") + 1) + 1
        raise ExpressionError(f"a {program.type} is no text", line=line, column=column, source=source)
    return program


def _split(source: str) -> Iterator[str | tuple[int, int]]:
    """Literal texts, and (start, end) of the expressions between them."""
    literal, at = "", 0
    while at < len(source):
        if source.startswith(_ESCAPED, at):
            literal, at = literal + _OPEN, at + len(_ESCAPED)
        elif source.startswith(_OPEN, at):
            end = _end(source, at + len(_OPEN))
            yield literal
            yield at + len(_OPEN), end
            literal, at = "", end + len(_CLOSE)
        else:
            following = source.find("$", at + 1)
            following = len(source) if following < 0 else following
            literal, at = literal + source[at:following], following
    yield literal


def _end(source: str, at: int) -> int:
    """Where the hole that begins here ends: at `}}` outside of quotes and braces."""
    start, depth, quote = at, 0, ""
    while at < len(source):
        if quote:
            if source[at] == "\\":
                at += 1
            elif source.startswith(quote, at):
                at, quote = at + len(quote) - 1, ""
        elif found := next((mark for mark in _QUOTES if source.startswith(mark, at)), ""):
            at, quote = at + len(found) - 1, found
        elif depth == 0 and source.startswith(_CLOSE, at):
            return at
        else:
            depth += {"{": 1, "}": -1}.get(source[at], 0)
        at += 1
    before = source[: start - len(_OPEN)]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    raise ExpressionError("this hole has no end: }} is missing", line=line, column=column, source=source)
