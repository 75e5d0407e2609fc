"""What the API server answered to a write stands for the next read of that object.

A look that follows a write at once finds what was just stored: the answer says what that is, with the
server's defaults in it. So the look after a new tenant's objects were made asks for few of them again.

An answer serves once and not for long. It never serves for what is watched: a change that a watch told of
would be looked for in an answer that is older than it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from pipewright.plan import Manifest, Ref
from pipewright.ports import Cluster

LIVE_S = 5.0
"""So old at most, in seconds, is an answer that stands for a read."""


class Answers:
    """`pipewright.ports.Cluster`: another one, and the answers to what was applied and created through it."""

    def __init__(
        self, cluster: Cluster, *, watched: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`watched` are the kinds that are always read."""
        self._cluster, self._watched, self._clock = cluster, frozenset(watched), clock
        self._answers: dict[Ref, tuple[float, Manifest]] = {}
        """By age: when each was answered, and the object."""

    async def get(self, ref: Ref) -> Manifest | None:
        """The object as the API server had it a moment ago, or has it now."""
        answer = self._take(ref)
        return await self._cluster.get(ref) if answer is None else answer

    async def get_all(self, refs: Collection[Ref]) -> Mapping[Ref, Manifest | None]:
        """Each of these objects as `get` has it."""
        known = {ref: answer for ref in refs if (answer := self._take(ref)) is not None}
        others = [ref for ref in refs if ref not in known]
        return {**(await self._cluster.get_all(others) if others else {}), **known}

    async def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Sequence[Manifest]:
        """All objects of a kind, as the API server has them now."""
        return await self._cluster.list(
            api_version=api_version, kind=kind, namespace=namespace, labels=labels
        )

    async def apply(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Apply, and remember the answer."""
        self._answers.pop(Ref.of(manifest), None)
        answer = await self._cluster.apply(manifest, subresource=subresource)
        self._remember(Ref.of(manifest), answer)
        return answer

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create, and remember the answer."""
        self._answers.pop(Ref.of(manifest), None)
        answer = await self._cluster.create(manifest)
        if answer is not None:
            self._remember(Ref.of(manifest), answer)
        return answer

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object."""
        self._answers.pop(ref, None)
        await self._cluster.delete(ref, uid=uid)

    async def remove_metadata(
        self, ref: Ref, *, uid: str, labels: Sequence[str], annotations: Sequence[str]
    ) -> None:
        """Remove labels and annotations."""
        self._answers.pop(ref, None)
        await self._cluster.remove_metadata(ref, uid=uid, labels=labels, annotations=annotations)

    async def set_finalizers(self, ref: Ref, *, finalizers: Sequence[str], resource_version: str) -> None:
        """Replace the finalizers."""
        self._answers.pop(ref, None)
        await self._cluster.set_finalizers(ref, finalizers=finalizers, resource_version=resource_version)

    def _take(self, ref: Ref) -> Manifest | None:
        answered, manifest = self._answers.pop(ref, (0.0, None))
        return manifest if manifest is not None and self._clock() - answered <= LIVE_S else None

    def _remember(self, ref: Ref, answer: Manifest) -> None:
        now = self._clock()
        while self._answers and now - next(iter(self._answers.values()))[0] > LIVE_S:
            del self._answers[next(iter(self._answers))]
        if ref.kind not in self._watched:
            self._answers[ref] = now, answer
