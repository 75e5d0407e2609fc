"""A trained model of causes as one file: compressed JSON, as `ml.artifact` has it for failures."""

import dataclasses
import json
from typing import Any

from ml import artifact, cause_features, contract
from ml.artifact import ArtifactRefused
from ml.causes import LASTING, TRANSIENT, CauseModel
from ml.figures import CauseMetrics

FORMAT = "pipewright-cause/1"
TASK = "FailureCause"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CauseArtifact:
    """A model with everything that judging and lineage need."""

    model: CauseModel
    window_sha256: str
    rows: int
    data_from: str
    data_to: str
    metrics: CauseMetrics
    """On the held-out failures, of exactly this model."""


def dump(file: CauseArtifact) -> bytes:
    """The file: zlib over canonical JSON; the same model always gives the same bytes."""
    content = {
        "format": FORMAT,
        "task": TASK,
        "features": {"schema": cause_features.SCHEMA},
        "model": json.loads(file.model.to_json()),
        "window": {
            "sha256": file.window_sha256,
            "rows": file.rows,
            "from": file.data_from,
            "to": file.data_to,
        },
        "metrics": json.loads(contract.to_json(file.metrics)),
    }
    return artifact.pack(content)


def load(content: bytes, *, sha256: str) -> CauseArtifact:
    """The model in the file whose digest must be `sha256`. Raises ArtifactRefused."""
    data = artifact.unpack(content, sha256=sha256)
    artifact.check_format(data, wanted=FORMAT, schema=cause_features.SCHEMA)
    try:
        return _read(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactRefused(f"the model file is incomplete ({error}); train again") from None


def _read(data: Any) -> CauseArtifact:
    model, window = CauseModel.from_json(json.dumps(data["model"])), data["window"]
    if set(model.labels) != {TRANSIENT, LASTING}:
        raise ArtifactRefused("the model file is not one of transient and lasting failures; train again")
    return CauseArtifact(
        model=model,
        window_sha256=window["sha256"],
        rows=window["rows"],
        data_from=window["from"],
        data_to=window["to"],
        metrics=contract.from_json(CauseMetrics, json.dumps(data["metrics"])),
    )
