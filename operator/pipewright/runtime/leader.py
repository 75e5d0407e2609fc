"""One process at a time: a Lease of coordination.k8s.io/v1, held while it is renewed.

A Lease is a hint, not a fence: whatever writes to the outside carries its own guard. What it prevents is two
replicas that do the same work side by side. The identity survives a restart of the same replica, so a killed
process takes its Lease back at once instead of waiting for it to run out; `acquireTime` tells the two
incarnations apart, and the older one, should it still live, sees that it has lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from pipewright import errors
from pipewright.plan import Manifest, Ref
from pipewright.ports import Clock
from pipewright.runtime import logs
from pipewright.runtime.metrics import Metrics

log = logs.get(__name__)


class LeaseLost(Exception):
    """Somebody else holds the Lease, or it could not be renewed in time: this process must end."""


class Leases(Protocol):
    """What leader election needs of the API server."""

    async def get(self, ref: Ref) -> Manifest | None:
        """The Lease as it is now."""
        ...

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create it, and return it; None when it is there already."""
        ...

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace it if it still has the manifest's resourceVersion.

        Raises:
            Conflict: it changed meanwhile, or is gone.
        """
        ...


class Leader:
    """This process's candidacy for one Lease. Use: `acquire`, then `hold` beside the work, then `release`."""

    def __init__(
        self,
        leases: Leases,
        *,
        name: str,
        namespace: str,
        identity: str,
        clock: Clock,
        metrics: Metrics,
        duration: float = 15.0,
        renew_every: float = 5.0,
        retry_every: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args.

        duration: others may take the Lease so many seconds after its last renewal.
        renew_every, retry_every: seconds between renewals, and between looks at a Lease of somebody else.
        """
        self._leases, self._clock, self._metrics = leases, clock, metrics
        self._ref = Ref(api_version="coordination.k8s.io/v1", kind="Lease", name=name, namespace=namespace)
        self._identity = identity
        self._duration, self._renew_every, self._retry_every = duration, renew_every, retry_every
        self._monotonic, self._sleep = monotonic, sleep
        self._lease: Manifest | None = None
        self._renewed_at = 0.0
        self._acquire_time = ""
        self._seen: tuple[tuple[str, object, str] | None, float] = (None, 0.0)

    @property
    def held(self) -> bool:
        """Whether the Lease is ours and has not run out since its last renewal."""
        return self._lease is not None and self._monotonic() - self._renewed_at < self._duration

    # -- getting it --------------------------------------------------------------------------------------

    async def acquire(self) -> None:
        """Return once the Lease is ours. Trouble with the API server only means waiting longer."""
        told: str | None = None
        while not await self._try_acquire():
            holder = self._holder_in_words()
            if holder != told:
                log.info("standing by", lease=str(self._ref), holder=holder)
                told = holder
            await self._sleep(self._retry_every)
        self._metrics.leader.set(1)
        log.info("leading", lease=str(self._ref), identity=self._identity)

    def _holder_in_words(self) -> str:
        seen = self._seen[0]
        return seen[0] if seen else "not known"

    async def _try_acquire(self) -> bool:
        asked_at = self._monotonic()
        try:
            found = await self._leases.get(self._ref)
            if found is None:
                self._acquire_time = _micro_time(self._clock.now())
                await self._leases.create(self._wish(None))
                found = await self._leases.get(self._ref)
                if found is not None and self._is_ours(found):
                    return self._remember(found, asked_at)
            if found is None or not self._may_take(found):
                return False
            self._acquire_time = _micro_time(self._clock.now())
            return self._remember(await self._leases.replace(self._wish(found)), asked_at)
        except errors.Conflict:
            return False  # another candidate was quicker; the next look shows who
        except (errors.BackendError, errors.Waiting, errors.Stalled) as error:
            log.warning("lease not reached", lease=str(self._ref), cause=errors.explain(error)[1])
            return False

    def _may_take(self, found: Manifest) -> bool:
        """Whether it is ours, nobody's, or has not changed for its duration.

        The duration counts by our own clock from when we first saw this state: the holder's may differ.
        """
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        state = (holder, spec.get("renewTime"), found["metadata"]["resourceVersion"])
        if self._seen[0] != state:
            self._seen = (state, self._monotonic())
        return self._monotonic() - self._seen[1] >= float(spec.get("leaseDurationSeconds") or self._duration)

    # -- keeping it --------------------------------------------------------------------------------------

    async def hold(self) -> NoReturn:
        """Renew until the Lease is lost.

        Raises:
            LeaseLost: always, in the end; the caller ends the process.
        """
        pause = self._renew_every
        try:
            while True:
                await self._sleep(pause)
                pause = self._renew_every if await self._renew() else self._retry_every
        finally:
            self._metrics.leader.set(0)

    async def _renew(self) -> bool:
        asked_at = self._monotonic()
        left = self._renewed_at + self._duration - self._retry_every - asked_at
        if left <= 0:
            raise LeaseLost(f"{self._ref} was not renewed for {asked_at - self._renewed_at:.0f} s")
        try:
            async with asyncio.timeout(left):
                return self._remember(await self._renewed(), asked_at)
        except (errors.BackendError, errors.Waiting, errors.Stalled) as error:
            log.warning("lease not renewed", lease=str(self._ref), cause=errors.explain(error)[1])
        except TimeoutError:
            log.warning("lease not renewed", lease=str(self._ref), cause="the API server did not answer")
        return False

    async def _renewed(self) -> Manifest:
        assert self._lease is not None, "acquire comes first"
        try:
            return await self._leases.replace(self._wish(self._lease))
        except errors.Conflict:
            found = await self._leases.get(self._ref)
            if found is None or not self._is_ours(found):
                holder = ((found or {}).get("spec") or {}).get("holderIdentity")
                raise LeaseLost(f"{self._ref} is held by {holder or 'nobody'} now") from None
            # ours still: only its metadata was edited
            return await self._leases.replace(self._wish(found))

    async def release(self) -> None:
        """Give the Lease up, so that the next candidate need not wait. After a clean stop only."""
        if self._lease is None:
            return
        self._lease = None
        try:
            # read anew: a renewal that was cut off by the stop may have reached the server
            found = await self._leases.get(self._ref)
            if found is not None and self._is_ours(found):
                wish = self._wish(found)
                wish["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._leases.replace(wish)
        except (errors.BackendError, errors.Waiting, errors.Stalled) as error:
            log.warning("lease not released", lease=str(self._ref), cause=errors.explain(error)[1])

    # -- what is written ---------------------------------------------------------------------------------

    def _wish(self, found: Manifest | None) -> dict[str, Any]:
        before = (found or {}).get("spec") or {}
        changes_hands = bool(before) and before.get("acquireTime") != self._acquire_time
        return {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": {**((found or {}).get("metadata") or {}), **_named(self._ref)},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._duration)),
                "acquireTime": self._acquire_time,
                "renewTime": _micro_time(self._clock.now()),
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + changes_hands,
            },
        }

    def _is_ours(self, found: Manifest) -> bool:
        spec = found.get("spec") or {}
        return (spec.get("holderIdentity"), spec.get("acquireTime")) == (self._identity, self._acquire_time)

    def _remember(self, lease: Manifest, asked_at: float) -> bool:
        # counted from before the request: the server may have noted it at once and answered late
        self._lease, self._renewed_at = lease, asked_at
        return True


def _named(ref: Ref) -> dict[str, str | None]:
    return {"name": ref.name, "namespace": ref.namespace}


def _micro_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
