"""Judges failed runs in the gateway with a trained model: cause, owner, recipe, whether to run it again.

A `Judge` never changes once loaded; `judge` may be called from several threads at once.
"""

import dataclasses
from typing import Literal

from ml import cause_artifact, causes
from ml.cause_artifact import CauseArtifact
from ml.causes import SURE, Failure
from ml.taxonomy import Kind, Owner

_AGAIN = (
    "Run it again. If it comes back, find what gives two answers on one commit, and mend or quarantine it."
)
_CHANGE = "Look at what the change did to what failed: failures like it do not pass by themselves."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The answer for one failed run."""

    kind: Kind | Literal["unsure"]
    category: str | None
    """Of the taxonomy; None where no log was read, or it shows nothing that is known."""
    owner: Owner | None
    recipe: str | None
    transient: float
    """P(it passes when it is run again)."""
    reasons: tuple[str, ...]
    version: str
    """The model's version: the first twelve digits of its file's SHA-256."""


class Judge:
    """A loaded model of causes."""

    def __init__(self, file: CauseArtifact, *, version: str) -> None:
        self.file = file
        self.version = version

    @classmethod
    def load(cls, content: bytes, *, sha256: str) -> "Judge":
        """Load a model file whose digest must be `sha256`. Raises ArtifactRefused."""
        return cls(cause_artifact.load(content, sha256=sha256), version=sha256[:12])

    def judge(self, failure: Failure) -> Diagnosis:
        """By the log where there is one, as `causes.judge`; else by whether it would pass again."""
        found = causes.judge(failure, self.file.model)
        assert found.transient is not None, "the model knows both labels"
        reasons = found.reasons if failure.log else found.reasons[1:]
        kind, owner, recipe = found.kind, found.owner, found.recipe
        if kind == "unsure" and found.transient >= SURE:
            kind, owner, recipe = "flaky", "team", _AGAIN
        elif kind == "unsure" and found.transient <= 1 - SURE:
            kind, owner, recipe = "code", "author", _CHANGE
        return Diagnosis(
            kind=kind,
            category=found.category,
            owner=owner,
            recipe=recipe,
            transient=found.transient,
            reasons=reasons,
            version=self.version,
        )

    def warm(self) -> None:
        """Judge a made-up failure, so that the first real one does not pay for first use."""
        self.judge(Failure(log="error: made up", facts=("it is the pipeline warm",)))
