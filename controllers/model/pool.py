"""Look at a Model's pool: who of the other tenants' Models shares, and how much they have to give.

What goes wrong with another tenant is told as nothing but that: its name, its database and its namespace are
no news for this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from controllers.model import objects, pooling
from controllers.model.observed import Member, Observed, Pool, Unknown
from pipewright import errors, runner_facts
from pipewright.api.v1alpha1 import Model, Tenant
from pipewright.plan import Ref
from pipewright.runner_facts import TenantRef

if TYPE_CHECKING:
    from pipewright.ports.training import TrainingPorts

Found = tuple[Model, TenantRef]
"""A Model that shares, and whose it is."""


async def observe(model: Model, observed: Observed, ports: TrainingPorts, *, now: datetime) -> Pool:
    """What the plan needs to know of the pool that the spec names.

    Raises:
        BackendError: the API server or the platform database did not answer.
    """
    assert observed.tenant is not None
    assert model.spec.pool is not None
    allowed = await _is_allowed(observed.tenant, model.spec.pool, ports)
    if not allowed or not pooling.matters(model, observed):
        return Pool(is_allowed=allowed)
    try:
        sharing = await _sharing(model, observed.tenant, ports)
    except (errors.Waiting, errors.Stalled, errors.BackendError) as trouble:
        raise errors.BackendError(
            f"who is in the pool {model.spec.pool} could not be read ({trouble.reason})"
        ) from None
    consenting = frozenset(pooling.key(model.uid, other_uid=other.uid) for other, _ in sharing)
    if not pooling.is_needy(model, observed) or not pooling.is_on_platform(objects.compute(model)):
        return Pool(is_allowed=True, consenting=consenting)
    new_since = None
    if not isinstance(observed.trainings, Unknown) and observed.trainings:
        new_since = observed.trainings[0].started_at
    givers = sorted(_one_of_each(sharing), key=lambda it: pooling.key(model.uid, other_uid=it[0].uid))
    asked = (
        _member(model, other, tenant, ports, now=now, new_since=new_since)
        for other, tenant in givers[: pooling.MOST_MEMBERS]
    )
    members = tuple(each for each in await asyncio.gather(*asked) if each is not None)
    return Pool(is_allowed=True, consenting=consenting, members=members)


async def _is_allowed(tenant: TenantRef, pool: str, ports: TrainingPorts) -> bool:
    """Whether the Tenant lets its Models take part, by the object as it is now: a deleted one does not."""
    ref = Ref(api_version=Tenant.api_version, kind=Tenant.kind, name=tenant.name)
    found = await ports.cluster.get(ref)
    if found is None:
        return False
    metadata: Mapping[str, Any] = found["metadata"]
    if metadata.get("uid") != tenant.uid or metadata.get("deletionTimestamp"):
        return False
    return pool in ((found.get("spec") or {}).get("modelPools") or ())


async def _sharing(model: Model, tenant: TenantRef, ports: TrainingPorts) -> Sequence[Found]:
    """Other tenants' Models of the same pool and task whose Tenants allow it, suspended ones among them."""
    assert model.spec.pool is not None
    listed = await ports.cluster.list(api_version=Model.api_version, kind=Model.kind)
    others = [it for it in map(_read, listed) if it is not None and _is_alike(model, it)]
    namespaces = sorted({other.namespace for other in others})
    found = await asyncio.gather(*(ports.directory.find(namespace=each) for each in namespaces))
    whose = dict(zip(namespaces, found, strict=True))
    tenants = {it.id: it for it in found if it is not None and it.id != tenant.id and _is_there(it)}
    allowed = dict(
        zip(
            tenants,
            await asyncio.gather(*(_is_allowed(it, model.spec.pool, ports) for it in tenants.values())),
            strict=True,
        )
    )
    sharing: list[Found] = []
    for other in others:
        owner = whose[other.namespace]
        if owner is not None and allowed.get(owner.id, False):
            sharing.append((other, owner))
    return sharing


def _read(manifest: Mapping[str, Any]) -> Model | None:
    """One that no release of ours can read shares nothing."""
    if not (manifest.get("spec") or {}).get("pool") or manifest["metadata"].get("deletionTimestamp"):
        return None
    try:
        return Model.parse(manifest)
    except (ValidationError, errors.Stalled):
        return None


def _is_alike(model: Model, other: Model) -> bool:
    return other.uid != model.uid and (other.spec.pool, other.spec.task) == (model.spec.pool, model.spec.task)


def _is_there(tenant: TenantRef) -> bool:
    """A suspended tenant takes nothing back: it only gives nothing now."""
    return tenant.state in (runner_facts.ACTIVE, runner_facts.SUSPENDED)


def _one_of_each(sharing: Sequence[Found]) -> Sequence[Found]:
    """One Model of each tenant that is not suspended: its runs are to count once."""
    chosen: dict[str, Found] = {}
    for other, tenant in sorted(sharing, key=lambda it: it[0].uid):
        if tenant.state == runner_facts.ACTIVE:
            chosen.setdefault(tenant.id, (other, tenant))
    return tuple(chosen.values())


async def _member(
    model: Model,
    other: Model,
    tenant: TenantRef,
    ports: TrainingPorts,
    *,
    now: datetime,
    new_since: datetime | None,
) -> Member | None:
    """What it has to give; None: nothing, or nobody can tell now."""
    since = now - min(model.spec.data.window, other.spec.data.window)
    names = other.spec.data.integrations
    try:
        found = await asyncio.gather(
            *(ports.cluster.get(objects.integration_ref(other, name)) for name in names)
        )
        if None in found:
            return None
        uids = tuple(it["metadata"]["uid"] for it in found if it is not None) or None
        runs = await ports.windows.count(
            tenant, since=since, until=now, integrations=uids, new_since=new_since
        )
    except (errors.Waiting, errors.Stalled, errors.BackendError):
        return None
    if runs.rows == 0:
        return None
    key = pooling.key(model.uid, other_uid=other.uid)
    return Member(key=key, tenant=tenant, since=since, integrations=uids, runs=runs)
