"""What a deletion does, told in the status: a projection of what was seen and of the teardown's own rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from controllers.tenant.observed import Observed, Unknown, is_ours
from controllers.tenant.rules import leaving, teardown
from controllers.tenant.rules.words import ACCESS, DATABASE, NAMESPACES, SECRETS
from pipewright import errors
from pipewright.api.v1alpha1 import Tenant
from pipewright.api.v1alpha1.deletion import (
    Blocker,
    DeletionPlan,
    Fate,
    LastDump,
    PlannedDatabase,
    PlannedNamespace,
    PlannedResources,
    PlannedSecrets,
    Size,
)
from pipewright.facts import Registration
from pipewright.plan import Results

_MIB = 1024 * 1024
_SIZES: tuple[tuple[int, Size], ...] = (
    (100 * _MIB, "Under100Mi"),
    (1024 * _MIB, "Under1Gi"),
    (10 * 1024 * _MIB, "Under10Gi"),
    (100 * 1024 * _MIB, "Under100Gi"),
)
_PARTS = {NAMESPACES: "namespaces", ACCESS: "access", DATABASE: "database", SECRETS: "secrets"}


def project(tenant: Tenant, observed: Observed, results: Results) -> DeletionPlan | None:
    """What goes, what stays, and what it waits for; None when nothing is left to do."""
    stage, registration = teardown.current(tenant, observed), observed.registration
    if stage is None:
        return None
    fate: Fate = "Stays" if teardown.keeps(tenant) else "Goes"
    kinds = Counter(found["kind"] for found in observed.resources)
    return DeletionPlan(
        policy=tenant.spec.deletion_policy,
        stage=stage.name,
        namespaces=tuple(_namespaces(tenant, registration, observed, fate))[:16] if registration else (),
        resources=tuple(
            PlannedResources(kind=kind, count=count, fate=fate) for kind, count in sorted(kinds.items())
        )[:8],
        database=_database(tenant, observed, fate),
        secrets=tuple(_secrets(registration, observed, fate)) if registration else (),
        last_dump=_dump(registration),
        blockers=tuple(_blockers(stage, results))[:8],
    )


def _namespaces(
    tenant: Tenant, registration: Registration, observed: Observed, fate: Fate
) -> Iterable[PlannedNamespace]:
    for name, found in sorted(observed.namespaces.items()):
        if found is not None and is_ours(tenant, registration, found):
            stays = leaving.was_there_before(tenant, found)
            yield PlannedNamespace(name=name, fate="Stays" if stays else fate)


def _secrets(registration: Registration, observed: Observed, fate: Fate) -> Iterable[PlannedSecrets]:
    for folder in ("platform",) if observed.without_vault else ("platform", "user"):
        yield PlannedSecrets(path=f"{registration.id}/{folder}", fate=fate)


def _database(tenant: Tenant, observed: Observed, fate: Fate) -> PlannedDatabase | None:
    found = observed.database
    if isinstance(found, Unknown):  # it was there, as far as is known
        last = tenant.status.deletion_plan
        return last.database if last else None
    if found is None or found.owner_uid not in (None, tenant.uid):
        return None
    return PlannedDatabase(name=found.name, fate=fate, size=_size(observed.database_bytes))


def _dump(registration: Registration | None) -> LastDump | None:
    if registration is None or registration.dump is None:
        return None
    dump = registration.dump
    return LastDump(path=dump.path, sha256=dump.sha256, bytes=dump.bytes, taken_at=dump.taken_at)


def _size(found: int | None) -> Size | None:
    """A class, because a count of bytes would change the status at every look."""
    if found is None:
        return None
    return next((name for limit, name in _SIZES if found < limit), "Over100Gi")


def _blockers(stage: teardown.Stage, results: Results) -> Iterable[Blocker]:
    for failure in results.failures:
        reason, message = errors.explain(failure.error)
        yield Blocker(part=_PARTS[failure.serves], reason=reason, message=message[:1024])
    if stage.plan.is_empty:
        for fact in stage.plan.facts:
            yield Blocker(part=_PARTS[fact.type], reason=fact.reason, message=fact.message[:1024])
