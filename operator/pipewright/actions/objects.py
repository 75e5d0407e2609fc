"""Effects on Kubernetes objects, for every controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectDrift:
    """Server-side apply of an object in which somebody else changed fields of ours; tells who did."""

    manifest: Manifest = field(hash=False)
    changes: tuple[str, ...]
    """Each a field's name and who changed it, never a value."""

    event: ClassVar[str] = "DriftCorrected"

    def __str__(self) -> str:
        return f"{Ref.of(self.manifest)}: {', '.join(self.changes)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMetadata:
    """Remove labels and annotations of one object, if it still is the one with this UID."""

    ref: Ref
    uid: str
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"remove {', '.join((*self.labels, *self.annotations))} from {self.ref}"


ObjectAction = ApplyObject | CreateObject | DeleteObject
PlaceAction = CorrectDrift | RemoveMetadata
"""What only the provisioner does."""
