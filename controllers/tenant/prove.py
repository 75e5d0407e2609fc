"""The proof of isolation: a try at another's doors with the tenant's own credentials. Every one must refuse.

It is a look: nothing of it changes the world. It is made of tenants that rest, one after the other, when the
last one is old enough or somebody asks. What was read through a door that opened is dropped unread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controllers.tenant.observed import Observed
from controllers.tenant.rules import isolation
from controllers.tenant.rules.isolation import Look
from controllers.tenant.rules.words import Plan
from pipewright import errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Proof, Registration, Target, active_login

if TYPE_CHECKING:
    from pipewright.ports import Isolation, ProvisionerPorts, Secret

DATABASE, SECRETS, VAULT = "database", "secrets", "vault"
WORDS = {DATABASE: "the database", SECRETS: "the Secrets in a namespace", VAULT: "the Vault path"}


async def prove(
    tenant: Tenant, observed: Observed, wanted: Plan, *, ports: ProvisionerPorts, now: datetime
) -> Look:
    """A proof if it is the time for one, else how long to wait. `wanted` says whether the tenant rests."""
    registration, found = observed.registration, ports.isolation
    if registration is not None and ports.sweeps is not None:
        ports.sweeps.saw(registration.id, registration.sweep)
    if registration is None or found is None:
        return Look()
    found.book.saw(registration.id, registration.proof)
    if not isolation.rests(registration, observed, wanted):
        return Look()
    wish, urgent = isolation.due(tenant, registration.proof, period=found.period, now=now)
    if wish > now and registration.proof is not None:
        # a proof that holds is made anew at the periodic check
        return Look(next=None if registration.proof.holds else wish - now)
    wait = found.book.turn(registration.id, wish=wish, now=now, urgent=urgent)
    if wait.total_seconds() > 0:
        return Look(next=wait)
    proof = await _Try(registration, observed, ports, found).proof(now, asked=isolation.asked(tenant))
    found.book.saw(registration.id, proof)
    return Look(proof=proof, next=None if proof.holds else min(isolation.AGAIN, found.period))


def forget(observed: Observed, *, ports: ProvisionerPorts) -> None:
    """The tenant goes: no metric speaks of it any more."""
    if observed.registration is None:
        return
    if ports.isolation is not None:
        ports.isolation.book.forget(observed.registration.id)
    if ports.sweeps is not None:
        ports.sweeps.forget(observed.registration.id)


def period(ports: ProvisionerPorts) -> timedelta | None:
    """About how often a tenant is proved; None: never."""
    return ports.isolation.period if ports.isolation is not None else None


class _Try:
    """One tenant at one target's doors."""

    def __init__(
        self, registration: Registration, observed: Observed, ports: ProvisionerPorts, doors: Isolation
    ) -> None:
        self._tenant, self._ports, self._doors = registration, ports, doors
        self._own = sorted(observed.connections)[0]
        assert isinstance(observed.credential_version, int)  # a tenant that rests has credentials
        self._version = observed.credential_version

    async def proof(self, now: datetime, *, asked: str | None) -> Proof:
        """What came of it."""
        try:
            target = await self._doors.proofs.target(self._tenant.id)
        except errors.BackendError as trouble:
            return Proof(at=now, target=None, unknown=(f"any door: {trouble.message}",), asked=asked)
        tries: dict[str, Callable[[Target], Awaitable[bool]]] = {
            DATABASE: self._database,
            SECRETS: self._secrets,
        }
        if self._doors.secrets is not None:
            tries[VAULT] = self._vault
        opened, unknown = list[str](), list[str]()
        for door, opens in tries.items():
            result = "unknown"
            try:
                result = "open" if await opens(target) else "refused"
            except (errors.BackendError, errors.Waiting, errors.Stalled) as trouble:
                unknown.append(f"{WORDS[door]} ({trouble.message})")
            if result == "open":
                opened.append(WORDS[door])
            self._doors.book.tried(door, result)
        return Proof(at=now, target=target.id, opened=tuple(opened), unknown=tuple(unknown), asked=asked)

    async def _database(self, target: Target) -> bool:
        purpose = active_login(self._version)
        password = await self._password(purpose)
        return await self._doors.databases.opens(
            self._tenant.id, server=self._tenant.server, purpose=purpose, password=password, target=target
        )

    async def _password(self, purpose: str) -> Secret:
        path = names.platform_path(self._tenant.id)
        found = await self._ports.secrets.read(path, version=self._version)
        if found is None or purpose not in found:
            raise errors.Waiting("CredentialsMissing", "the tenant's credentials were not found")
        return found[purpose]

    async def _secrets(self, target: Target) -> bool:
        token = await self._doors.cluster.token(self._own)
        return await self._doors.cluster.opens(token, own=self._own, namespace=target.namespace)

    async def _vault(self, target: Target) -> bool:
        assert self._doors.secrets is not None
        token = await self._doors.cluster.token(self._own, audience=names.VAULT_AUDIENCE)
        return await self._doors.secrets.opens(token, tenant_id=self._tenant.id, target=target)
