"""The key that wraps a tenant's data key: another version when it is due, and the data key under the newest.

The data key itself never changes: what it encrypted stays readable, and the gateway needs no other bundle.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controllers.tenant.observed import Observed, Unknown
from controllers.tenant.rules.words import DATABASE, SECRETS, Plan, requested, unknown
from pipewright import actions as act
from pipewright import names
from pipewright.api.v1alpha1 import Tenant
from pipewright.facts import Registration, WrappingKey
from pipewright.plan import chain, merge, says


def data_key(tenant: Tenant, registration: Registration, observed: Observed, now: datetime) -> Plan:
    """Rotate and rewrap when it is time or was asked for; only rewrap what a crash, or Vault, left behind."""
    key = observed.wrapping_key
    if isinstance(key, Unknown):
        return unknown(SECRETS, key)
    if key is None or registration.wrapped_by is None:
        return Plan()
    rewrap = act.RewrapDataKey(tenant_id=registration.id)
    if _version(registration.wrapped_by) < key.version:
        return chain(SECRETS, rewrap)
    due = _due(tenant, key, observed.wrapping_key_every)
    if due is None:
        return Plan()
    if due <= now:
        return chain(SECRETS, act.RotateDataKey(tenant_id=registration.id, version=key.version), rewrap)
    return Plan(check_after=due - now)


def is_looked_at(tenant: Tenant, registration: Registration, every: timedelta | None) -> bool:
    """Whether the wrapping key matters to this look: there is one, and something may be due."""
    asked = names.ROTATE_DATA_KEY_ANNOTATION in tenant.metadata.annotations
    return registration.wrapped_by is not None and not tenant.deleting and (asked or every is not None)


def elsewhere(registration: Registration, observed: Observed) -> Plan | None:
    """The tenant's secrets are in the other place (Vault, or Secrets): none is generated in this one."""
    wrapped_by = registration.wrapped_by
    if wrapped_by is None or observed.scheme is None or wrapped_by.startswith(f"{observed.scheme}:"):
        return None
    place = {"vault": "Vault", "kubernetes": "Kubernetes Secrets"}
    there = wrapped_by.partition(":")[0]
    message = (
        f"the tenant's secrets lie in {place.get(there, there)}, and the operator's settings say"
        f" {place.get(observed.scheme, observed.scheme)}: set `vault` there as it was"
    )
    return merge(
        *(says(aspect, False, "SecretsElsewhere", message, stalled=True) for aspect in (DATABASE, SECRETS))
    )


def _due(tenant: Tenant, key: WrappingKey, every: timedelta | None) -> datetime | None:
    asked = requested(tenant, names.ROTATE_DATA_KEY_ANNOTATION)
    due = [] if every is None else [key.at + every]
    # Vault tells whole seconds: a key made for what was asked in the same second must not look older than it
    if asked is not None and asked.replace(microsecond=0) > key.at:
        due.append(asked)
    return min(due) if due else None


def _version(wrapped_by: str) -> int:
    return int(wrapped_by.rpartition(":v")[2])
