"""What a Workflow needs done, from what was seen. Pure: the list of rules is the documentation.

Understand, find the Integrations, keep the revision, publish the triggers. A spec that is not understood, or
that names what is not there, starts no run: its triggers are withdrawn until it is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from controllers.workflow import objects
from pipewright import actions as act
from pipewright import expressions, plan
from pipewright.actions import RunnerAction
from pipewright.api.v1alpha1 import Workflow
from pipewright.api.v1alpha1.workflow import Step
from pipewright.expressions import ExpressionError, Template
from pipewright.plan import Manifest, Ref, chain, merge, says
from pipewright.runner_facts import TenantRef, Trigger

if TYPE_CHECKING:
    from connectors.manifest import Manifest as Connector

Plan = plan.Plan[RunnerAction]

UNDERSTOOD = "Understood"
INTEGRATIONS = "IntegrationsFound"
PUBLISHED = "Published"
CONDITIONS = (UNDERSTOOD, INTEGRATIONS, PUBLISHED)

KEEP = 10
"""So many revisions stay, besides those that unfinished runs are pinned to."""
LOOK_FOR_INTEGRATIONS = timedelta(seconds=10)
"""When to look again for an Integration that is not there: they are not watched from here."""
SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that was seen of a Workflow, at one look."""

    tenant: TenantRef | None = None
    triggers: tuple[Trigger, ...] = ()
    integrations: Mapping[str, str] = field(default_factory=dict)
    """Name → connector, of the Integrations that the spec names and that are there."""
    connectors: Mapping[str, Connector] = field(default_factory=dict)
    revisions: Sequence[Manifest] = ()
    pinned: frozenset[str] = frozenset()
    """Revisions of runs that have not ended; looked at only when there are too many revisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the spec that cannot be: the reason in one word, and where it is."""

    reason: str
    message: str


def plan_workflow(workflow: Workflow, observed: Observed) -> Plan:
    """What is missing or different. Empty when nothing is."""
    found = [*problems_of_expressions(workflow), *problems_of_actions(workflow, observed)]
    if found:
        return merge(_not_understood(found), _withdraw(workflow, observed))
    missing = [name for name in objects.integrations(workflow) if name not in observed.integrations]
    understood = says(UNDERSTOOD, True, UNDERSTOOD, "every expression compiles, every action is known")
    if missing:
        message = f"there is no Integration {', '.join(missing)} in this namespace: create it"
        waits = says(INTEGRATIONS, False, "WaitingForIntegration", message)
        looks = Plan(check_after=LOOK_FOR_INTEGRATIONS)
        return merge(understood, waits, looks, _withdraw(workflow, observed))
    named = says(INTEGRATIONS, True, INTEGRATIONS, "every Integration that the spec names is there")
    return merge(understood, named, _publish(workflow, observed), _prune(workflow, observed))


def _not_understood(found: Sequence[Problem]) -> Plan:
    told = "; ".join(problem.message for problem in found[:SHOWN_PROBLEMS])
    more = f"; and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    later = "comes when the spec is understood"
    return merge(
        says(UNDERSTOOD, False, found[0].reason, told + more, stalled=True),
        says(INTEGRATIONS, None, "NotYetChecked", later),
    )


# --- understanding ------------------------------------------------------------------------------------


def problems_of_expressions(workflow: Workflow) -> Iterator[Problem]:
    """Every expression that does not compile, with its step and position, in the order of the spec."""
    for position, trigger in enumerate(workflow.spec.triggers):
        if trigger.if_ is not None:
            try:
                expressions.conditions(trigger.event).condition(trigger.if_)
            except ExpressionError as error:
                yield _problem(f"triggers[{position}].if", error)
    for position, step in enumerate(workflow.spec.steps):
        for where, wrong in _problems_of_step(workflow, step):
            yield _problem(f"steps[{position}] ({step.name}) {where}", wrong)


def _problems_of_step(workflow: Workflow, step: Step) -> Iterator[tuple[str, ExpressionError]]:
    # a step must make sense for every type of event that may start it; one complaint for each place suffices
    types = tuple(dict.fromkeys(trigger.event for trigger in workflow.spec.triggers))
    told: set[str] = set()
    for event_type in types:
        environment = expressions.steps(event_type)
        for where, wrong in _compile_step(step, environment):
            if where not in told:
                told.add(where)
                yield where, wrong
    for name, source in sorted(step.outputs.items()):
        try:
            expressions.outputs().expression(source)
        except ExpressionError as error:
            yield f"outputs.{name}", error


def _compile_step(step: Step, environment: expressions.Environment) -> Iterator[tuple[str, ExpressionError]]:
    if step.if_ is not None:
        try:
            environment.condition(step.if_)
        except ExpressionError as error:
            yield "if", error
    for name, text in sorted(step.with_.items()):
        try:
            Template(text, environment)
        except ExpressionError as error:
            yield f"with.{name}", error


def _problem(where: str, error: ExpressionError) -> Problem:
    position = f"line {error.line}, column {error.column}"
    return Problem(reason="InvalidExpression", message=f"{where}: {position}: {error.message}")


def problems_of_actions(workflow: Workflow, observed: Observed) -> Iterator[Problem]:
    """Every step whose action its connector does not have, or does not have like this.

    Steps on Integrations that are not there, or whose connector is unknown, cannot be judged.
    """
    for position, step in enumerate(workflow.spec.steps):
        integration, _, action = step.uses.partition("/")
        connector = observed.connectors.get(observed.integrations.get(integration, ""))
        if connector is None:
            continue
        where = f"steps[{position}] ({step.name})"
        if action not in connector.actions:
            known = ", ".join(sorted(connector.actions)) or "none"
            message = f"{where} uses: the connector {connector.name} has no action {action}; it has {known}"
            yield Problem(reason="UnknownAction", message=message)
            continue
        for wrong in connector.actions[action].problems(step.with_):
            yield Problem(reason="InvalidInput", message=f"{where} with: {wrong}")


# --- revisions and triggers ---------------------------------------------------------------------------


def _publish(workflow: Workflow, observed: Observed) -> Plan:
    kept = {found["metadata"]["name"] for found in observed.revisions}
    keep = act.CreateObject(manifest=objects.revision(workflow))
    needed = () if objects.revision_name(workflow) in kept else (keep,)
    if workflow.spec.suspended:
        note = says(PUBLISHED, True, "Suspended", "spec.suspended is true: no event starts a run")
        return merge(chain(PUBLISHED, *needed, *_withdrawal(workflow, observed)), note)
    wanted = wanted_triggers(workflow, observed.tenant)
    publish = act.PublishTriggers(workflow_uid=workflow.uid, triggers=wanted)
    return merge(
        chain(PUBLISHED, *needed, *(() if observed.triggers == wanted else (publish,))),
        says(PUBLISHED, True, PUBLISHED, "events start runs"),
    )


def wanted_triggers(workflow: Workflow, tenant: TenantRef | None) -> tuple[Trigger, ...]:
    """The triggers as they ought to be, at the present revision."""
    assert tenant is not None, "the reconcile waits until there is an active tenant"
    return tuple(
        Trigger(
            position=position,
            tenant_id=tenant.id,
            namespace=workflow.namespace,
            workflow=workflow.name,
            revision=objects.revision_name(workflow),
            event=trigger.event,
            integration=trigger.integration,
            condition=trigger.if_ or "",
        )
        for position, trigger in enumerate(workflow.spec.triggers)
    )


def _withdrawal(workflow: Workflow, observed: Observed) -> tuple[RunnerAction, ...]:
    return (act.WithdrawTriggers(workflow_uid=workflow.uid),) if observed.triggers else ()


def _withdraw(workflow: Workflow, observed: Observed) -> Plan:
    message = "no event starts a run until then"
    return merge(
        chain(PUBLISHED, *_withdrawal(workflow, observed)),
        says(PUBLISHED, None, "NotYetPublished", message),
    )


def _prune(workflow: Workflow, observed: Observed) -> Plan:
    """Throw away the oldest revisions beyond the limit that no unfinished run needs."""
    current = objects.revision_name(workflow)
    newest = sorted(
        observed.revisions, key=lambda found: (-int(found["revision"]), found["metadata"]["name"])
    )
    old = [
        act.DeleteObject(ref=Ref.of(found), uid=found["metadata"]["uid"])
        for found in newest[KEEP:]
        if found["metadata"]["name"] not in observed.pinned | {current}
    ]
    return chain(PUBLISHED, *old)


# --- the teardown -------------------------------------------------------------------------------------


def plan_teardown(workflow: Workflow, observed: Observed) -> Plan:
    """Withdraw the triggers; the revisions go with the Workflow, by their ownerReferences."""
    return chain(PUBLISHED, *_withdrawal(workflow, observed))
