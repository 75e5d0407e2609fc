"""Effects on Kubernetes objects, for every controller."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipewright.plan import Manifest, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyObject:
    """Server-side apply of one Kubernetes object under our field manager."""

    manifest: Manifest = field(hash=False)

    def __str__(self) -> str:
        return f"apply {Ref.of(self.manifest)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateObject:
    """Create one Kubernetes object; one of that name that appeared meanwhile is left alone."""

    manifest: Manifest = field(hash=False)

    def __str__(self) -> str:
        return f"create {Ref.of(self.manifest)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    """Delete one Kubernetes object, if it still is the one with this UID."""

    ref: Ref
    uid: str

    def __str__(self) -> str:
        return f"delete {self.ref}"


ObjectAction = ApplyObject | CreateObject | DeleteObject
