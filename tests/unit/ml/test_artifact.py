"""The model's file: one content, one digest, and no surprise when it is read."""

import dataclasses
import json
import zlib
from typing import Any

import pytest

from ml import artifact, predict, train
from ml.artifact import ArtifactRefused, Thresholds


def repacked(content: bytes, **changes: Any) -> bytes:
    return zlib.compress(json.dumps({**json.loads(zlib.decompress(content)), **changes}).encode())


def test_a_model_survives_its_file(trained: train.Trained) -> None:
    file = artifact.load(trained.content, sha256=artifact.digest(trained.content))
    assert artifact.dump(file) == trained.content
    assert file.metrics == trained.metrics
    assert (file.rows, file.data_from, file.data_to) == (trained.rows, trained.data_from, trained.data_to)
    assert len(file.models) == 3


def test_a_model_of_another_digest_is_refused(trained: train.Trained) -> None:
    with pytest.raises(ArtifactRefused, match=r"digest is .*, expected 000000000000"):
        artifact.load(trained.content, sha256="0" * 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": "pipewright-model/1"},
            r"has the format pipewright-model/1, this code reads .*train again",
        ),
        ({"features": {"schema": "other", "names": []}}, r"trained on the features other, .*train again"),
        ({"models": []}, "holds no LightGBM models"),
        ({"models": ["x"]}, "holds no LightGBM models"),
        ({"models": ["tree\n" + "num_leaves=64\n" * 376]}, "has 24064 leaves, at most 24000 .*train again"),
        (
            {"linear": {"means": [], "scales": [], "weights": [], "intercept": 0}},
            "not a number for each feature",
        ),
        ({"calibration": {"slope": None, "intercept": 0}}, "calibration are not numbers"),
        ({"thresholds": {"failure": 0.5}}, "is incomplete"),
        ({"metrics": {}}, "is incomplete .*accuracy is missing"),
    ],
)
def test_a_file_that_is_not_our_model_is_refused(
    trained: train.Trained, changes: dict[str, Any], message: str
) -> None:
    content = repacked(trained.content, **changes)
    with pytest.raises(ArtifactRefused, match=message):
        artifact.load(content, sha256=artifact.digest(content))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04N.", zlib.compress(b"[1]"), zlib.compress(b"{"), zlib.compress(b"{}")[:-2]]
)
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactRefused):
        artifact.load(content, sha256=artifact.digest(content))


def test_a_model_that_lightgbm_cannot_read_is_refused(trained: train.Trained) -> None:
    file = artifact.load(trained.content, sha256=artifact.digest(trained.content))
    broken = artifact.dump(dataclasses.replace(file, models=("tree\nversion=v4\n",)))
    with pytest.raises(ArtifactRefused, match="LightGBM cannot read the model"):
        predict.Predictor.load(broken, sha256=artifact.digest(broken))


@pytest.mark.parametrize(
    ("probability", "has_history", "band"),
    [
        (0.05, True, "low"),
        (0.2, True, "medium"),
        (0.45, True, "unsure"),
        (0.6, True, "high"),
        (0.9, True, "high"),
        (0.05, False, "unsure"),
        (0.9, False, "unsure"),
    ],
)
def test_bands(probability: float, has_history: bool, band: str) -> None:
    limits = Thresholds(failure=0.58, medium=0.18, unsure_low=0.4, unsure_high=0.55)
    assert limits.band(probability, has_history=has_history) == band
