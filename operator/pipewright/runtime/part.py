"""What a composition hands to the process: the controllers it runs and what they watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipewright.runtime.drive import Controller
from pipewright.runtime.queue import WorkQueue


class Register(Protocol):
    """A controller's `handlers.register`."""

    def __call__(self, registry: Any, *, queue: WorkQueue) -> None:
        """Register the watches in kopf's registry."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process's share of the controllers."""

    controllers: Sequence[Controller[Any]]
    handlers: Sequence[Register]
    watched: Sequence[str]
    """Plural names of what must be watched for the process to be alive."""
    labelled: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(version, plural) → label selector, for what is watched in part."""
