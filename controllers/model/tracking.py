"""What a registry is told of a Model: each training that has ended, and the version that predicts. Pure.

What the status says to be recorded is not asked for again. The status is no memory that anything hangs on: a
run is found again by its submission's id, so that whoever loses the status only asks once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from controllers.model.observed import Observed, Unknown
from ml import contract
from ml.figures import DurationMetrics, Figures
from pipewright import conditions
from pipewright.api.meta import now_without_fraction
from pipewright.api.v1alpha1 import Model
from pipewright.api.v1alpha1 import model as api
from pipewright.plan import Fact
from pipewright.runner_facts import TenantRef
from pipewright.tracking_facts import OWNER, Due, Recorded, TrackedRun, TrackedVersion
from pipewright.training_facts import Pointer, Training

RECORDED = "Recorded"
"""The condition; told where the settings name a registry."""
KEPT = 10
"""The newest trainings; those before them have left the status."""
LONGEST = 250
"""Characters of a registered model's name."""


def due(model: Model, observed: Observed) -> Due:
    """What is not recorded yet, as far as the status says."""
    tenant, trainings, pointer = observed.tenant, observed.trainings, observed.pointer
    if tenant is None or isinstance(trainings, Unknown):
        return Due()
    known = {it.attempt: it.mlflow_run for it in model.status.trainings if it.mlflow_run}
    ended = [it for it in trainings[:KEPT] if not it.running]
    runs = [_run(model, tenant, it) for it in reversed(ended) if it.attempt not in known]
    version = None
    if pointer is not None and registered(model, pointer, None) is None:
        made = next((it for it in ended if it.artifact_uri == pointer.artifact_uri), None)
        version = _version(model, tenant, pointer, made) if made is not None else None
    return Due(runs=runs, version=version, known=known)


def runs(model: Model, recorded: Recorded) -> Mapping[int, str]:
    """Attempt → id of its run, of all that are recorded by now."""
    return {it.attempt: it.mlflow_run for it in model.status.trainings if it.mlflow_run} | dict(recorded.runs)


def registered(model: Model, pointer: Pointer, recorded: Recorded | None) -> api.Registered | None:
    """The version that predicts as it is registered: by now, or by the status for this very promotion."""
    if recorded is not None and recorded.registered is not None:
        name, number = recorded.registered
        return api.Registered(model=name, version=number)
    before = model.status.active
    if before is None or before.artifact.uri != pointer.artifact_uri:
        return None
    # once more promoted, after another version was, it needs the alias once more
    times = {now_without_fraction(at) for at in (before.promoted_at, pointer.promoted_at)}
    return before.registered if len(times) == 1 else None


def fact(model: Model, wanted: Due, recorded: Recorded | None) -> Fact:
    """The condition. It counts for nothing else: a Model trains and predicts without a registry."""
    if recorded is not None and recorded.trouble is not None:
        reason, message = recorded.trouble
        told = (
            f"not all trainings are recorded: {message}; the Model trains and predicts, and it is tried again"
        )
        return Fact(type=RECORDED, status=False, reason=reason, message=told)
    if wanted.is_nothing or recorded is not None:
        if not runs(model, recorded or Recorded()):
            return Fact(
                type=RECORDED, status=None, reason="NotYetTrained", message="comes with the first training"
            )
        return Fact(
            type=RECORDED, status=True, reason="Recorded", message="the last trainings are recorded in MLflow"
        )
    before = conditions.find(model.status.conditions, RECORDED)
    if before is not None:
        status = {"True": True, "False": False}.get(before.status)
        return Fact(type=RECORDED, status=status, reason=before.reason, message=before.message)
    return Fact(type=RECORDED, status=None, reason="Pending", message="comes when the work under way is done")


# --- what is told ---------------------------------------------------------------------------------------


def _run(model: Model, tenant: TenantRef, training: Training) -> TrackedRun:
    assert training.finished_at is not None
    report = training.report
    return TrackedRun(
        submission_id=training.submission_id,
        attempt=training.attempt,
        group=tenant.name,
        name=f"{model.name}-{training.attempt}",
        succeeded=training.outcome != "Failed",
        started_at=training.started_at,
        finished_at=training.finished_at,
        tags=_tags(model, tenant, training),
        params=dict(_params(training, report)),
        metrics=dict(_metrics(report)) if report is not None else {},
    )


def _tags(model: Model, tenant: TenantRef, training: Training) -> dict[str, str]:
    told = {
        "mlflow.source.name": "pipewright",
        "mlflow.source.type": "JOB",
        OWNER: tenant.id,
        "pipewright.tenant": tenant.name,
        "pipewright.namespace": model.namespace,
        "pipewright.model": model.name,
        "pipewright.model_uid": model.uid,
        "pipewright.attempt": str(training.attempt),
        "pipewright.task": model.spec.task,
        "pipewright.outcome": training.outcome or "",
        "pipewright.reason": training.reason,
        "pipewright.dataset_sha256": training.window.sha256,
        "pipewright.dataset_uri": training.window.uri,
    }
    if training.version is not None:
        told["pipewright.version"] = training.version
        told["pipewright.artifact_uri"] = training.artifact_uri
    return told


def _params(training: Training, report: contract.Report | None) -> Iterator[tuple[str, str]]:
    yield "recipe", training.recipe
    yield "window_rows", str(training.window.rows)
    if report is None:
        return
    for name, value in sorted(report.hyperparameters.items()):
        yield name, f"{value:g}"
    for name, text in (
        ("data_from", report.data_from),
        ("data_to", report.data_to),
        ("model_format", report.model_format),
    ):
        if text:
            yield name, text


def _metrics(report: contract.Report) -> Iterator[tuple[str, float]]:
    yield "duration_seconds", report.duration_seconds
    tested = {"": report.figures, **{f"{name}.": each for name, each in report.baseline_figures.items()}}
    for prefix, each in tested.items():
        for name, value in _numbers(each) if each is not None else ():
            yield f"{prefix}{name}", value
    if report.search is not None:
        yield "search.trials", float(report.search.trials)
        yield "search.loss", report.search.loss
        yield "search.default_loss", report.search.default_loss


def _numbers(figures: Figures) -> Iterator[tuple[str, float]]:
    for field in fields(figures):
        value = getattr(figures, field.name)
        if isinstance(value, int | float):
            yield field.name, float(value)
    for each in figures.quantiles if isinstance(figures, DurationMetrics) else ():
        yield f"q{100 * each.quantile:g}.pinball_loss", each.pinball_loss
        yield f"q{100 * each.quantile:g}.covered", each.covered


def _version(model: Model, tenant: TenantRef, pointer: Pointer, made: Training) -> TrackedVersion:
    # MLflow allows neither slash nor colon; names of tenants and namespaces have no dots
    name = f"{tenant.name}.{model.namespace}.{model.name}"
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{model.uid[:8]}"
    return TrackedVersion(
        model=name,
        owner=tenant.id,
        attempt=made.attempt,
        source=pointer.artifact_uri,
        tags={
            OWNER: tenant.id,
            "pipewright.model_uid": model.uid,
            "pipewright.version": pointer.version,
            "pipewright.artifact_sha256": pointer.artifact_sha256,
            "pipewright.artifact_uri": pointer.artifact_uri,
            "pipewright.dataset_sha256": made.window.sha256,
        },
    )
