"""In-memory answers to the ports of a proof of isolation, held to the same contract tests.

The doors know what a test planted: `open` holds (door, tenant id or namespace) pairs that let anybody in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from pipewright import errors, names
from pipewright.facts import Proof, Registration, Target
from pipewright.ports import Secret
from pipewright.store import roles


class MemoryProofs:
    """`pipewright.ports.Proofs` beside a registry in memory."""

    def __init__(
        self,
        rows: Callable[[], Collection[Registration]],
        remember: Callable[[str, Proof], None],
    ) -> None:
        """`rows` are the registry's, `remember` keeps a proof with one of them."""
        self._rows, self._remember = rows, remember

    async def target(self, tenant_id: str) -> Target:
        """The next Active tenant in the order of ids, of the same server first; alone, the platform."""
        me = next((row for row in self._rows() if row.id == tenant_id), None)
        if me is None:
            raise errors.Conflict(f"tenant {tenant_id} is not in the registry")
        others = [row for row in self._rows() if row.id != tenant_id and _serves(row)]
        if not others:
            return Target(
                id=None,
                server=me.server,
                database=roles.PLATFORM,
                namespace=names.SYSTEM_NAMESPACE,
                paths=(names.platform_path(tenant_id),),
            )
        found = min(others, key=lambda row: (row.server != me.server, row.id < me.id, row.id))
        return Target(
            id=found.id,
            server=found.server,
            database=roles.database(found.id),
            namespace=min(found.namespaces),
            paths=(names.user_path(found.id), names.platform_path(found.id)),
        )

    async def record(self, tenant_id: str, proof: Proof) -> None:
        """Remember the last proof."""
        self._remember(tenant_id, proof)


class MemoryDoors:
    """All three doors. `broken` is what a door raises instead of an answer."""

    def __init__(self, opened: Iterable[str] = ()) -> None:
        self.opened = set(opened)
        """Databases, namespaces and Vault paths that let anybody in."""
        self.broken: dict[str, Exception] = {}
        self.tokens: list[tuple[str, str | None]] = []

    async def token(self, namespace: str, *, audience: str | None = None) -> Secret:
        """A token that says whose it is."""
        self.tokens.append((namespace, audience))
        return Secret(f"{namespace} {audience}")


class MemoryClusterDoor(MemoryDoors):
    """`pipewright.ports.ClusterDoor`."""

    async def opens(self, token: Secret, *, own: str, namespace: str) -> bool:
        """Whether the namespace is open; only its own token counts."""
        if "secrets" in self.broken:
            raise self.broken["secrets"]
        if token != Secret(f"{own} None"):
            raise errors.BackendError("the API server takes us for somebody else")
        return namespace in self.opened


class MemorySecretDoor(MemoryDoors):
    """`pipewright.ports.SecretDoor`."""

    async def opens(self, token: Secret, *, tenant_id: str, target: Target) -> bool:
        """Whether one of the paths is open."""
        if "vault" in self.broken:
            raise self.broken["vault"]
        return bool(self.opened.intersection(target.paths))


class MemoryDatabaseDoor(MemoryDoors):
    """`pipewright.ports.DatabaseDoor`."""

    async def opens(
        self, tenant_id: str, *, server: str, purpose: str, password: Secret, target: Target
    ) -> bool:
        """Whether the database is open."""
        if "database" in self.broken:
            raise self.broken["database"]
        return target.database in self.opened


class MemoryBook:
    """`pipewright.ports.ProofBook`: everybody's turn comes when it is wished for."""

    def __init__(self) -> None:
        self.tries: list[tuple[str, str]] = []
        self._turns: dict[str, datetime] = {}

    def turn(self, tenant_id: str, *, wish: datetime, now: datetime, urgent: bool) -> timedelta:
        """The time until the first wish; an urgent one replaces it."""
        turn = self._turns.setdefault(tenant_id, wish)
        if urgent:
            turn = self._turns[tenant_id] = min(turn, wish)
        if turn <= now:
            del self._turns[tenant_id]
        return max(timedelta(), turn - now)

    def saw(self, tenant_id: str, proof: Proof | None) -> None:
        """Nobody asks."""

    def forget(self, tenant_id: str) -> None:
        """Nothing was kept."""

    def tried(self, door: str, result: str) -> None:
        """Kept for the test."""
        self.tries.append((door, result))


def _serves(row: Registration) -> bool:
    return row.state == "Active" and row.bundle_version is not None and bool(row.namespaces)
