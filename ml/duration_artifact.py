"""A trained model of durations as one file: compressed JSON, as `ml.artifact` has it for failures."""

import dataclasses
from typing import Any

import lightgbm as lgb

from ml import artifact, duration_features
from ml.artifact import ArtifactRefused, Envelope, Made
from ml.duration_model import Boosted, Mixture
from ml.durations import QUANTILES
from ml.figures import DurationMetrics

ENVELOPE = Envelope(
    format="pipewright-durations/1",
    task="Duration",
    features={"schema": duration_features.SCHEMA, "names": list(duration_features.NAMES)},
    metrics=DurationMetrics,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DurationArtifact(Made[DurationMetrics]):
    """A model with everything that forecasting and lineage need."""

    mixture: Mixture


def dump(file: DurationArtifact) -> bytes:
    """The artifact's file."""
    return ENVELOPE.seal(
        file,
        quantiles=list(QUANTILES),
        models=file.mixture.boosted.texts(),
        weight=file.mixture.weight,
        offsets=list(file.mixture.offsets),
    )


def load(content: bytes, *, sha256: str) -> DurationArtifact:
    """The model in the file whose digest must be `sha256`. Raises ArtifactRefused."""
    return ENVELOPE.open(content, sha256=sha256, read=_read)


def _read(data: Any, **made: Any) -> DurationArtifact:
    models, offsets, weight = data["models"], data["offsets"], data["weight"]
    if data["quantiles"] != list(QUANTILES) or not len(models) == len(offsets) == len(QUANTILES):
        raise ArtifactRefused(f"the model file is not of the quantiles {QUANTILES}; train again")
    artifact.check_models(models)
    if not artifact.are_numbers([weight, *offsets]):
        raise ArtifactRefused("the model file's weight and offsets are not numbers; train again")
    try:
        boosted = Boosted.load(models)
    except lgb.basic.LightGBMError as error:
        raise ArtifactRefused(f"LightGBM cannot read the model ({error}); train again") from None
    return DurationArtifact(mixture=Mixture(boosted=boosted, weight=weight, offsets=tuple(offsets)), **made)
