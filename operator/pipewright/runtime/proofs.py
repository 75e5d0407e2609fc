"""Turns of proofs of isolation in this process, and what the metrics tell of them.

Turns have a distance from each other, so that a thousand tenants made at once are proved over some minutes
and not in a burst. What the metrics count is kept by tenant, and told as sums: no label names a tenant.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipewright.facts import Proof
from pipewright.runtime.metrics import Metrics

GAP = timedelta(seconds=0.25)
"""Between two turns: at most four proofs a second, which take a few hundredths of a core each."""
_EPOCH = datetime.min.replace(tzinfo=UTC)


class ProofBook:
    """`pipewright.ports.ProofBook`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._turns: dict[str, datetime] = {}
        self._free = {False: _EPOCH, True: _EPOCH}
        self._last: dict[str, tuple[float, bool, bool]] = {}
        """Tenant id → time of the last proof, whether it found a hole, whether it holds."""
        metrics.isolation_holes.set_function(lambda: sum(hole for _, hole, _ in self._last.values()))
        metrics.isolation_proved.set_function(lambda: sum(holds for _, _, holds in self._last.values()))
        metrics.isolation_proof_time.labels("newest").set_function(lambda: max(self._times(), default=0.0))
        metrics.isolation_proof_time.labels("oldest").set_function(lambda: min(self._times(), default=0.0))

    def turn(self, tenant_id: str, *, wish: datetime, now: datetime, urgent: bool) -> timedelta:
        """Nothing left to wait: it is this tenant's turn, once. Else the time until then."""
        turn = self._turns.get(tenant_id)
        if turn is None or (urgent and turn > now + GAP and self._free[True] < turn):
            turn = max(wish, self._free[urgent])
            self._free[urgent] = turn + GAP
            self._turns[tenant_id] = turn
        if turn > now:
            return turn - now
        del self._turns[tenant_id]
        return timedelta()

    def saw(self, tenant_id: str, proof: Proof | None) -> None:
        """The tenant's last proof; None: there is none yet."""
        if proof is not None:
            self._last[tenant_id] = (proof.at.timestamp(), bool(proof.opened), proof.holds)

    def forget(self, tenant_id: str) -> None:
        """The tenant goes."""
        self._last.pop(tenant_id, None)
        self._turns.pop(tenant_id, None)

    def tried(self, door: str, result: str) -> None:
        """One try."""
        self._metrics.isolation_tries.labels(door, result).inc()

    def _times(self) -> list[float]:
        return [at for at, _, _ in self._last.values()]
