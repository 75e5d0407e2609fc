"""A Model from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from controllers.model import due, plan, tracking
from controllers.model.observe import observe
from controllers.model.observed import Observed
from controllers.model.status import Kept, status
from pipewright import runner_facts
from pipewright.api.v1alpha1.model import Model, ModelStatus
from pipewright.apply import apply, trainings
from pipewright.apply.tracking import record
from pipewright.outcome import Outcome
from pipewright.tracking_facts import Recorded

if TYPE_CHECKING:
    from pipewright.ports import Clock
    from pipewright.ports.training import Tracking, TrainingPorts

TRY_AGAIN = timedelta(minutes=1)
"""When to look again at a registry that did not take what it was told."""


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
    kept = await _record(model, observed, wanted, ports.tracking)
    return Outcome(
        status=status(model, observed, wanted, results, kept=kept, now=clock.now()),
        results=results,
        next_look=_sooner(wanted.check_after, TRY_AGAIN if kept.recorded.trouble is not None else None),
        finished=model.deleting and wanted.is_empty and not wanted.facts,
    )


async def _record(model: Model, observed: Observed, wanted: plan.Plan, port: Tracking | None) -> Kept:
    """Beside the plan, when nothing is to be done and no job runs: no training waits for a registry."""
    if port is None or model.deleting:
        return Kept()
    due_now = tracking.due(model, observed)
    recorded = None
    if wanted.is_empty and observed.running is None and not due_now.is_nothing:
        recorded = await record(due_now, port=port)
    return Kept(facts=(tracking.fact(model, due_now, recorded),), recorded=recorded or Recorded())


def _sooner(*looks: timedelta | None) -> timedelta | None:
    return min((look for look in looks if look is not None), default=None)
