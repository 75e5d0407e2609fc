"""A Workflow from wish to fact. Look, think, do, say: each once, in that order.

Killed anywhere in here, the next pass ends in the same state: it believes the world, not its notes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from controllers.workflow import objects, plan
from controllers.workflow.observe import observe
from pipewright import conditions, runner_facts
from pipewright.api.v1alpha1.workflow import Workflow, WorkflowStatus
from pipewright.apply import apply, runner
from pipewright.outcome import Outcome
from pipewright.plan import Results

if TYPE_CHECKING:
    from pipewright.ports import Clock, RunnerPorts


async def reconcile(
    workflow: Workflow, *, ports: RunnerPorts, clock: Clock, gateway_url: str
) -> Outcome[WorkflowStatus]:
    """One pass. `gateway_url` is the gateway's address as providers reach it.

    Raises:
        Waiting: the namespace has no active tenant.
        Unreachable: the API server or the platform database did not answer; nothing was done.
    """
    observed = await observe(workflow, ports=ports)
    if not workflow.deleting:
        runner_facts.require_active(observed.tenant, namespace=workflow.namespace)
    think = plan.plan_teardown if workflow.deleting else plan.plan_workflow
    wanted = think(workflow, observed)
    results = await apply(wanted, partial(runner.perform, ports=ports, gateway_url=gateway_url))
    return Outcome(
        status=status(workflow, observed, wanted, results, clock=clock),
        results=results,
        next_look=wanted.check_after,
        finished=workflow.deleting and wanted.is_empty,
    )


def status(
    workflow: Workflow, observed: plan.Observed, wanted: plan.Plan, results: Results, *, clock: Clock
) -> WorkflowStatus:
    """What we tell others: a projection of what was seen and what came of the plan."""
    current = objects.revision_name(workflow)
    kept = {found["metadata"]["name"] for found in observed.revisions}
    return WorkflowStatus(
        observed_generation=workflow.generation,
        conditions=conditions.project(
            workflow.status.conditions,
            types=plan.CONDITIONS,
            plan=wanted,
            results=results,
            generation=workflow.generation,
            now=clock.now(),
        ),
        revision=current if current in kept else None,
    )
