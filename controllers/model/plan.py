"""What a Model needs done, from what was seen. Pure: the list of rules is the documentation.

    no version, enough runs ─► begin ─► submit ─► (Ray) ─► report ─► finish ─► gates passed ─► promote
    the schedule says so ──────┘  ▲                          │ technical trouble
                                  └────── a while later ◄────┘
One attempt at a time. The report decides, not the job's state: it is written last, and survives the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from controllers.model import due, objects, pooling, running, versions
from controllers.model.observed import Observed, Unknown
from controllers.model.running import RETRY, TRAINING, WORK
from ml import drift
from pipewright import errors, plan, runner_facts
from pipewright.actions import model as act
from pipewright.api.meta import format_duration
from pipewright.api.v1alpha1 import Model
from pipewright.plan import Fact, chain, merge, says
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import Pointer, Training

Plan = plan.Plan[act.ModelAction]

READY = "Ready"
GATES = "GatesPassed"
DRIFTED = "Drifted"
CONDITIONS = (READY, TRAINING, GATES, DRIFTED)
MISSING = timedelta(seconds=30)
"""When to look again for an Integration or another model's place: they are not watched."""


def plan_model(model: Model, observed: Observed, *, now: datetime) -> Plan:
    """What is to be done now, and what is to be said. Empty of actions while a job runs, or none is due."""
    trainings = observed.trainings
    if isinstance(trainings, Unknown):
        training = says(TRAINING, None, trainings.reason, trainings.message)
        serving = merge(_serving(model, observed, training.facts), _drifted(model, observed))
        return merge(serving, training, Plan(check_after=RETRY))
    if observed.tenant is not None and observed.tenant.state == runner_facts.SUSPENDED:
        return _paused(model, observed, observed.tenant, trainings, now=now)
    wrong = _refused(model, observed, now=now)
    promotion = _promotion(model, observed, now=now)
    if trainings and trainings[0].running:
        training = running.supervised(model, observed, trainings[0], now=now)
    elif wrong is not None:
        training = wrong
    elif not promotion.is_empty:
        training = _idle("Promoting", "the version that was trained last becomes the active one")
    else:
        training = _next(model, observed, trainings, now=now)
    serving = merge(_serving(model, observed, training.facts), _drifted(model, observed))
    return merge(promotion, serving, training, _judged(trainings))


def _paused(
    model: Model, observed: Observed, tenant: TenantRef, trainings: Sequence[Training], *, now: datetime
) -> Plan:
    """The tenant is suspended: a job that runs is seen to its end, nothing begins, nothing is promoted."""
    told = runner_facts.suspended(tenant)
    training = _idle("TenantSuspended", told)
    if trainings and trainings[0].running and (observed.job is not None or observed.result is not None):
        training = running.supervised(model, observed, trainings[0], now=now)
    serving = merge(says(READY, False, "TenantSuspended", told), _drifted(model, observed))
    return merge(serving, training, _judged(trainings), Plan(check_after=runner_facts.RESUMED))


# --- the active version -------------------------------------------------------------------------------


def _promotion(model: Model, observed: Observed, *, now: datetime) -> Plan:
    found = versions.promotable(model, observed)
    if found is None or observed.spoiled is not None:
        return Plan(check_after=RETRY if isinstance(observed.spoiled, Unknown) else None)
    assert observed.tenant is not None
    default = model.spec.serving.default and observed.other_default is None
    wanted = objects.pointer(model, found, tenant=observed.tenant, is_default=default, at=now)
    expected = observed.pointer.generation if observed.pointer is not None else None
    return chain(WORK, act.PromoteModel(pointer=wanted, expected=expected))


def _serving(model: Model, observed: Observed, training: Sequence[Fact]) -> Plan:
    """Ready is about the active version alone; without one, the training tells why not."""
    pointer, chosen = observed.pointer, model.spec.serving.version
    if chosen is not None and _is_missing(chosen, observed):
        message = (
            f"none of the last {versions.KEPT} trainings made the version {chosen} and passed its gates:"
            f" name one of status.trainings, or clear serving.version;"
            f" {f'version {pointer.version}' if pointer is not None else 'none'} predicts meanwhile"
        )
        return says(READY, False, "VersionNotFound", message, stalled=True)
    if chosen is not None and isinstance(observed.spoiled, str):
        message = (
            f"version {chosen} cannot become the active one, because {observed.spoiled}: restore the file,"
            f" or name another version; {f'version {pointer.version}' if pointer is not None else 'none'}"
            " predicts meanwhile"
        )
        return says(READY, False, "ArtifactMismatch", message)
    if pointer is None:
        why = training[0]
        return says(READY, False, why.reason, f"no version predicts yet: {why.message}", stalled=why.stalled)
    wanted = model.spec.serving.default
    if wanted and observed.other_default is not None:
        message = (
            f"the model {observed.other_default} is the namespace's default already:"
            " set serving.default for one of the two only"
        )
        return merge(says(READY, False, "AnotherDefault", message, stalled=True), Plan(check_after=MISSING))
    share = model.spec.serving.control_share
    turn: Plan = Plan()
    if (pointer.is_default, pointer.control_share) != (wanted, share):
        change = act.ChangeServing(model_uid=model.uid, is_default=wanted, control_share=share)
        turn = chain(WORK, change)
    return merge(turn, _usable(observed, pointer))


def _usable(observed: Observed, pointer: Pointer) -> Plan:
    """Ready is what a gateway that starts now could do."""
    if observed.is_lost:
        message = (
            f"the file of version {pointer.version} is no longer in the artifact store: a gateway that has"
            " it loaded goes on, others predict nothing; restore the file, name another version in"
            " serving.version, or wait for the next training"
        )
        return says(READY, False, "ArtifactMissing", message)
    if not isinstance(observed.trainings, Unknown) and due.is_unreadable(pointer, observed.trainings):
        message = (
            f"version {pointer.version} was made by an earlier release, whose files this one does not read:"
            " nothing is predicted until a training passes its gates"
        )
        return says(READY, False, "FormatNotRead", message)
    return says(READY, True, "Active", f"version {pointer.version} predicts")


def _drifted(model: Model, observed: Observed) -> Plan:
    """Whether it meets other runs than it was judged on. No number: each prediction would change it."""
    for trouble in (observed.trainings, observed.drift):
        if isinstance(trouble, Unknown):
            return says(DRIFTED, None, trouble.reason, trouble.message)
    if model.spec.task == "FailureCause":
        told = "drift is not measured for causes: the report shows how re-runs ended"
        return says(DRIFTED, None, "NotMeasured", told)
    found, limit = observed.drift, model.spec.training.max_drift or drift.MOVED
    if not isinstance(found, float):
        few = f"comes with {due.LEAST_PREDICTIONS} predictions of the active version"
        return says(DRIFTED, None, "NotEnoughPredictions", few)
    index = f"{limit:g} (population stability index)"
    subject = "durations" if model.spec.task == "Duration" else "probabilities"
    if found <= limit:
        told = f"the {subject} lie as on the held-out runs, to less than {index}"
        return says(DRIFTED, False, "Steady", told)
    message = (
        f"the {subject} have moved by more than {index} from those on the held-out runs:"
        " the report shows how good they still are; set training.maxDrift to train anew then"
    )
    return says(DRIFTED, True, "Drifted", message)


def _is_missing(chosen: str, observed: Observed) -> bool:
    """Whether the spec names a version that nobody has."""
    pointer, trainings = observed.pointer, observed.trainings
    if isinstance(trainings, Unknown) or (pointer is not None and pointer.version == chosen):
        return False
    return versions.named(chosen, trainings) is None


def _judged(trainings: Sequence[Training]) -> Plan:
    for training in trainings:
        if training.outcome == "Passed":
            return says(GATES, True, "GatesPassed", "the version that was trained last passed its gates")
        if training.outcome == "GatesFailed":
            return says(GATES, False, "GatesFailed", _sentence(training))
    return says(GATES, None, "NotYetTrained", "comes with the first training")


# --- the next training --------------------------------------------------------------------------------


def _refused(model: Model, observed: Observed, *, now: datetime) -> Plan | None:
    """What only a change of the spec, or of the settings, can help."""
    try:
        due.schedule(model, after=now)
    except errors.Stalled as wrong:
        return says(TRAINING, False, wrong.reason, wrong.message, stalled=True)
    if observed.unusable is not None:
        return says(TRAINING, False, observed.unusable.reason, observed.unusable.message, stalled=True)
    return None


def _next(model: Model, observed: Observed, trainings: Sequence[Training], *, now: datetime) -> Plan:
    asked = due.turn(model, observed, now=now)
    last = trainings[0] if trainings else None
    if asked is None or asked.at > now:
        told = _at_rest(model, observed, last, again=asked is not None)
        look = Plan(check_after=pooling.LOOK) if pooling.matters(model, observed) else Plan()
        return merge(told, look, Plan(check_after=asked.at - now if asked is not None else None))
    missing = sorted(name for name, uid in observed.integrations.items() if uid is None)
    if missing:
        message = f"there is no Integration {missing[0]} in this namespace: create it, or correct the spec"
        return merge(_idle("WaitingForIntegration", message), Plan(check_after=MISSING))
    runs = pooling.runs(model, observed)
    if isinstance(runs, Unknown):
        unknown = says(TRAINING, None, runs.reason, runs.message)
        return merge(unknown, Plan(check_after=RETRY))
    data = model.spec.data
    if runs is None or runs.rows < data.min_runs:
        message = (
            f"training needs {data.min_runs} runs of the last {format_duration(data.window)} that"
            " succeeded or failed; it begins when they are there"
        )
        if model.spec.pool is not None:
            message = f"{message}, or in the pool"
            return merge(_idle("WaitingForData", message), Plan(check_after=pooling.WAITS))
        return merge(_idle("WaitingForData", message), Plan(check_after=RETRY))
    if last is not None and due.is_nothing_new(model, observed, last):
        return _passed_over(model, last, now=now)
    assert observed.tenant is not None
    begin = act.BeginTraining(
        tenant=observed.tenant,
        model_uid=model.uid,
        attempt=last.attempt + 1 if last is not None else 1,
        recipe=objects.recipe(model),
        since=now - data.window,
        at=now,
        integrations=_uids(observed),
        compute=objects.compute(model),
        cause=asked.cause,
        pool=pooling.contributions(pooling.gives(model, observed)),
    )
    told = says(TRAINING, True, "Running", f"attempt {begin.attempt} is under way")
    return merge(chain(WORK, begin), _pruning(observed, trainings), told)


def _passed_over(model: Model, last: Training, *, now: datetime) -> Plan:
    """All turns until now: those that were missed while nobody was there, too."""
    over, following = due.scheduled_until(model, now), due.schedule(model, after=now)
    assert over is not None, "only a schedule asks for the same again"
    assert following is not None
    skip = act.SkipTraining(turn=over, attempt=last.attempt)
    return merge(chain(WORK, skip), _idle("NothingNew", str(skip)), Plan(check_after=following - now))


def _pruning(observed: Observed, trainings: Sequence[Training]) -> Plan:
    """Files of old attempts go when a new one begins, but for the active version's."""
    active = observed.pointer.artifact_uri if observed.pointer is not None else None
    old = [training for training in trainings[versions.KEPT :] if training.artifact_uri != active]
    needed = {training.window.uri for training in trainings if training not in old}
    urls = {objects.folder(training) for training in old} | {it.window.uri for it in old} - needed
    return chain(WORK, act.PruneTrainings(urls=tuple(sorted(urls)))) if urls else Plan()


def _uids(observed: Observed) -> tuple[str, ...] | None:
    return tuple(uid for uid in observed.integrations.values() if uid is not None) or None


def _at_rest(model: Model, observed: Observed, last: Training | None, *, again: bool) -> Plan:
    """Why nothing runs."""
    if isinstance(observed.spoiled, Unknown):
        return says(TRAINING, None, observed.spoiled.reason, observed.spoiled.message)
    if observed.spoiled is not None:
        then = "it is trained anew" if again else "restore the file, or change the spec to train anew"
        return _idle("ArtifactMismatch", f"a version that passed is not promoted: {observed.spoiled}; {then}")
    if last is None or last.outcome == "Passed":
        return _idle("Idle", "no training is due")
    if last.outcome == "GatesFailed":
        then = "the schedule tries again" if again else "change the gates, the data or the learner's settings"
        return _idle("GatesFailed", f"attempt {last.attempt}: {_sentence(last)}; {then}")
    then = "it is tried again" if again else "change the spec to try again"
    return _idle("TrainingFailed", f"attempt {last.attempt}: {_sentence(last)}; {then}")


def _idle(reason: str, message: str) -> Plan:
    return says(TRAINING, False, reason, message)


def _sentence(training: Training) -> str:
    """The part of a reason that is for people."""
    return training.reason.partition(": ")[2] or training.reason


# --- the teardown -------------------------------------------------------------------------------------


def plan_teardown(model: Model, observed: Observed, *, now: datetime) -> Plan:
    """Take the Model away: its job, its place at the gateway, its files; empty when nothing is left to do.

    In a namespace that is no tenant's any more (Retain) the files stay, as all of the tenant's data does.
    """
    withdraw = () if observed.pointer is None else (act.WithdrawModel(model_uid=model.uid),)
    if observed.has_lent and observed.running is None:  # others' data stays with nobody
        gone: Plan = chain(WORK, act.ReturnWindows(model_uid=model.uid))
        return merge(_teardown(model, observed, withdraw, now=now), gone)
    return _teardown(model, observed, withdraw, now=now)


def _teardown(
    model: Model, observed: Observed, withdraw: tuple[act.WithdrawModel, ...], *, now: datetime
) -> Plan:
    tenant = observed.tenant
    if tenant is None:
        return chain(WORK, *withdraw)
    delete = (act.DeleteArtifacts(tenant_id=tenant.id, model_uid=model.uid),) if observed.has_files else ()
    if isinstance(observed.trainings, Unknown):
        if tenant.state == runner_facts.DELETING:
            # the journal goes with the tenant's database, and may be gone already: nobody waits for it
            return chain(WORK, *withdraw, *delete)
        why = says(TRAINING, None, observed.trainings.reason, observed.trainings.message)
        return merge(chain(WORK, *withdraw), why, Plan(check_after=RETRY))
    last = observed.trainings[0] if observed.trainings and observed.trainings[0].running else None
    if last is not None:
        return merge(chain(WORK, *withdraw), _ended(model, tenant, last, observed, now=now))
    return chain(WORK, *withdraw, *delete)


def _ended(model: Model, tenant: TenantRef, last: Training, observed: Observed, *, now: datetime) -> Plan:
    """A job that still runs would write files that nobody deletes: it is stopped, and waited for."""
    job, over = observed.job, now >= last.started_at + model.spec.training.deadline
    reason = "ModelDeleted: the model was deleted meanwhile"
    if isinstance(job, Unknown):
        if over:  # a cluster that never comes back keeps no Model from going; no other attempt follows
            return chain(WORK, running.fail(tenant, last, reason, now=now))
        return merge(says(TRAINING, None, job.reason, job.message), Plan(check_after=RETRY))
    told = says(TRAINING, True, "Deleting", "waits until the job has ended")
    return running.stopped(model, tenant, last, job=job, told=told, reason=reason, now=now)
