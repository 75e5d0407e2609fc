"""A training that runs: from intent to outcome, whatever of it a crash, or the cluster, has forgotten. Pure.

The report decides, not the job's state: it is written last, and survives the cluster.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from controllers.model import objects, pooling
from controllers.model.observed import Observed, Result, Unknown
from ml import contract
from pipewright import plan
from pipewright.actions import model as act
from pipewright.api.meta import format_duration
from pipewright.api.v1alpha1 import Model
from pipewright.plan import chain, merge, says
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import JobStatus, Training

Plan = plan.Plan[act.ModelAction]

TRAINING = "Training"
"""The condition."""
WORK = "Work"
"""What the chains serve: no condition of its own. A retraining that fails does not make a version unready."""

POLL = timedelta(seconds=2)
"""When to look again at a job that runs."""
RETRY = timedelta(seconds=10)
"""When to look again at a server that did not answer."""
SOON = timedelta(seconds=1)
"""When to look again at a job that was told to stop."""
GRACE = timedelta(minutes=10)
"""A job may use its files for as long as it may run, and so much longer: it is stopped within that."""
KILLED = re.compile(r"exit code (137|-9)\b|out ?of ?memory", re.IGNORECASE)
"""How Ray tells of a job that the kernel has killed: 128 + SIGKILL from a shell, else the signal's number."""
NOT_STARTED = "PreRunningDeadlineExceeded"
"""How KubeRay begins what it says of a cluster that did not start."""


def supervised(model: Model, observed: Observed, training: Training, *, now: datetime) -> Plan:
    """From intent to outcome, whatever of it a crash, or the cluster, has forgotten."""
    assert observed.tenant is not None
    told = says(TRAINING, True, "Running", f"attempt {training.attempt} is under way")
    job, result = observed.job, observed.result
    if pooling.has_left(observed, training):
        reason = f"{pooling.LEFT} while it was trained on"
        return stopped(model, observed.tenant, training, job=job, told=told, reason=reason, now=now)
    if isinstance(result, Result):
        return merge(_finished(observed.tenant, training, result, now=now), told)
    left = training.started_at + model.spec.training.deadline - now
    if left <= timedelta():
        allowed = format_duration(model.spec.training.deadline)
        reason = f"DeadlineExceeded: it was stopped after {allowed}; raise training.deadline if it needs more"
        return stopped(model, observed.tenant, training, job=job, told=told, reason=reason, now=now)
    if isinstance(job, Unknown):
        return merge(says(TRAINING, True, job.reason, job.message), Plan(check_after=min(RETRY, left)))
    if isinstance(result, Unknown) and (job is None or job.ended):
        # its report may lie there: the job neither failed nor is it forgotten before that is known
        return merge(says(TRAINING, True, result.reason, result.message), Plan(check_after=min(RETRY, left)))
    if job is None:
        return merge(_submission(model, observed.tenant, training, now=now), told)
    if not job.ended:
        # who is in a pool is looked up each time
        return merge(told, Plan(check_after=min(RETRY if pooling.is_pooled(training) else POLL, left)))
    reason = {
        "Failed": _why_failed(job.message),
        "Stopped": "JobStopped: somebody stopped the job on the Ray cluster",
    }.get(job.phase, "NoReport: the job ended without a report")
    return merge(chain(WORK, fail(observed.tenant, training, reason, now=now)), told)


def _why_failed(message: str) -> str:
    """The cluster's words, and what to do where they tell it."""
    if KILLED.search(message):
        return (
            f"OutOfMemory: the job was killed, most likely for its memory ({message}): give the Ray cluster's"
            " nodes more, or shorten data.window"
        )
    if message.startswith(NOT_STARTED):
        return (
            "NotStarted: its Ray cluster did not start in time: is there a node with what compute.kubeRay"
            " asks for, and does the namespace's quota allow it? Else raise compute.kubeRay.startDeadline"
        )
    return f"JobFailed: {message or 'the job ended without a report'}"


def stopped(
    model: Model,
    tenant: TenantRef,
    training: Training,
    *,
    job: JobStatus | Unknown | None,
    told: Plan,
    reason: str,
    now: datetime,
) -> Plan:
    """An attempt is closed when its job does nothing any more: the next one never runs beside it."""
    if isinstance(job, Unknown):
        unknown = says(TRAINING, True, job.reason, job.message)
        return merge(chain(WORK, _stop(model, tenant, training)), unknown, Plan(check_after=RETRY))
    if job is not None and not job.ended:
        stop = () if training.phase == "Stopping" else (_stop(model, tenant, training),)
        return merge(chain(WORK, *stop), told, Plan(check_after=SOON))
    return merge(chain(WORK, fail(tenant, training, reason, now=now)), told)


def _submission(model: Model, tenant: TenantRef, training: Training, *, now: datetime) -> Plan:
    """The cluster does not know the job: not yet, or no longer since it was started anew."""
    if training.phase == "Resubmitted":
        reason = "JobLost: the Ray cluster has forgotten the job twice"
        return chain(WORK, fail(tenant, training, reason, now=now))
    try:
        job = objects.job(model, training)
    except contract.ContractError as wrong:
        return chain(WORK, fail(tenant, training, f"InvalidSpec: {wrong}", now=now))
    again = training.phase == "Submitted"
    return chain(
        WORK,
        act.SubmitTraining(
            tenant=tenant,
            model_uid=model.uid,
            attempt=training.attempt,
            job=job,
            training=training,
            lasting=model.spec.training.deadline + GRACE,
            place=objects.place(model, tenant, training),
            pod=objects.pod(model),
            phase="Resubmitted" if again else "Submitted",
        ),
    )


def _finished(tenant: TenantRef, training: Training, result: Result, *, now: datetime) -> Plan:
    report = result.report
    if report is None:
        return chain(WORK, fail(tenant, training, f"InvalidReport: {result.problem}", now=now))
    if report.outcome == "Failed":
        reason = f"TrainingFailed: {report.reason}"
        return chain(WORK, fail(tenant, training, reason, now=now, report=report))
    if report.figures is None or report.artifact_sha256 is None:
        return chain(WORK, fail(tenant, training, "InvalidReport: it names no model or metrics", now=now))
    if report.artifact_sha256 != result.artifact_sha256:
        reason = "ArtifactMismatch: the model file is not the one that the report names"
        return chain(WORK, fail(tenant, training, reason, now=now))
    word = "GatesPassed" if report.outcome == "Passed" else "GatesFailed"
    finish = act.FinishTraining(
        tenant=tenant,
        submission_id=training.submission_id,
        attempt=training.attempt,
        outcome=report.outcome,
        reason=f"{word}: {report.reason}"[:1000],
        report=report,
        at=now,
        lent=_lent(training),
    )
    return chain(WORK, finish)


def fail(
    tenant: TenantRef,
    training: Training,
    reason: str,
    *,
    now: datetime,
    report: contract.Report | None = None,
) -> act.FinishTraining:
    """Close an attempt for a technical reason: one word, and after a colon a sentence."""
    return act.FinishTraining(
        tenant=tenant,
        submission_id=training.submission_id,
        attempt=training.attempt,
        outcome="Failed",
        reason=reason[:1000],
        report=report,
        at=now,
        lent=_lent(training),
    )


def _lent(training: Training) -> str:
    return training.lent.folder if training.lent is not None else ""


def _stop(model: Model, tenant: TenantRef, training: Training) -> act.StopTraining:
    return act.StopTraining(
        tenant=tenant,
        submission_id=training.submission_id,
        attempt=training.attempt,
        place=objects.place(model, tenant, training),
    )
