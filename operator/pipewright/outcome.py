"""What one reconcile hands to the driver: the status to write, what was done, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel

from pipewright.plan import Results

StatusT = TypeVar("StatusT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[StatusT]):
    """The end of one reconcile, on every exit the same."""

    status: StatusT
    results: Results = field(default_factory=Results)
    next_look: timedelta | None = None
    """Look again then although nothing changed; None: at the periodic check."""
    finished: bool = False
    """The teardown has nothing left to do: the driver takes our finalizer off."""
