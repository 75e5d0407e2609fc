"""A trained model of durations as one file: compressed JSON, as `ml.artifact` has it for failures."""

import dataclasses
import json
import math
from typing import Any

import lightgbm as lgb

from ml import artifact, contract, duration_features
from ml.artifact import ArtifactRefused
from ml.duration_model import Boosted, Mixture
from ml.durations import QUANTILES
from ml.figures import DurationMetrics

FORMAT = "pipewright-durations/1"
TASK = "Duration"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DurationArtifact:
    """A model with everything that forecasting and lineage need."""

    mixture: Mixture
    window_sha256: str
    rows: int
    data_from: str
    data_to: str
    metrics: DurationMetrics
    """On the held-out runs, of exactly this model."""


def dump(file: DurationArtifact) -> bytes:
    """The file: zlib over canonical JSON; the same model always gives the same bytes."""
    content = {
        "format": FORMAT,
        "task": TASK,
        "features": {"schema": duration_features.SCHEMA, "names": list(duration_features.NAMES)},
        "quantiles": list(QUANTILES),
        "models": file.mixture.boosted.texts(),
        "weight": file.mixture.weight,
        "offsets": list(file.mixture.offsets),
        "window": {
            "sha256": file.window_sha256,
            "rows": file.rows,
            "from": file.data_from,
            "to": file.data_to,
        },
        "metrics": json.loads(contract.to_json(file.metrics)),
    }
    return artifact.pack(content)


def load(content: bytes, *, sha256: str) -> DurationArtifact:
    """The model in the file whose digest must be `sha256`. Raises ArtifactRefused."""
    data = artifact.unpack(content, sha256=sha256)
    artifact.check_format(data, wanted=FORMAT, schema=duration_features.SCHEMA)
    try:
        return _read(data)
    except (KeyError, TypeError, contract.ContractError) as error:
        raise ArtifactRefused(f"the model file is incomplete ({error}); train again") from None
    except lgb.basic.LightGBMError as error:
        raise ArtifactRefused(f"LightGBM cannot read the model ({error}); train again") from None


def _read(data: Any) -> DurationArtifact:
    models, offsets, weight, window = data["models"], data["offsets"], data["weight"], data["window"]
    if data["quantiles"] != list(QUANTILES) or not len(models) == len(offsets) == len(QUANTILES):
        raise ArtifactRefused(f"the model file is not of the quantiles {QUANTILES}; train again")
    artifact.check_models(models)
    numbers = [weight, *offsets]
    if not all(isinstance(each, float | int) and math.isfinite(each) for each in numbers):
        raise ArtifactRefused("the model file's weight and offsets are not numbers; train again")
    return DurationArtifact(
        mixture=Mixture(boosted=Boosted.load(models), weight=weight, offsets=tuple(offsets)),
        window_sha256=window["sha256"],
        rows=window["rows"],
        data_from=window["from"],
        data_to=window["to"],
        metrics=contract.from_json(DurationMetrics, json.dumps(data["metrics"])),
    )
