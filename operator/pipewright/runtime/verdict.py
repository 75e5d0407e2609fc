"""What a reconcile's end means for the queue: pure, so that the rules are a table.

Something new was done: look again at once, until nothing is left to do. Trouble: by its kind. Only what
had been done before was done again: the plan and the world do not agree, and haste would not help.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from pydantic import ValidationError

from pipewright import errors
from pipewright.api.meta import Resource
from pipewright.plan import Manifest
from pipewright.runtime.schedule import Key

SHOWN_FIELDS = 3
PATH_LENGTH = 120


class Result(StrEnum):
    """How a reconcile ended, as the metrics and the log name it."""

    GONE = "gone"
    RELEASED = "released"
    INVALID = "invalid"
    FINISHED = "finished"
    STEADY = "steady"
    CHANGED = "changed"
    WAITING = "waiting"
    STALLED = "stalled"
    FAILED = "failed"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The object as the API server had it when it answered to a write."""

    at: float
    """When it did, in monotonic seconds."""
    asks: int
    """The queue's `asks` before the write: another one since is of somebody who may have seen more."""
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of one pass, before it is judged. `result` is set where nothing is left to judge."""

    result: Result | None = None
    done: tuple[tuple[str, str], ...] = ()
    errors: tuple[Exception, ...] = ()
    next_look: timedelta | None = None
    version: tuple[str, int] | None = None
    """UID and generation that the pass was about."""
    answer: Answer | None = None
    """The API server's to the status write."""


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Look again now."""


@dataclass(frozen=True, slots=True)
class After:
    """Look again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """Look again after a delay that grows."""


Again = AtOnce | After | Backoff | None
"""None: at the periodic check, unless something happens."""


def judge(ending: Ending, progress: bool) -> tuple[Result, Again]:
    """The result's name, and when to look again. `progress`: something was done that is new."""
    kinds = {_kind(error) for error in ending.errors}
    if ending.result is Result.INVALID:
        return Result.INVALID, None
    if Result.FAILED in kinds:
        return Result.FAILED, AtOnce() if progress else Backoff()
    if progress:
        return (max(kinds, key=_GRAVITY.index) if kinds else Result.CHANGED), AtOnce()
    if Result.WAITING in kinds:
        waits = [error.after.total_seconds() for error in ending.errors if isinstance(error, errors.Waiting)]
        result = Result.STALLED if Result.STALLED in kinds else Result.WAITING
        return result, After(max(0.1, min(waits)))
    if Result.STALLED in kinds:
        return Result.STALLED, None
    if ending.done:
        return Result.UNSETTLED, Backoff()
    return Result.STEADY, None


_GRAVITY = (Result.WAITING, Result.STALLED, Result.FAILED)


def _kind(error: Exception) -> Result:
    match error:
        case errors.Waiting():
            return Result.WAITING
        case errors.Stalled():
            return Result.STALLED
        case _:
            return Result.FAILED


@dataclass(slots=True)
class _Streak:
    version: tuple[str, int] | None
    done: set[tuple[str, str]] = field(default_factory=set)


class Progress:
    """Remembers what was done to each object since it last had nothing to do."""

    def __init__(self) -> None:
        self._streaks: dict[Key, _Streak] = {}

    def note(self, key: Key, ending: Ending) -> bool:
        """Whether the pass did something that no pass before it did, for this generation of the object."""
        if not ending.done:
            # a failed pass that did nothing keeps the memory: its neighbours' work may repeat in the next
            if not ending.errors:
                self.forget(key)
            return False
        streak = self._streaks.get(key)
        if streak is None or streak.version != ending.version:
            streak = self._streaks[key] = _Streak(ending.version)
        before = len(streak.done)
        streak.done.update(ending.done)
        return len(streak.done) > before

    def is_new(self, key: Key, version: tuple[str, int], done: Collection[tuple[str, str]]) -> bool:
        """Whether `note` will find something new in this: the object is looked at again at once then."""
        streak = self._streaks.get(key)
        known = streak.done if streak is not None and streak.version == version else set()
        return any(pair not in known for pair in done)

    def forget(self, key: Key) -> None:
        """The object is at rest, or gone."""
        self._streaks.pop(key, None)


# -- errors ------------------------------------------------------------------------------------------------


def leaves(error: Exception) -> tuple[Exception, ...]:
    """The errors themselves, out of the groups that task groups raise."""
    if isinstance(error, ExceptionGroup):
        return tuple(leaf for inner in error.exceptions for leaf in leaves(inner))
    return (error,)


def principal(error: Exception) -> Exception:
    """The error that a condition tells: a surprise before what needs a person, before what only waits."""
    return max(leaves(error), key=lambda leaf: _GRAVITY.index(_kind(leaf)))


def invalid_spec(kind: type[Resource], refused: ValidationError) -> str:
    """Which fields could not be read, for a condition: paths and rules, never a value.

    Pydantic's own messages do not quote the input; those of validators may, so they are left out.
    """
    found = refused.errors(include_url=False, include_context=False, include_input=False)
    told = [_field(detail["loc"], detail["type"], detail["msg"]) for detail in found[:SHOWN_FIELDS]]
    more = f"; and {len(found) - SHOWN_FIELDS} more" if len(found) > SHOWN_FIELDS else ""
    return f"{'; '.join(told)}{more}: see `kubectl explain {kind.singular}.spec`"


def _field(location: tuple[int | str, ...], rule: str, message: str) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    quotes_input = rule in ("value_error", "assertion_error")
    return f"{path[:PATH_LENGTH] or 'the object'}: {'is not valid' if quotes_input else message}"
