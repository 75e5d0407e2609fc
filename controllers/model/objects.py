"""Builders of what a Model's training and serving are told: a spec and facts in, a value out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ml import contract
from ml.figures import CauseMetrics, DurationMetrics, Figures, Metrics
from pipewright.api.v1alpha1 import Integration, Model
from pipewright.api.v1alpha1 import model as api
from pipewright.api.v1alpha1.model_search import SearchResult
from pipewright.plan import Ref
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import KUBE_RAY, JobPlace, Pod, Pointer, Training, version_of

NOT_LENT = "file:///not-lent-yet"
"""Where a file lies that a job cannot reach yet."""

HYPERPARAMETERS = {
    "num_leaves": "num_leaves",
    "learning_rate": "learning_rate",
    "trees": "num_trees",
    "min_child": "min_child_samples",
}
"""Field of `spec.training.hyperparameters` → the learner's name."""
SEARCHED = {
    "num_leaves": "num_leaves",
    "learning_rate": "learning_rate",
    "min_child": "min_child_samples",
    "lambda_l2": "lambda_l2",
    "feature_fraction": "feature_fraction",
}
"""Field of `status.lastTraining.search.hyperparameters` → the learner's name."""


def recipe(model: Model) -> str:
    """Short digest of what decides what a training makes, and whether it passes: of the spec, and of us."""
    spec = model.spec
    parts = {
        "data": spec.data.dump(),
        "evaluation": spec.evaluation.dump(),
        "hyperparameters": spec.training.hyperparameters.dump(),
        "format": contract.FORMATS[spec.task],
    }
    if spec.pool is not None:  # the same of releases which knew no pools
        parts["pool"] = spec.pool
    if spec.training.search is not None:  # else the recipe is that of releases which knew no search
        parts["search"] = spec.training.search.dump()
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def job(model: Model, training: Training) -> contract.TrainingJob:
    """The job of an attempt, before it is lent its files: a bucket's own addresses are none that it follows.

    Raises contract.ContractError when the learner would refuse the spec.
    """
    lent = training.lent.windows if training.lent is not None else ()
    return contract.TrainingJob(
        submission_id=training.submission_id,
        task=model.spec.task,
        window_uri=NOT_LENT,
        window_sha256=training.window.sha256,
        artifact_uri=NOT_LENT,
        report_uri=NOT_LENT,
        holdout=model.spec.evaluation.holdout,
        gates=gates(model),
        hyperparameters=hyperparameters(model),
        search=search(model),
        pool=tuple(contract.PoolWindow(uri=NOT_LENT, sha256=it.sha256) for it in lent),
    )


def compute(model: Model) -> str:
    """Where the spec wants trainings to run, as `JobPlace.compute` has it."""
    wanted = model.spec.training.compute
    if wanted is None:
        return ""
    return KUBE_RAY if wanted.kube_ray is not None else wanted.cluster or ""


def place(model: Model, tenant: TenantRef, training: Training) -> JobPlace:
    """Where an attempt's job runs, whatever the spec says by now."""
    return JobPlace(
        tenant_id=tenant.id,
        namespace=model.namespace,
        model=model.name,
        model_uid=model.uid,
        compute=training.compute,
    )


def pod(model: Model) -> Pod:
    """What a job of its own cluster asks for."""
    training = model.spec.training
    wanted = training.compute.kube_ray if training.compute is not None else None
    if wanted is None:
        return Pod(deadline=training.deadline)
    return Pod(
        image=wanted.image or "",
        cpus=wanted.cpus,
        memory=wanted.memory,
        gpus=wanted.gpus,
        node_selector=wanted.node_selector or {},
        tolerations=tuple(each.dump() for each in wanted.tolerations),
        queue=wanted.queue_name or "",
        start_deadline=wanted.start_deadline,
        deadline=training.deadline,
    )


def gates(model: Model) -> contract.Gates:
    """The gates as the job knows them."""
    wanted = model.spec.evaluation.gates
    return contract.Gates(
        max_false_positive_rate=wanted.max_false_positive_rate,
        min_accuracy=wanted.min_accuracy,
        min_gain_over_baseline=wanted.min_gain_over_baseline,
        max_calibration_error=wanted.max_calibration_error,
        min_pinball_gain=wanted.min_pinball_gain,
        max_coverage_error=wanted.max_coverage_error,
    )


def hyperparameters(model: Model) -> dict[str, float]:
    """What the spec sets of the learner, by the learner's names."""
    wanted = model.spec.training.hyperparameters
    values = {theirs: getattr(wanted, ours) for ours, theirs in HYPERPARAMETERS.items()}
    return {name: value for name, value in values.items() if value is not None}


def search(model: Model) -> contract.Search | None:
    """The search as the job knows it: it ends early enough for the model to be trained after it."""
    training = model.spec.training
    if training.search is None:
        return None
    lasting = training.search.timeout or training.deadline / 2
    return contract.Search(trials=training.search.trials, seconds=lasting.total_seconds())


def pointer(
    model: Model, training: Training, *, tenant: TenantRef, is_default: bool, at: datetime
) -> Pointer:
    """The pointer, from `at` on, to what an attempt made; it passed, so it has a report."""
    report = training.report
    assert report is not None
    assert report.artifact_sha256 is not None
    assert report.figures is not None
    return Pointer(
        model_uid=model.uid,
        tenant_id=tenant.id,
        namespace=model.namespace,
        model=model.name,
        task=model.spec.task,
        is_default=is_default,
        control_share=model.spec.serving.control_share,
        version=version_of(report.artifact_sha256),
        artifact_uri=training.artifact_uri,
        artifact_sha256=report.artifact_sha256,
        metrics=_json(report.figures),
        promoted_at=at,
    )


def folder(training: Training) -> str:
    """Where an attempt's model and report lie."""
    return training.artifact_uri.rpartition("/")[0]


def integration_ref(model: Model, name: str) -> Ref:
    """Names an Integration of the model's namespace."""
    return Ref(
        api_version=Integration.api_version, kind=Integration.kind, namespace=model.namespace, name=name
    )


# --- for the status -------------------------------------------------------------------------------------


def active(
    pointer: Pointer, *, registered: api.Registered | None = None, pooled: api.PooledData | None = None
) -> api.ActiveVersion:
    """The version that predicts, as the status shows it."""
    return api.ActiveVersion(
        version=pointer.version,
        artifact=api.Artifact(uri=pointer.artifact_uri, sha256=pointer.artifact_sha256),
        metrics=_metrics(pointer.metrics),
        promoted_at=pointer.promoted_at,
        registered=registered,
        pooled=pooled,
    )


def version(training: Training) -> api.Version:
    """What an attempt made, as the status shows it."""
    report = training.report
    assert report is not None
    assert report.artifact_sha256 is not None
    return api.Version(
        version=version_of(report.artifact_sha256),
        artifact=api.Artifact(uri=training.artifact_uri, sha256=report.artifact_sha256),
        metrics=_metrics(_json(report.figures)),
        pooled=pooled(report),
    )


def pooled(report: contract.Report | None) -> api.PooledData | None:
    """What it says of others' runs; None: it learned from none."""
    found = report.pooled if report is not None else None
    if found is None:
        return None
    return api.PooledData(tenants=found.tenants, runs=found.rows, own_runs=found.own_rows)


def baselines(training: Training) -> api.Baselines:
    """The two simplest predictions on the runs that the attempt was judged on."""
    assert training.report is not None
    found = {name: _metrics(_json(value)) for name, value in training.report.baseline_figures.items()}
    return api.Baselines.model_validate(found)


def dataset(training: Training) -> api.Dataset | None:
    """The data of an attempt."""
    report = training.report
    if report is None or report.data_from is None or report.data_to is None:
        return None
    return api.Dataset.model_validate(
        {
            "uri": training.window.uri,
            "rows": report.rows,
            "from": report.data_from,
            "to": report.data_to,
            "sha256": training.window.sha256,
        }
    )


def last_training(training: Training) -> api.LastTraining:
    """An attempt, as the status shows it."""
    return api.LastTraining(
        attempt=training.attempt,
        submission_id=training.submission_id,
        started_at=training.started_at,
        finished_at=training.finished_at,
        outcome=training.outcome or "Running",
        reason=training.reason[:1024] or None,
        search=_searched(training.report.search) if training.report is not None else None,
    )


def past(training: Training, *, mlflow_run: str | None = None) -> api.PastTraining:
    """An attempt among others, as the status shows it."""
    figures = training.report.figures if training.report is not None else None
    lasted = figures if isinstance(figures, DurationMetrics) else None
    right = figures if isinstance(figures, Metrics | CauseMetrics) else None
    return api.PastTraining(
        attempt=training.attempt,
        version=training.version,
        started_at=training.started_at,
        outcome=training.outcome or "Running",
        accuracy=round(right.accuracy, 4) if right is not None else None,
        pinball_loss=round(lasted.pinball_loss, 4) if lasted is not None else None,
        mlflow_run=mlflow_run,
    )


def _searched(found: contract.Searched | None) -> SearchResult | None:
    if found is None:
        return None
    values = {ours: found.hyperparameters.get(theirs) for ours, theirs in SEARCHED.items()}
    return SearchResult.model_validate(
        {
            "trials": found.trials,
            "loss": round(found.loss, 4),
            "default_loss": round(found.default_loss, 4),
            "hyperparameters": values,
        }
    )


def _json(metrics: Figures | None) -> Mapping[str, Any]:
    return json.loads(contract.to_json(metrics)) if metrics is not None else {}


def _metrics(values: Mapping[str, Any]) -> api.Metrics:
    """Rounded for readers: the fifth digit of a share is noise. The journal has all of them."""
    return api.Metrics.model_validate(
        {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
    )
