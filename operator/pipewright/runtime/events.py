"""Kubernetes Events: what has happened to an object, for `kubectl describe` and `kubectl events`.

One Event per object, reason and note in ten minutes, named by their hash: a failure that repeats at every
retry, or a restart of this process, adds no second one. An Event that cannot be written is only logged.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Literal

from pipewright import errors
from pipewright.api.meta import Resource
from pipewright.ports import Clock, Cluster
from pipewright.runtime import logs
from pipewright.runtime.metrics import Metrics

log = logs.get(__name__)

WINDOW = timedelta(minutes=10)
REMEMBERED = 10_000
"""So many Events are remembered at most; the oldest are forgotten first, and may then repeat."""

NOTE_LENGTH = 1000
"""The API allows 1024 bytes; ours are cut before."""


Severity = Literal["Normal", "Warning"]


class Events:
    """Writes Events on our objects under one reporting component."""

    def __init__(
        self, cluster: Cluster, *, component: str, instance: str, clock: Clock, metrics: Metrics
    ) -> None:
        """`component` is the part of the operator that speaks, `instance` the replica."""
        self._cluster, self._clock, self._metrics = cluster, clock, metrics
        self._component, self._instance = f"pipewright.dev/{component}", instance
        self._told: dict[str, float] = {}

    async def normal(self, regarding: Resource, *, reason: str, note: str, action: str) -> None:
        """Something was done."""
        await self._post(regarding, severity="Normal", reason=reason, note=note, action=action)

    async def warning(self, regarding: Resource, *, reason: str, note: str, action: str) -> None:
        """Something did not work."""
        await self._post(regarding, severity="Warning", reason=reason, note=note, action=action)

    async def _post(
        self,
        regarding: Resource,
        *,
        severity: Literal["Normal", "Warning"],
        reason: str,
        note: str,
        action: str,
    ) -> None:
        now = self._clock.now()
        window = int(now.timestamp() // WINDOW.total_seconds())
        told = "\0".join((regarding.uid, severity, reason, note))
        if self._was_told(told, now.timestamp()):
            self._metrics.events.labels("repeated").inc()
            return
        digest = hashlib.sha256(f"{told}\0{window}".encode()).hexdigest()[:16]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            # Events of cluster-scoped objects live in the namespace "default"
            "metadata": {
                "name": f"{regarding.name[:200]}.{digest}",
                "namespace": regarding.namespace or "default",
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._component,
            "reportingInstance": self._instance[:128],
            "regarding": _reference(regarding),
            "type": severity,
            "reason": reason[:128],
            "action": action[:128],
            "note": note.encode()[:NOTE_LENGTH].decode(errors="ignore"),
        }
        await self._write(event)

    def _was_told(self, told: str, now: float) -> bool:
        last = self._told.pop(told, None)
        if last is not None and now - last < WINDOW.total_seconds():
            self._told[told] = last
            return True
        self._told[told] = now
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        return False

    async def _write(self, event: dict[str, Any]) -> None:
        try:
            created = await self._cluster.create(event)
        except (errors.Waiting, errors.Stalled, errors.BackendError) as error:
            # the namespace may be going away, or the API server be busy: an Event is not worth a retry
            self._metrics.events.labels("failed").inc()
            log.warning("event not written", reason=event["reason"], cause=errors.explain(error)[1])
        else:
            self._metrics.events.labels("written" if created else "repeated").inc()


def _reference(resource: Resource) -> dict[str, str]:
    reference = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": resource.name,
        "namespace": resource.namespace,
        "uid": resource.uid,
        "resourceVersion": resource.metadata.resource_version,
    }
    return {name: value for name, value in reference.items() if value}
