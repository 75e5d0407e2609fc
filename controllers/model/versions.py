"""Which version of a Model is to predict, by what its attempts made and what the spec names. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controllers.model import pooling
from controllers.model.observed import Observed, Unknown
from pipewright.api.v1alpha1 import Model
from pipewright.training_facts import Training

KEPT = 10
"""Trainings whose files stay, besides the active version's."""


def candidate(observed: Observed) -> Training | None:
    """The newest attempt that made a version, unless that is the active one, or an older one."""
    if isinstance(observed.trainings, Unknown):
        return None
    pointer = observed.pointer
    for training in observed.trainings:
        if pointer is not None and training.artifact_uri == pointer.artifact_uri:
            return None
        report = training.report
        if report is None or report.artifact_sha256 is None or training.outcome == "Failed":
            continue
        same = pointer is not None and report.artifact_sha256 == pointer.artifact_sha256
        return None if same else training
    return None


def named(version: str, trainings: Sequence[Training]) -> Training | None:
    """The attempt that made a version which passed its gates, if its files are still there."""
    return next((it for it in trainings[:KEPT] if it.outcome == "Passed" and it.version == version), None)


def promotable(model: Model, observed: Observed) -> Training | None:
    """The attempt whose version is to become the active one; None: nothing is to change."""
    trainings, chosen = observed.trainings, model.spec.serving.version
    if isinstance(trainings, Unknown):
        return None
    if chosen is None:
        return _newest(observed, trainings)
    found, pointer = named(chosen, trainings), observed.pointer
    if pointer is None or found is None or pointer.version != chosen:
        return found
    return found if observed.is_lost and found.artifact_uri != pointer.artifact_uri else None


def _newest(observed: Observed, trainings: Sequence[Training]) -> Training | None:
    """The newest attempt that passed, unless its version is the active one, or an older one."""
    pointer = observed.pointer
    for training in trainings:
        if pointer is not None and training.artifact_uri == pointer.artifact_uri:
            return None
        if training.outcome == "Passed":
            if pooling.has_left(observed, training):
                return None  # one without them follows
            same = pointer is not None and training.version == pointer.version
            return None if same and not observed.is_lost else training
    return None
