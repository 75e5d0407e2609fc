"""What a proof of isolation says, when the next one is due, and how loudly a hole is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.tenant.observed import Observed
from controllers.tenant.rules.suspension import STOPPED
from controllers.tenant.rules.words import ASPECTS, ISOLATION, Plan
from pipewright import actions as act
from pipewright import errors, names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Proof, Registration
from pipewright.plan import Failure, Results, merge, says, upkeep

FIRST = timedelta(seconds=5)
"""From a tenant's first rest to its first proof: what makes it Ready comes first."""
AGAIN = timedelta(seconds=60)
"""After a hole, or when nothing could be said of a door."""
EARLY = 0.8
"""A proof is due at the first look after this part of the period: looks come at 0.9 to 1.1 of it."""
STALE = 3
"""After so many periods without a new one, a proof proves nothing."""
OFF = "the operator's settings switch the proofs off (isolationProofs)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of the time for a proof: one was made, or it is waited for, or neither."""

    proof: Proof | None = None
    next: timedelta | None = None


def rests(registration: Registration, observed: Observed, wanted: Plan) -> bool:
    """Whether everything else is there: then a refusal cannot come from something that is not yet made."""
    settled = all(fact.status for fact in wanted.facts if fact.type in ASPECTS)
    return wanted.is_empty and settled and registration.state == "Active" and bool(observed.connections)


def asked(tenant: Tenant) -> str | None:
    """The text of the annotation that asks for a check, cut to what is remembered of it."""
    return tenant.metadata.annotations.get(names.CHECK_ANNOTATION, "")[:256] or None


def due(tenant: Tenant, last: Proof | None, *, period: timedelta, now: datetime) -> tuple[datetime, bool]:
    """When the next proof is due, and whether somebody asked for it."""
    text = asked(tenant)
    if text is not None and text != (last.asked if last else None):
        return now, True
    if last is None:
        return now + FIRST, False
    return last.at + (period * EARLY if last.holds else min(AGAIN, period * EARLY)), False


def isolation(observed: Observed, look: Look, *, period: timedelta | None, now: datetime) -> Plan:
    """The last proof in words; a new one is remembered. `period` is None where proofs are switched off."""
    registration = observed.registration
    if period is None:
        return says(ISOLATION, None, "ProofsOff", OFF)
    if registration is None:
        return Plan()
    if registration.state == STOPPED:
        return says(ISOLATION, None, "TenantSuspended", "nothing is tried: the tenant's own doors are shut")
    proof = look.proof or registration.proof
    record = Plan()
    if look.proof is not None:
        record = upkeep(ISOLATION, act.RecordProof(tenant_id=registration.id, proof=look.proof))
    return merge(Plan(check_after=look.next), record, _verdict(proof, period=period, now=now))


def loud(look: Look, results: Results) -> Results:
    """A hole is a failure, too: each time it is seen there is a Warning Event and a line in the log."""
    if look.proof is None or not look.proof.opened:
        return results
    error = errors.IsolationBroken(_hole(look.proof))
    failure = Failure(serves=ISOLATION, action="prove isolation", error=error, quiet=True)
    return replace(results, failures=(*results.failures, failure))


def _verdict(proof: Proof | None, *, period: timedelta, now: datetime) -> Plan:
    if proof is None:
        return says(ISOLATION, None, "NotYetProved", "is proved soon after everything else is there")
    if proof.opened:
        return says(ISOLATION, False, errors.IsolationBroken.reason, _hole(proof))
    if now - proof.at > period * STALE:
        message = "the last proof is too old to say anything: what the other conditions wait for comes first"
        return says(ISOLATION, None, "ProofStale", message)
    if proof.unknown:
        return says(ISOLATION, None, "NotProved", "nothing can be said of " + "; of ".join(proof.unknown))
    if proof.target is None:
        message = "there is no other tenant to try; the platform's own doors refused this one's credentials"
        return says(ISOLATION, True, "NoNeighbour", message)
    message = "another tenant's doors (database, Secrets, path in Vault) refused this one's own credentials"
    return says(ISOLATION, True, ISOLATION, message)


def _hole(proof: Proof) -> str:
    whose = f"the tenant with id {proof.target}" if proof.target else "the platform"
    doors = " and ".join(proof.opened)
    return (
        f"this tenant's own credentials opened {doors} of {whose}: close it, then ask for a check with the"
        f" annotation {names.CHECK_ANNOTATION}; see the runbook on isolation holes"
    )
