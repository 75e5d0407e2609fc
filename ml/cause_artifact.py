"""A trained model of causes as one file: compressed JSON, as `ml.artifact` has it for failures."""

import dataclasses
import json
from typing import Any

from ml import cause_features
from ml.artifact import ArtifactRefused, Envelope, Made
from ml.causes import LASTING, TRANSIENT, CauseModel
from ml.figures import CauseMetrics

ENVELOPE = Envelope(
    format="pipewright-cause/1",
    task="FailureCause",
    features={"schema": cause_features.SCHEMA},
    metrics=CauseMetrics,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CauseArtifact(Made[CauseMetrics]):
    """A model with everything that judging and lineage need."""

    model: CauseModel


def dump(file: CauseArtifact) -> bytes:
    """The artifact's file."""
    return ENVELOPE.seal(file, model=json.loads(file.model.to_json()))


def load(content: bytes, *, sha256: str) -> CauseArtifact:
    """The model in the file whose digest must be `sha256`. Raises ArtifactRefused."""
    return ENVELOPE.open(content, sha256=sha256, read=_read)


def _read(data: Any, **made: Any) -> CauseArtifact:
    model = CauseModel.from_json(json.dumps(data["model"]))
    if set(model.labels) != {TRANSIENT, LASTING}:
        raise ArtifactRefused("the model file is not one of transient and lasting failures; train again")
    return CauseArtifact(model=model, **made)
