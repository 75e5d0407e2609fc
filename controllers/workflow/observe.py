"""Look once at what a Workflow names and what was kept and published of it. Absent is a value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from controllers.workflow import objects
from controllers.workflow.plan import KEEP, Observed
from pipewright.api.v1alpha1 import Workflow, WorkflowRun
from pipewright.plan import Manifest

if TYPE_CHECKING:
    from pipewright.ports import RunnerPorts


async def observe(workflow: Workflow, *, ports: RunnerPorts) -> Observed:
    """Read every port that the plan needs. Kubernetes and the platform database must answer."""
    tenant, triggers = await asyncio.gather(
        ports.directory.find(namespace=workflow.namespace),
        ports.triggers.find(workflow_uid=workflow.uid),
    )
    if workflow.deleting:
        return Observed(tenant=tenant, triggers=tuple(triggers))
    integrations, revisions = await asyncio.gather(
        _integrations(workflow, ports), _revisions(workflow, ports)
    )
    return Observed(
        tenant=tenant,
        triggers=tuple(triggers),
        integrations=integrations,
        connectors=ports.actions.connectors,
        revisions=revisions,
        pinned=await _pinned(workflow, ports) if len(revisions) > KEEP else frozenset(),
    )


async def _integrations(workflow: Workflow, ports: RunnerPorts) -> Mapping[str, str]:
    """Name → connector, of those that are there and not going."""
    names = objects.integrations(workflow)
    found = await asyncio.gather(
        *(ports.cluster.get(objects.integration_ref(workflow, name)) for name in names)
    )
    return {
        name: manifest["spec"]["connector"]
        for name, manifest in zip(names, found, strict=True)
        if manifest is not None and "deletionTimestamp" not in manifest["metadata"]
    }


async def _revisions(workflow: Workflow, ports: RunnerPorts) -> Sequence[Manifest]:
    found = await ports.cluster.list(
        api_version="apps/v1",
        kind="ControllerRevision",
        namespace=workflow.namespace,
        labels=objects.labels(workflow),
    )
    return tuple(manifest for manifest in found if objects.belongs_to(workflow, manifest))


async def _pinned(workflow: Workflow, ports: RunnerPorts) -> frozenset[str]:
    """The revisions of runs that have not ended; asked only when there is something to throw away."""
    found = await ports.cluster.list(
        api_version=WorkflowRun.api_version, kind=WorkflowRun.kind, namespace=workflow.namespace
    )
    return frozenset(
        manifest["spec"]["workflow"]["revision"]
        for manifest in found
        if not (manifest.get("status") or {}).get("finishedAt")
    )
