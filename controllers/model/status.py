"""What the status says of a Model: a projection of what was seen and what came of the plan. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from controllers.model import due, objects, plan, pooling, tracking, versions
from controllers.model.observed import Observed, Unknown
from pipewright import conditions, errors
from pipewright.actions.model import SkipTraining
from pipewright.api.meta import Condition
from pipewright.api.v1alpha1.model import Model, ModelStatus, PooledData, SkippedTraining
from pipewright.plan import Fact, Results
from pipewright.tracking_facts import Recorded
from pipewright.training_facts import Pointer, Training

_ALL = "All"
"""The summary over all conditions, which a Model has no use for: Ready is about the active version alone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is recorded elsewhere; nothing of it where no registry is in the settings."""

    facts: tuple[Fact, ...] = ()
    recorded: Recorded = dataclasses.field(default_factory=Recorded)


def status(
    model: Model,
    observed: Observed,
    wanted: plan.Plan,
    results: Results,
    *,
    kept: Kept,
    now: datetime,
) -> ModelStatus:
    """What we tell others: a projection of what was seen and what came of the plan."""
    in_pool = None if model.deleting else pooling.fact(model, observed)
    beside = kept.facts if in_pool is None else (*kept.facts, in_pool)
    told = _conditions(model, wanted, results, beside=beside, now=now)
    pointer = observed.pointer
    active = None
    if pointer is not None:
        active = objects.active(
            pointer,
            registered=tracking.registered(model, pointer, kept.recorded),
            pooled=_pooled(model, observed, pointer),
        )
    if observed.tenant is None or isinstance(observed.trainings, Unknown):
        # what the journal told us last time stays
        update = {"observed_generation": model.generation, "conditions": told, "active": active}
        return model.status.model_copy(update=update)
    runs = tracking.runs(model, kept.recorded)
    last = observed.trainings[0] if observed.trainings else None
    reported = next((it for it in observed.trainings if it.report is not None and it.report.rows), None)
    candidate = versions.candidate(observed)
    return ModelStatus(
        observed_generation=model.generation,
        conditions=told,
        active=active,
        candidate=objects.version(candidate) if candidate is not None else None,
        baselines=objects.baselines(reported) if reported is not None else None,
        dataset=objects.dataset(reported) if reported is not None else None,
        last_training=objects.last_training(last) if last is not None else None,
        trainings=tuple(
            objects.past(each, mlflow_run=runs.get(each.attempt))
            for each in observed.trainings[: versions.KEPT]
        ),
        last_skipped=_skipped(model, wanted),
        next_training_at=_next_training(model, wanted, last, now=now),
    )


def _pooled(model: Model, observed: Observed, pointer: Pointer) -> PooledData | None:
    """As the training said that made it; once it has left the journal, as the status does."""
    trainings = observed.trainings
    made = None if isinstance(trainings, Unknown) else pooling.made(pointer, trainings)
    if made is not None:
        return objects.pooled(made.report)
    before = model.status.active
    return before.pooled if before is not None and before.artifact.uri == pointer.artifact_uri else None


def _conditions(
    model: Model, wanted: plan.Plan, results: Results, *, beside: Sequence[Fact], now: datetime
) -> tuple[Condition, ...]:
    if results.failures:
        # a version that predicts goes on doing so; without one, what stands in the way is the news
        reason, message = errors.explain(results.failures[0].error)
        news = Fact(type=plan.READY, status=False, reason=reason, message=message)
        facts = (news if fact.type == plan.READY and not fact.status else fact for fact in wanted.facts)
        wanted = dataclasses.replace(wanted, facts=tuple(facts))
    told = conditions.project(
        model.status.conditions,
        types=plan.CONDITIONS,
        plan=wanted,
        results=results,
        generation=model.generation,
        now=now,
        summary=_ALL,
        beside=beside,
    )
    return tuple(condition for condition in told if condition.type != _ALL)


def _skipped(model: Model, wanted: plan.Plan) -> SkippedTraining | None:
    """The turn that is passed over now, or the last one that was: it must be remembered."""
    for action in wanted:
        if isinstance(action, SkipTraining):
            return SkippedTraining(turn=action.turn, reason=str(action))
    return model.status.last_skipped


def _next_training(
    model: Model, wanted: plan.Plan, last: Training | None, *, now: datetime
) -> datetime | None:
    skipped = _skipped(model, wanted)
    known = [last.started_at if last is not None else None, skipped.turn if skipped is not None else None]
    try:
        return due.schedule(model, after=max((at for at in known if at is not None), default=now))
    except errors.Stalled:  # a condition says it
        return None
