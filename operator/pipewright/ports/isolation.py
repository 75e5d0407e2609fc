"""What a proof of isolation needs: whose doors to try, and a try at each of them as the tenant itself.

Each door first opens what is the tenant's own: a refusal then says something of the other side, and not of a
token or password that no longer works. A door answers whether it opened; what else came between is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pipewright.facts import Proof, Target
from pipewright.ports.common import Secret


class Proofs(Protocol):
    """The platform database's memory of proofs."""

    async def target(self, tenant_id: str) -> Target:
        """Whose doors to try: the next Active tenant in the order of ids, of the same server if there is one.

        So every tenant is tried by the one before it. Alone, a tenant tries the platform's own doors.
        """
        ...

    async def record(self, tenant_id: str, proof: Proof) -> None:
        """Remember the last proof. A change of its verdict is a line of the audit trail."""
        ...


class ClusterDoor(Protocol):
    """The Kubernetes API, as the ServiceAccount of a tenant's namespace."""

    async def token(self, namespace: str, *, audience: str | None = None) -> Secret:
        """A short-lived token of the account; without an audience it is for the API server."""
        ...

    async def opens(self, token: Secret, *, own: str, namespace: str) -> bool:
        """Whether the account of the namespace `own` may list the Secrets of `namespace`.

        Raises:
            BackendError: the API server does not take the token for that account's, or did not answer.
        """
        ...


class SecretDoor(Protocol):
    """Vault, as the ServiceAccount of a tenant's namespace."""

    async def opens(self, token: Secret, *, tenant_id: str, target: Target) -> bool:
        """Whether the tenant's role may read one of the target's paths.

        Raises:
            BackendError: the role does not open the tenant's own path, or Vault did not answer.
        """
        ...


class DatabaseDoor(Protocol):
    """PostgreSQL, as one of a tenant's own logins."""

    async def opens(
        self, tenant_id: str, *, server: str, purpose: str, password: Secret, target: Target
    ) -> bool:
        """Whether the tenant's login may connect to the target's database.

        Raises:
            BackendError: the login does not open the tenant's own database, or a server did not answer.
        """
        ...


class ProofBook(Protocol):
    """Whose turn it is in this process, and what the metrics tell."""

    def turn(self, tenant_id: str, *, wish: datetime, now: datetime, urgent: bool) -> timedelta:
        """Nothing left to wait: it is this tenant's turn, once. Else the time until then.

        Turns have a distance, so that proofs of many tenants never come at once. Urgent ones have a row of
        their own.
        """
        ...

    def saw(self, tenant_id: str, proof: Proof | None) -> None:
        """The tenant's last proof; None: there is none yet."""
        ...

    def forget(self, tenant_id: str) -> None:
        """The tenant goes."""
        ...

    def tried(self, door: str, result: str) -> None:
        """One try: `refused`, `open` or `unknown`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """All of it."""

    proofs: Proofs
    cluster: ClusterDoor
    secrets: SecretDoor | None
    """None: there is no Vault."""
    databases: DatabaseDoor
    book: ProofBook
    period: timedelta
    """About how often each tenant is proved."""
