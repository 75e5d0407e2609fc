"""Scores runs in the gateway with a trained model: probability, band, reasons, version.

A `Predictor` never changes once loaded; `predict` may be called from several threads at once (LightGBM locks
a booster for reading only). Load and `warm` a new one beside the old, then swap the reference.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import lightgbm as lgb
import numpy as np

from ml import artifact, features, reasons
from ml.artifact import Artifact, ArtifactRefused, Band
from ml.history import Outcome, Run
from ml.scorer import Scorer

_PIPELINE_KNOWN = features.NAMES.index("pipeline_known")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one run."""

    probability: float
    """Calibrated probability that the run fails."""
    band: Band
    """low, medium, high (called a failure), or unsure."""
    reasons: tuple[str, ...]
    """At most three facts that moved the answer most."""
    version: str
    """The model's version: the first twelve digits of its file's SHA-256."""


class Predictor:
    """A loaded model."""

    def __init__(self, file: Artifact, *, version: str) -> None:
        self.file = file
        self.version = version
        try:
            self._scorer = Scorer.load(file.models, file.linear)
        except lgb.basic.LightGBMError as error:
            raise ArtifactRefused(f"LightGBM cannot read the model ({error}); train again") from None

    @classmethod
    def load(cls, content: bytes, *, sha256: str) -> "Predictor":
        """Load a model file whose digest must be `sha256`. Raises ArtifactRefused."""
        return cls(artifact.load(content, sha256=sha256), version=sha256[:12])

    def predict(self, run: Run, lines: Mapping[str, Sequence[Outcome]]) -> Prediction:
        """Score a run by its lines of work (scope → outcomes, as `history.insert` keeps them)."""
        return self.predict_many([(run, lines)])[0]

    def predict_many(
        self, asked: Sequence[tuple[Run, Mapping[str, Sequence[Outcome]]]]
    ) -> Sequence[Prediction]:
        """`predict` for each of several runs: the same answers, and less of what a call costs by itself."""
        if not asked:
            return []
        x = np.array([features.features(run, lines) for run, lines in asked])
        parts, logits = self._scorer.contributions(x)
        probabilities = self.file.calibration.probability(logits)
        known = x[:, _PIPELINE_KNOWN] > 0
        return [
            Prediction(
                probability=float(probability),
                band=self.file.thresholds.band(float(probability), has_history=bool(has_history)),
                reasons=tuple(reasons.reasons(run, lines, row.tolist())),
                version=self.version,
            )
            for (run, lines), row, probability, has_history in zip(
                asked, parts, probabilities, known, strict=True
            )
        ]

    def warm(self) -> None:
        """Score a made-up run a few times, so that the first real one does not pay for first use."""
        run = Run(
            integration="", project="warm", pipeline="warm", event="push", branch="", actor="", sha="",
            run_id="0", attempt=1, started_at=time.time(),
        )  # fmt: skip
        for _ in range(3):
            self.predict(run, {})
