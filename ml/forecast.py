"""Forecasts durations in the gateway with a trained model: quantiles, what they rest on, version.

A `Forecaster` never changes once loaded; `forecast` may be called from several threads at once.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from ml import duration_artifact, duration_features
from ml.duration_artifact import DurationArtifact
from ml.duration_features import Basis
from ml.durations import words
from ml.history import Outcome, Run


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long one run will take, in seconds from its start."""

    p50: float
    p90: float
    p95: float
    reasons: tuple[str, ...]
    """What it rests on, in words."""
    version: str
    """The model's version: the first twelve digits of its file's SHA-256."""


class Forecaster:
    """A loaded model of durations."""

    def __init__(self, file: DurationArtifact, *, version: str) -> None:
        self.file = file
        self.version = version

    @classmethod
    def load(cls, content: bytes, *, sha256: str) -> "Forecaster":
        """Load a model file whose digest must be `sha256`. Raises ArtifactRefused."""
        return cls(duration_artifact.load(content, sha256=sha256), version=sha256[:12])

    def forecast(self, run: Run, lines: Mapping[str, Sequence[Outcome]]) -> Forecast | None:
        """The run's quantiles by its lines of work; None where no run of them has a known duration."""
        found = duration_features.basis(lines)
        if found is None:
            return None
        row = np.array([duration_features.features(run, lines, found)])
        half, most, nearly = self.file.mixture.quantiles(
            row, np.array([found.scale]), np.array([found.quantiles])
        )[0]
        return Forecast(
            p50=float(half),
            p90=float(most),
            p95=float(nearly),
            reasons=_reasons(found, lines),
            version=self.version,
        )

    def warm(self) -> None:
        """Forecast a made-up run, so that the first real one does not pay for first use."""
        now = time.time()
        run = Run(
            integration="", project="warm", pipeline="warm", event="push", branch="", actor="", sha="",
            run_id="0", attempt=1, started_at=now,
        )  # fmt: skip
        before = Outcome(run="1", attempt=1, sha="", started_at=now - 90, finished_at=now - 30, failed=False)
        for _ in range(3):
            self.forecast(run, {"pipeline": [before]})


def _reasons(found: Basis, lines: Mapping[str, Sequence[Outcome]]) -> tuple[str, ...]:
    """The facts that a person would look at, too."""
    runs = f"{len(found.seconds)} runs" if len(found.seconds) > 1 else "one run"
    said = [f"{runs} {found.words} took {words(found.scale)} in the middle"]
    said.append(f"the last of them took {words(found.seconds[-1])}")
    branch = [took for each in lines.get("branch", ()) if (took := duration_features.lasted(each))][-3:]
    if branch:
        middle = float(np.median(branch))
        said.append(f"the last {len(branch)} on this branch took {words(middle)} in the middle")
    return tuple(said)
