"""The control group: runs that are predicted as all others, and on which nothing is done by it.

Whoever acts on predictions changes what becomes of the runs. How good the predictions are, and what acting
gains, shows on runs that were left alone. Chance decides by the names of model and run, so every delivery,
attempt and replica finds the same, and the store counts by the same formula (`pipewright.store.verdicts`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from pipewright.store.records import Attempt, ModelPointer

_DIGITS: Final = 8
"""Hexadecimal digits of the digest that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control group of one model."""

    model_uid: str
    share: float
    """0 to 0.5."""

    @classmethod
    def of(cls, pointer: ModelPointer | None) -> Self | None:
        """That of the active version; None where nobody belongs to it."""
        if pointer is None or not pointer.control_share:
            return None
        return cls(model_uid=pointer.model_uid, share=pointer.control_share)

    def has(self, attempt: Attempt) -> bool:
        """Whether the run of this attempt belongs to it: it does with all its attempts."""
        integration, run, _ = attempt
        text = f"{self.model_uid}|{integration}|{run}".encode()
        return int(hashlib.sha256(text).hexdigest()[:_DIGITS], 16) < self.share * 16**_DIGITS
