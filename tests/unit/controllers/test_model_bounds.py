"""What the API server accepts, the learner accepts: the two rooms may not import each other's bounds."""

from __future__ import annotations

import pytest

from controllers.model import objects
from ml import contract
from pipewright.api.v1alpha1 import Model

FIELDS = {
    "numLeaves": (2, 64),
    "learningRate": (0.001, 0.5),
    "trees": (10, 1000),
    "minChild": (1, 10_000),
}


@pytest.mark.parametrize("end", [0, 1], ids=["least", "most"])
@pytest.mark.parametrize("field", FIELDS)
def test_both_accept_the_bound_itself(field: str, end: int) -> None:
    model = Model.parse(
        {
            "metadata": {"name": "m", "namespace": "n", "uid": "u"},
            "spec": {"task": "RunFailure", "training": {"hyperparameters": {field: FIELDS[field][end]}}},
        }
    )
    job = contract.TrainingJob(
        submission_id="s",
        window_uri="file:///w",
        window_sha256="0" * 64,
        artifact_uri="file:///a",
        report_uri="file:///r",
        holdout=model.spec.evaluation.holdout,
        gates=objects.gates(model),
        hyperparameters=objects.hyperparameters(model),
    )
    assert FIELDS[field][end] in job.hyperparameters.values()
