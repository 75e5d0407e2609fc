"""A WorkflowRun from intent to outcome. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass goes on from the journal: it believes the world, not its notes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from controllers.workflowrun import objects, plan
from controllers.workflowrun.observe import observe
from pipewright import errors
from pipewright.api.v1alpha1.workflowrun import WorkflowRun, WorkflowRunStatus
from pipewright.apply import runner, runs
from pipewright.outcome import Outcome
from pipewright.plan import Failure, Results, says

if TYPE_CHECKING:
    from pipewright.ports import Clock, RunnerPorts


async def reconcile(
    run: WorkflowRun, *, ports: RunnerPorts, clock: Clock, gateway_url: str
) -> Outcome[WorkflowRunStatus]:
    """One pass. A run that has ended is not looked at again: nothing can change it.

    A server that does not answer is a result here and no exception: `Succeeded` stays Unknown until the end.
    """
    if run.status.finished_at is not None:
        return Outcome(status=run.status, finished=run.deleting)
    try:
        observed = await observe(run, ports=ports)
    except (errors.Waiting, errors.Stalled, errors.BackendError) as trouble:
        return _not_seen(run, trouble, clock=clock)
    if run.deleting:
        wanted = plan.plan_teardown(run, observed)
    else:
        wanted = plan.advance(run, observed, now=clock.now())
    results = await runs.side_by_side(wanted, partial(runner.perform, ports=ports, gateway_url=gateway_url))
    return Outcome(
        status=status(run, observed, wanted, results, clock=clock),
        results=results,
        next_look=wanted.check_after,
        finished=run.deleting and wanted.is_empty,
    )


def status(
    run: WorkflowRun, observed: plan.Observed, wanted: plan.Plan, results: Results, *, clock: Clock
) -> WorkflowRunStatus:
    """What we tell others: the bounded view of the journal, as it was seen."""
    if run.deleting:
        return run.status
    journal, spec = observed.journal, observed.spec
    return WorkflowRunStatus(
        observed_generation=run.generation,
        conditions=objects.conditions(run, wanted.facts[0], results, now=clock.now()),
        started_at=journal.started_at if journal is not None else None,
        finished_at=journal.finished_at if journal is not None else None,
        steps=objects.steps(spec.steps, journal) if spec is not None else run.status.steps,
    )


def _not_seen(
    run: WorkflowRun, trouble: errors.Waiting | errors.Stalled | errors.BackendError, *, clock: Clock
) -> Outcome[WorkflowRunStatus]:
    results = Results(failures=(Failure(serves=objects.SUCCEEDED, action="look", error=trouble),))
    (fact,) = says(objects.SUCCEEDED, None, trouble.reason, trouble.message).facts
    told = objects.conditions(run, fact, results, now=clock.now())
    return Outcome(
        status=run.status.model_copy(update={"conditions": told, "observed_generation": run.generation}),
        results=results,
    )
