"""Rules that make records of JSON: what of it they read, and the record that one rule gives. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connectors.times import read_time
from pipewright import events
from pipewright.events import Record, RecordError
from pipewright.expressions import Bundle, Condition, EvaluationError, Program, Scope

Reads = Mapping[str, "Reads"]
"""Field names to what is read below; nothing below means all of it."""


TIMES: Final = frozenset({"queuedAt", "startedAt", "finishedAt", "at"})
"""Fields of a record that are times: providers write them in many ways."""


GIVEN: Final = "given"
"""In the place of a record's kind: the JSON is a record already, in Pipewright's own form."""
_NO_VALUE: Final = "has no value: something that is read for it is absent, or of another type"
_NO_TIME: Final = "is no time that is known here"


class RuleError(Exception):
    """The JSON is not what the rule takes it for. The message names the field and what is wrong with it."""

    def __init__(self, message: str, *, plain: str = "") -> None:
        """`plain` is the message without anything of the JSON, where the message may have that."""
        super().__init__(message)
        self.plain = plain or message


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRule:
    """What some JSON says about a run, a job or an artifact, if anything."""

    when: Condition | None
    """None: the rule is for all of it."""
    record: str
    fields: Mapping[str, Program]
    bundle: Bundle | None = None
    """`when` and all fields at once; None: they are asked one by one."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """All expressions of the rule."""
        return (*((self.when.program,) if self.when is not None else ()), *self.fields.values())


def record_of(
    rule: RecordRule, scope: Scope | None, *, partial: bool = False, given: Mapping[str, Any] | None = None
) -> Record | None:
    """The record that the rule makes of these values; None if it is not for them.

    `partial`: a record of what has not finished, too. `given`: what is one already where the rule says so. A
    rule that asks nothing needs no scope.

    Raises:
        RuleError: a field has no value, or one that no record may have.
    """
    found: dict[str, Any] = {"type": rule.record}
    field = "when"
    try:
        values = _together(rule, scope)
        if not values and rule.when is not None and not (scope is not None and rule.when.holds(scope)):
            return None
        for at, (field, program) in enumerate(rule.fields.items()):
            assert scope is not None, "who asks has a scope"
            value = values[at] if values else program.value(scope)
            found[field] = read_time(value) if field in TIMES else value
    except EvaluationError as error:
        raise RuleError(f"{field}: {error.message}", plain=f"{field}: {_NO_VALUE}") from None
    except ValueError as error:
        raise RuleError(f"{field}: {error}", plain=f"{field}: {_NO_TIME}") from None
    try:
        return events.parse_record(given or {} if rule.record == GIVEN else found, partial=partial)
    except RecordError as error:
        raise RuleError(str(error), plain=error.plain) from None


def _together(rule: RecordRule, scope: Scope | None) -> Sequence[Any]:
    """The values of all fields; none where they are to be asked one by one, or `when` does not hold."""
    if rule.bundle is None or scope is None:
        return ()
    try:
        return rule.bundle.values(scope)
    except EvaluationError:
        return ()  # which of them it is, they say themselves


def reads(programs: Iterable[Program], variable: str) -> Reads | None:
    """What expressions read of a variable: JSON is large, and only that is handed to them. None: nothing."""
    paths = {path for program in programs for path in program.reads(variable)}
    if not paths:
        return None
    found: dict[str, Any] = {}
    for path in sorted(paths, key=len, reverse=True):
        if not path:
            return {}
        at = found
        for name in path[:-1]:
            at = at.setdefault(name, {})
        at[path[-1]] = {}  # the shortest path comes last: reading a whole part outweighs reading within it
    return found


def part(value: Any, wanted: Reads | None) -> Any:
    """The part of a value that is read; null where nothing is."""
    if wanted is None:
        return None
    if not wanted or not isinstance(value, dict):
        return value
    found = {}
    for name, below in wanted.items():
        if name in value:
            at = value[name]
            found[name] = part(at, below) if below and isinstance(at, dict) else at
    return found
