"""The doorman: lets events in and names the Tenant; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

import kopf

from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.runtime import watch
from pipewright.runtime.queue import Key, WorkQueue


def register(registry: kopf.OperatorRegistry, *, queue: WorkQueue) -> None:
    """Watch Tenants, and the namespaces that carry a Tenant's name."""

    def key_of(labels: Mapping[str, str]) -> Key:
        return Key(Tenant.kind, labels[names.TENANT_LABEL])

    watch.watch(registry, queue, Tenant)
    watch.watch_labelled(
        registry, queue, version="v1", plural="namespaces", label=names.TENANT_LABEL, key_of=key_of
    )
