"""The doorman: lets events in and names the Integration; decides nothing."""

from __future__ import annotations

import kopf

from pipewright.api.v1alpha1 import Integration
from pipewright.runtime import watch
from pipewright.runtime.queue import WorkQueue


def register(registry: kopf.OperatorRegistry, *, queue: WorkQueue) -> None:
    """Watch Integrations. Their Secrets are not watched: they are read when the key is due."""
    watch.watch(registry, queue, Integration)
