"""The doorman: lets events in and names the WorkflowRun; decides nothing."""

from __future__ import annotations

import kopf

from pipewright.api.v1alpha1 import WorkflowRun
from pipewright.runtime import watch
from pipewright.runtime.queue import WorkQueue


def register(registry: kopf.OperatorRegistry, *, queue: WorkQueue) -> None:
    """Watch WorkflowRuns."""
    watch.watch(registry, queue, WorkflowRun)
