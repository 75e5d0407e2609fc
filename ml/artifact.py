"""A trained model as one file: compressed JSON with its trees, its linear part and all that scoring needs.

A data format, never pickle: reading it runs no code. Loading checks the digest first, then the format, then
that the model was trained on the features this code computes. The same model always gives the same bytes.
"""

import dataclasses
import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from ml import contract, features
from ml.arrays import Flags, Floats
from ml.figures import CauseMetrics, DurationMetrics, Metrics
from ml.linear import Linear

MAX_BYTES = 256 * 1024 * 1024
"""A larger content is refused before it fills the memory."""

_LEAVES = re.compile(r"^num_leaves=(\d+)$", re.MULTILINE)

T = TypeVar("T")
M = TypeVar("M", Metrics, DurationMetrics, CauseMetrics)
Band = Literal["low", "medium", "high", "unsure"]


class ArtifactRefused(ValueError):
    """The file is not the model it should be; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Platt scaling: probability = 1 / (1 + exp(-(slope * logit + intercept)))."""

    slope: float
    intercept: float

    def probability(self, logit: Floats) -> Floats:
        """The calibrated probability of failure for averaged logits."""
        return 1 / (1 + np.exp(-np.clip(self.slope * logit + self.intercept, -30, 30)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a calibrated probability of failure is called."""

    failure: float
    """From here on the run is called a failure (band high); set for few false alarms."""
    medium: float
    """From here on the risk is above the usual failure rate (band medium)."""
    unsure_low: float
    unsure_high: float
    """Strictly between these two it is nearer to a coin flip than the model is worth: band unsure."""

    def band(self, probability: float, *, has_history: bool) -> Band:
        """The band; unsure too where nothing is known of the pipeline yet: thresholds do not hold there."""
        if self.unsure(np.array([probability]), has_history=np.array([has_history]))[0]:
            return "unsure"
        if probability >= self.failure:
            return "high"
        return "medium" if probability >= self.medium else "low"

    def unsure(self, probability: Floats, *, has_history: Flags) -> Flags:
        """For which of many probabilities the band is unsure."""
        return ~has_history | ((self.unsure_low < probability) & (probability < self.unsure_high))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made(Generic[M]):
    """What the file of every model tells of its training."""

    window_sha256: str
    rows: int
    data_from: str
    data_to: str
    metrics: M
    """On the held-out runs, of exactly this model."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Made[Metrics]):
    """A model with everything that scoring and lineage need."""

    models: Sequence[str]
    """LightGBM model texts; their raw scores are averaged."""
    linear: Linear
    """The other half of the model."""
    calibration: Calibration
    thresholds: Thresholds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Envelope(Generic[M]):
    """What the files of one task have around the model: format, features, lineage."""

    format: str
    task: contract.Task
    features: Mapping[str, Any]
    """What this code computes: `schema`, the digest that files are compared by, and more for readers."""
    metrics: type[M]

    def seal(self, made: Made[M], **model: Any) -> bytes:
        """The file of this model: zlib over canonical JSON; the same model always gives the same bytes."""
        envelope = {
            "format": self.format,
            "task": self.task,
            "features": self.features,
            "window": {
                "sha256": made.window_sha256,
                "rows": made.rows,
                "from": made.data_from,
                "to": made.data_to,
            },
            "metrics": json.loads(contract.to_json(made.metrics)),
        }
        return pack(envelope | model)

    def open(self, content: bytes, *, sha256: str, read: Callable[..., T]) -> T:
        """What `read` makes of the file's data, and of the fields of `Made` by name. Raises ArtifactRefused.

        `sha256`: what the file's digest must be. What `read` misses or cannot use it says by raising.
        """
        data = unpack(content, sha256=sha256)
        self._check(data)
        try:
            window = data["window"]
            return read(
                data,
                window_sha256=window["sha256"],
                rows=window["rows"],
                data_from=window["from"],
                data_to=window["to"],
                metrics=contract.decode(self.metrics, data["metrics"]),
            )
        except ArtifactRefused:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactRefused(f"the model file is incomplete ({error}); train again") from None

    def _check(self, data: Mapping[str, Any]) -> None:
        if (found := data.get("format")) != self.format:
            raise ArtifactRefused(
                f"the model file has the format {found}, this code reads {self.format}; train again"
            )
        schema = self.features["schema"]
        if (found := data.get("features", {}).get("schema")) != schema:
            raise ArtifactRefused(
                f"the model was trained on the features {found}, this code computes {schema}; train again"
            )


ENVELOPE = Envelope(
    format="pipewright-model/2",
    task="RunFailure",
    features={"schema": features.SCHEMA, "names": list(features.NAMES)},
    metrics=Metrics,
)


def dump(file: Artifact) -> bytes:
    """The artifact's file."""
    return ENVELOPE.seal(
        file,
        models=list(file.models),
        linear=dataclasses.asdict(file.linear),
        calibration=dataclasses.asdict(file.calibration),
        thresholds=dataclasses.asdict(file.thresholds),
    )


def load(content: bytes, *, sha256: str) -> Artifact:
    """The artifact in the file whose digest must be `sha256`. Raises ArtifactRefused."""
    return ENVELOPE.open(content, sha256=sha256, read=_artifact)


def pack(content: Mapping[str, Any]) -> bytes:
    """A file's content: zlib over canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return zlib.compress(text.encode(), 9)


def digest(content: bytes) -> str:
    """SHA-256 of the file, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def count_leaves(models: Sequence[str]) -> int:
    """How many leaves the trees of these LightGBM texts have."""
    return sum(int(count) for text in models for count in _LEAVES.findall(text))


def unpack(content: bytes, *, sha256: str) -> Mapping[str, Any]:
    """What `pack` packed, if its digest is `sha256`. Raises ArtifactRefused."""
    found = digest(content)
    if found != sha256:
        raise ArtifactRefused(
            f"the model file's digest is {found[:12]}…, expected {sha256[:12]}…:"
            " it was changed or cut short; train again or restore the file"
        )
    return _parse(content)


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        engine = zlib.decompressobj()
        text = engine.decompress(content, MAX_BYTES)
        if engine.unconsumed_tail or not engine.eof:
            raise ArtifactRefused(f"the model file is cut short or larger than {MAX_BYTES} bytes unpacked")
        data = json.loads(text)
    except (zlib.error, ValueError) as error:
        if isinstance(error, ArtifactRefused):
            raise
        raise ArtifactRefused("the model file is not compressed JSON; train again") from None
    if not isinstance(data, dict):
        raise ArtifactRefused("the model file is not a JSON object; train again")
    return data


def check_models(models: Sequence[str]) -> None:
    """Raises ArtifactRefused where these are no LightGBM texts, or too many trees to be asked in time."""
    if not models or not all(isinstance(text, str) and text.startswith("tree") for text in models):
        raise ArtifactRefused("the model file holds no LightGBM models; train again")
    if (leaves := count_leaves(models)) > contract.MOST_LEAVES:
        raise ArtifactRefused(
            f"the model has {leaves} leaves, at most {contract.MOST_LEAVES} are scored in time;"
            " train again with fewer trees or leaves"
        )


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether all of them are, and finite."""
    return all(isinstance(value, float | int) and math.isfinite(value) for value in values)


def _artifact(data: Mapping[str, Any], **made: Any) -> Artifact:
    models = data["models"]
    check_models(models)
    for part in ("calibration", "thresholds"):
        if not are_numbers(data[part].values()):
            raise ArtifactRefused(f"the model file's {part} are not numbers; train again")
    line = data["linear"]
    numbers = [line["intercept"], *line["means"], *line["scales"], *line["weights"]]
    whole = all(len(line[part]) == len(features.NAMES) for part in ("means", "scales", "weights"))
    if not whole or not are_numbers(numbers):
        raise ArtifactRefused("the model file's linear part is not a number for each feature; train again")
    return Artifact(
        models=tuple(models),
        linear=Linear(**line),
        calibration=Calibration(**data["calibration"]),
        thresholds=Thresholds(**data["thresholds"]),
        **made,
    )
