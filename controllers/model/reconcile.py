"""A Model from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from controllers.model import due, objects, plan, versions
from controllers.model.observe import observe
from controllers.model.observed import Observed, Unknown
from pipewright import conditions, errors, runner_facts
from pipewright.actions.model import SkipTraining
from pipewright.api.meta import Condition
from pipewright.api.v1alpha1.model import Model, ModelStatus, SkippedTraining
from pipewright.apply import apply, trainings
from pipewright.outcome import Outcome
from pipewright.plan import Fact, Results
from pipewright.training_facts import Training

if TYPE_CHECKING:
    from pipewright.ports import Clock
    from pipewright.ports.training import TrainingPorts

_ALL = "All"
"""The summary over all conditions, which a Model has no use for: Ready is about the active version alone."""


async def reconcile(model: Model, *, ports: TrainingPorts, clock: Clock) -> Outcome[ModelStatus]:
    """One pass.

    Raises:
        Waiting: the namespace has no active tenant.
        Unreachable: the API server or the platform database did not answer; nothing was done.
    """
    now = clock.now()
    observed = await observe(model, ports=ports, now=now)
    if ports.turns is not None:
        ports.turns.saw(model.uid, due=due.overdue(model, observed, now=now))
    if not model.deleting:
        runner_facts.require_active(observed.tenant, namespace=model.namespace, or_suspended=True)
    think = plan.plan_teardown if model.deleting else plan.plan_model
    wanted = think(model, observed, now=now)
    results = await apply(wanted, partial(trainings.perform, ports=ports))
    return Outcome(
        status=status(model, observed, wanted, results, clock=clock),
        results=results,
        next_look=wanted.check_after,
        finished=model.deleting and wanted.is_empty and not wanted.facts,
    )


def status(
    model: Model, observed: Observed, wanted: plan.Plan, results: Results, *, clock: Clock
) -> ModelStatus:
    """What we tell others: a projection of what was seen and what came of the plan."""
    told = _conditions(model, wanted, results, now=clock.now())
    active = objects.active(observed.pointer) if observed.pointer is not None else None
    if observed.tenant is None or isinstance(observed.trainings, Unknown):
        # what the journal told us last time stays
        update = {"observed_generation": model.generation, "conditions": told, "active": active}
        return model.status.model_copy(update=update)
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
        trainings=tuple(map(objects.past, observed.trainings[: versions.KEPT])),
        last_skipped=_skipped(model, wanted),
        next_training_at=_next_training(model, wanted, last, now=clock.now()),
    )


def _conditions(model: Model, wanted: plan.Plan, results: Results, *, now: datetime) -> tuple[Condition, ...]:
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
