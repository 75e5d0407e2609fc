"""The doorman: lets events in and names the Workflow; decides nothing."""

from __future__ import annotations

import kopf

from pipewright.api.v1alpha1 import Workflow
from pipewright.runtime import watch
from pipewright.runtime.queue import WorkQueue


def register(registry: kopf.OperatorRegistry, *, queue: WorkQueue) -> None:
    """Watch Workflows. An Integration that appears is found by looking again."""
    watch.watch(registry, queue, Workflow)
