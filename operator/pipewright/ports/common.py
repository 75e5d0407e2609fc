"""The ports that every process has: the cluster, the clock, and the wrapper around secret values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from pipewright.facts import Issued
from pipewright.plan import Manifest, Ref


class Secret:
    """A secret value that cannot be printed by accident. `reveal` is the one way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: only for the call that hands it to the server it belongs to."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is never pickled")


class Clock(Protocol):
    """The time of day, so that plans can be tested at any time."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(UTC)


class Cluster(Protocol):
    """The Kubernetes API, as this process's identity."""

    async def get(self, ref: Ref) -> Manifest | None:
        """The object as the API server has it now."""
        ...

    async def get_all(self, refs: Collection[Ref]) -> Mapping[Ref, Manifest | None]:
        """Each of these objects as `get` has it, in as few requests as that takes."""
        ...

    async def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Sequence[Manifest]:
        """All objects of a kind (in a namespace, with these labels), read in pages."""
        ...

    async def apply(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """Server-side apply under our field manager, forced: we own what we name.

        Raises:
            Conflict: the manifest names a UID or resourceVersion, and the object has another by now.
        """
        ...

    async def delete(self, ref: Ref, *, uid: str) -> None:
        """Delete the object if it still has this UID; done already counts as done."""
        ...

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create the object, and return it; None when one of that name is there: it is left alone."""
        ...

    async def remove_metadata(
        self, ref: Ref, *, uid: str, labels: Sequence[str], annotations: Sequence[str]
    ) -> None:
        """Remove labels and annotations, whoever set them; gone already counts as done.

        Raises:
            Conflict: another object has the name now.
        """
        ...

    async def set_finalizers(self, ref: Ref, *, finalizers: Sequence[str], resource_version: str) -> None:
        """Replace the object's finalizers, if it is still at this version.

        Raises:
            Conflict: the object changed meanwhile.
        """
        ...


class SecretStore(Protocol):
    """Versioned secrets on paths below `<tenant id>/`: Vault's key-value store, or Kubernetes Secrets."""

    async def version(self, path: str) -> int | None:
        """The current version of a secret, from its metadata; None when there is none."""
        ...

    async def issued(self, path: str) -> Issued | None:
        """The current version and when it was written, from the metadata; None when there is none."""
        ...

    async def read(self, path: str, *, version: int | None = None) -> Mapping[str, Secret] | None:
        """The fields of the current version, or of an older one if it is still kept."""
        ...

    async def create(self, path: str, fields: Mapping[str, Secret], *, owner: str) -> int | None:
        """Write by check-and-set if nothing is there, marked with the owner's UID.

        Returns:
            The version that it became; None: something is there.
        """
        ...

    async def replace(self, path: str, fields: Mapping[str, Secret], *, expected: int) -> bool:
        """Write a new version if the current one is still the expected one. False: it is not."""
        ...

    async def hand_over(self, tenant_id: str, *, owner: str, previous: Collection[str]) -> None:
        """Mark everything of the tenant that is marked with a previous owner's UID with this one.

        Raises:
            OwnedByOther: something is marked with a UID that is neither.
        """
        ...

    async def write(self, path: str, fields: Mapping[str, Secret]) -> None:
        """Write a new version, for paths whose content derives from another secret."""
        ...

    async def delete(self, path: str) -> None:
        """Delete every version of one secret; absent already counts as done."""
        ...

    async def purge(self, tenant_id: str, *, owner: str) -> None:
        """Delete every version of everything below the tenant's path.

        Raises:
            OwnedByOther: what lies there is marked with another UID.
        """
        ...


class Sealer(Protocol):
    """Encrypts to the gateway, which alone can open."""

    @property
    def key(self) -> str:
        """Fingerprint of the gateway's public key."""
        ...

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Sealed bytes, bound to `context`: opening needs the same context."""
        ...
