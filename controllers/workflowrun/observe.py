"""Look once at all that decides how a run goes on. The journal is the truth; absent is a value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from controllers.workflowrun import objects
from controllers.workflowrun.plan import Observed
from pipewright import runner_facts
from pipewright.api.v1alpha1 import Workflow, WorkflowRun
from pipewright.api.v1alpha1.workflow import WorkflowSpec
from pipewright.plan import Manifest
from pipewright.runner_facts import Decision, TenantRef

if TYPE_CHECKING:
    from pipewright.ports import RunnerPorts


async def observe(run: WorkflowRun, *, ports: RunnerPorts) -> Observed:
    """Read every port that the plan needs. All of them must answer: a run does nothing half-blind."""
    tenant = await ports.directory.find(namespace=run.namespace)
    if tenant is None or tenant.state not in (runner_facts.ACTIVE, runner_facts.SUSPENDED):
        # a tenant that is being deleted takes its database, and the journal, with it: nobody waits for them
        return Observed(tenant=tenant)
    journal = await ports.journal.read(tenant, run_uid=run.uid)
    if run.deleting:
        return Observed(tenant=tenant, journal=journal)
    kept = await ports.cluster.get(objects.revision_ref(run))
    spec = _pinned(run, kept)
    paused = tenant.state == runner_facts.SUSPENDED
    if spec is None or paused or (journal is not None and journal.finished_at is not None):
        return Observed(tenant=tenant, journal=journal, spec=spec, workflow_uid=_owner(kept))
    decision, idempotent, suspended = await asyncio.gather(
        _decision(run, tenant, ports),
        _idempotent(run, spec, ports),
        _suspended(run, ports) if journal is None else _false(),
    )
    return Observed(
        tenant=tenant,
        journal=journal,
        spec=spec,
        workflow_uid=_owner(kept),
        decision=decision,
        idempotent=idempotent,
        suspended=suspended,
    )


def _pinned(run: WorkflowRun, kept: Manifest | None) -> WorkflowSpec | None:
    """The spec of the revision, if it is one of this workflow's and can be read."""
    labels = (kept or {}).get("metadata", {}).get("labels") or {}
    if kept is None or labels.get(runner_facts.WORKFLOW_LABEL) != run.spec.workflow.name:
        return None
    try:
        return WorkflowSpec.model_validate(kept["data"]["spec"])
    except (ValidationError, KeyError, TypeError):
        return None


def _owner(kept: Manifest | None) -> str | None:
    owners = (kept or {}).get("metadata", {}).get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("kind") == Workflow.kind), None)


async def _decision(run: WorkflowRun, tenant: TenantRef, ports: RunnerPorts) -> Decision | None:
    return await ports.decisions.find(
        tenant,
        namespace=run.namespace,
        workflow=run.spec.workflow.name,
        revision=run.spec.workflow.revision,
        integration=run.spec.event.integration,
        delivery_id=run.spec.event.delivery_id,
    )


async def _idempotent(run: WorkflowRun, spec: WorkflowSpec, ports: RunnerPorts) -> Mapping[str, bool]:
    """`uses` → whether doing it twice is doing it once, of the actions that can be judged now."""
    names = sorted({step.uses.partition("/")[0] for step in spec.steps})
    found = await asyncio.gather(*(ports.cluster.get(objects.integration_ref(run, name)) for name in names))
    judged: dict[str, bool] = {}
    for name, manifest in zip(names, found, strict=True):
        connector = ports.actions.connectors.get(manifest["spec"]["connector"]) if manifest else None
        if connector is not None:
            judged |= {f"{name}/{action.name}": action.idempotent for action in connector.actions.values()}
    return judged


async def _suspended(run: WorkflowRun, ports: RunnerPorts) -> bool:
    found = await ports.cluster.get(objects.workflow_ref(run))
    return found is not None and bool(found["spec"].get("suspended", False))


async def _false() -> bool:
    return False
