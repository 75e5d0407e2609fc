"""Rotation of the database's passwords: when new ones are due, and how the old login goes.

Vault's version of the credentials decides everything: its number says which of the tenant's two logins is
active, its time when the next one is due. The login of before works on until the overlap ends, which is
counted from when the new one was in all clients' hands; then it is disabled, and its password is tried.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules.words import DATABASE, Plan, requested
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Database, Registration, standby_login
from pipewright.plan import chain, says

ACCEPTS = "the database accepts the tenant's logins"
SHUT = "the database is there; the tenant's logins are suspended"


def rotation(
    tenant: Tenant,
    registration: Registration,
    observed: Observed,
    now: datetime,
    *,
    database: Database,
    version: int,
) -> Plan:
    """What comes next for logins at this version: nothing, the old login's end, or new passwords."""
    purpose = standby_login(version)
    old = database.logins.get(purpose)
    if old is not None and old.version is not None and old.version < version:
        retire = act.RetireLogin(tenant_id=registration.id, uid=tenant.uid, purpose=purpose, at=now)
        if not old.is_set:
            if old.refused_at is None:  # a crash came between its end and the proof
                return chain(DATABASE, retire)
        elif old.overlap_since is not None:
            rest = old.overlap_since + tenant.spec.database.rotation.overlap - now
            return chain(DATABASE, retire) if rest <= timedelta() else _holds(tenant, rest)
        elif is_projected(observed, version):
            return chain(DATABASE, act.BeginOverlap(tenant_id=registration.id, purpose=purpose, at=now))
        else:
            return _holds(tenant, None)
    due = next_rotation(tenant, observed)
    if due is None or not is_projected(observed, version):
        return _holds(tenant, None, note=_unread(tenant))
    if due <= now:
        return chain(DATABASE, act.RotateCredentials(tenant_id=registration.id, version=version))
    return _holds(tenant, due - now, note=_unread(tenant))


def next_rotation(tenant: Tenant, observed: Observed) -> datetime | None:
    """When new passwords are due: by the period, or earlier if an annotation asks for it.

    The period waits for a suspended tenant, so that it comes back with what its clients have.
    """
    issued = observed.issued_at
    if issued is None:
        return None
    every, asked = tenant.spec.database.rotation.every, requested(tenant, names.ROTATE_ANNOTATION)
    due = [] if every is None or tenant.spec.suspended else [issued + every]
    if asked is not None and asked > issued:
        due.append(asked)
    return min(due) if due else None


def is_projected(observed: Observed, version: int) -> bool:
    """Whether every connection Secret that there should be holds this version."""
    return bool(observed.connections) and all(
        not isinstance(found, Unknown) and noted_version(found) == version
        for found in observed.connections.values()
    )


def noted_version(secret: object) -> int | None:
    """The version that a connection Secret says it holds."""
    annotations = secret.get("metadata", {}).get("annotations", {}) if isinstance(secret, dict) else {}
    noted = annotations.get(names.VERSION_ANNOTATION, "")
    return int(noted) if noted.isdecimal() else None


def _holds(tenant: Tenant, rest: timedelta | None, *, note: str = "") -> Plan:
    told = (SHUT if tenant.spec.suspended else ACCEPTS) + note
    return Plan(facts=says(DATABASE, True, DATABASE, told).facts, check_after=rest)


def _unread(tenant: Tenant) -> str:
    annotation = names.ROTATE_ANNOTATION
    if annotation not in tenant.metadata.annotations or requested(tenant, annotation) is not None:
        return ""
    return f"; the annotation {annotation} is ignored: write a time such as 2026-01-31T12:00:00Z"
