"""The doorman: lets events in and names the Model; decides nothing."""

from __future__ import annotations

import kopf

from pipewright.api.v1alpha1 import Model
from pipewright.runtime import watch
from pipewright.runtime.queue import WorkQueue


def register(registry: kopf.OperatorRegistry, *, queue: WorkQueue) -> None:
    """Watch Models. Jobs and data are not watched: they are read when the key is due."""
    watch.watch(registry, queue, Model)
