"""Look once at what belongs to a Model. Absent is a value, and so is a server that is down."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from controllers.model import objects, pool, versions
from controllers.model.due import LEAST_PREDICTIONS
from controllers.model.observed import Observed, Result, Unknown
from ml import contract, drift
from pipewright import errors, runner_facts
from pipewright.api.v1alpha1 import Model
from pipewright.apply import trainings as files
from pipewright.runner_facts import TenantRef
from pipewright.training_facts import JobStatus, Pointer, RunCount, Training

if TYPE_CHECKING:
    from pipewright.ports.training import TrainingPorts

T = TypeVar("T")

MAX_REPORT = 1_000_000
"""Bytes; a report has a few thousand."""


async def observe(model: Model, *, ports: TrainingPorts, now: datetime) -> Observed:
    """Read every port that the plan needs. The platform database and Kubernetes must answer."""
    tenant, pointer = await asyncio.gather(
        ports.directory.find(namespace=model.namespace), ports.pointers.find(model_uid=model.uid)
    )
    has_lent = model.deleting and await ports.artifacts.exists(
        files.lent_folder(ports.artifacts, model_uid=model.uid)
    )
    if tenant is None:
        return Observed(tenant=None, pointer=pointer, has_lent=has_lent)
    trainings = await _or_unknown(ports.trainings.latest(tenant, model_uid=model.uid))
    running = _running(trainings)
    other, integrations = await asyncio.gather(
        _other_default(model, tenant, ports),
        _integrations(model, ports),
    )
    found = Observed(
        tenant=tenant,
        pointer=pointer,
        drift=await _drift(model, tenant, pointer, trainings, ports),
        other_default=other,
        integrations=integrations,
        trainings=trainings,
        job=await _job(model, tenant, running, ports),
        unusable=ports.compute.trouble(objects.compute(model), image=objects.pod(model).image),
        result=await _result(running, ports) if running is not None and not model.deleting else None,
        runs=await _runs(model, tenant, integrations, trainings, ports, now=now),
        is_lost=not model.deleting and await _is_lost(pointer, ports),
        has_files=model.deleting and await _has_files(model, tenant, ports),
        has_lent=has_lent,
    )
    if model.spec.pool is not None and not model.deleting:
        found = dataclasses.replace(found, pool=await _or_unknown(pool.observe(model, found, ports, now=now)))
    return dataclasses.replace(found, spoiled=await _spoiled(model, found, ports))


async def _drift(
    model: Model,
    tenant: TenantRef,
    pointer: Pointer | None,
    trainings: Sequence[Training] | Unknown,
    ports: TrainingPorts,
) -> float | Unknown | None:
    """How far what the active version said is from the runs that it was judged on."""
    if pointer is None or isinstance(trainings, Unknown):
        return None
    made = next((it.report for it in trainings if it.artifact_uri == pointer.artifact_uri), None)
    if model.deleting or made is None:
        return None
    version, since = pointer.version, pointer.promoted_at
    if made.durations is not None:
        expected = made.durations.classes
        found = await _or_unknown(ports.trainings.covered(tenant, version=version, since=since))
        return found if isinstance(found, Unknown) else _index(expected, found, drift.stability)
    if made.curves is None:
        return None
    deciles = made.curves.deciles
    bounds = [each.least for each in deciles]
    found = await _or_unknown(ports.trainings.spread(tenant, version=version, since=since, bounds=bounds))
    return found if isinstance(found, Unknown) else _index(deciles, found, drift.since)


def _index(
    expected: Sequence[T], found: Sequence[int], index: Callable[[Sequence[T], Sequence[int]], float | None]
) -> float | None:
    """The population stability index; None of too few."""
    return index(expected, found) if sum(found) >= LEAST_PREDICTIONS else None


def _running(trainings: Sequence[Training] | Unknown) -> Training | None:
    if isinstance(trainings, Unknown) or not trainings or not trainings[0].running:
        return None
    return trainings[0]


async def _other_default(model: Model, tenant: TenantRef, ports: TrainingPorts) -> str | None:
    """The model that has the place which this one asks for."""
    if not model.spec.serving.default:
        return None
    found = await ports.pointers.default_of(
        tenant_id=tenant.id, namespace=model.namespace, task=model.spec.task
    )
    return found.model if found is not None and found.model_uid != model.uid else None


async def _job(
    model: Model, tenant: TenantRef, training: Training | None, ports: TrainingPorts
) -> JobStatus | Unknown | None:
    if training is None:
        return None
    place = objects.place(model, tenant, training)
    return await _or_unknown(ports.compute.status(training.submission_id, place=place))


async def _integrations(model: Model, ports: TrainingPorts) -> Mapping[str, str | None]:
    """Name → UID of those that the spec names; None where there is none of that name."""
    names = model.spec.data.integrations
    found = await asyncio.gather(*(ports.cluster.get(objects.integration_ref(model, name)) for name in names))
    return {
        name: manifest["metadata"]["uid"] if manifest is not None else None
        for name, manifest in zip(names, found, strict=True)
    }


async def _result(training: Training, ports: TrainingPorts) -> Result | Unknown | None:
    """What the job left in the artifact store, whose files are no more to be trusted than their writer."""
    try:
        return await _read_result(training, ports)
    except errors.Unreachable as trouble:
        return Unknown(reason=trouble.reason, message=trouble.message)
    except errors.BackendError as wrong:
        return Result(problem=f"the training's report or model cannot be read: {wrong.message}"[:300])


async def _read_result(training: Training, ports: TrainingPorts) -> Result | None:
    """The report is written last, so with it all is there."""
    content = await ports.artifacts.get(training.report_uri)
    if content is None:
        return None
    try:
        if len(content) > MAX_REPORT:
            raise contract.ContractError(f"the report has more than {MAX_REPORT} bytes")
        report = contract.from_json(contract.Report, content)
    except (contract.ContractError, UnicodeDecodeError, RecursionError) as wrong:
        return Result(problem=f"the training's report cannot be read: {wrong}"[:300])
    if report.submission_id != training.submission_id:
        return Result(problem="the training's report is another training's")
    model = await ports.artifacts.get(training.artifact_uri) if report.artifact_sha256 else None
    sha256 = None if model is None else await asyncio.to_thread(_digest, model)
    return Result(report=report, artifact_sha256=sha256)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def _has_files(model: Model, tenant: TenantRef, ports: TrainingPorts) -> bool:
    home = files.folder(ports.artifacts, tenant_id=tenant.id, model_uid=model.uid)
    return await ports.artifacts.exists(home)


async def _is_lost(pointer: Pointer | None, ports: TrainingPorts) -> bool:
    """Whether the active version's file has gone. Its digest is checked by the gateway when it loads it."""
    if pointer is None:
        return False
    return await _or_unknown(ports.artifacts.exists(pointer.artifact_uri)) is False


async def _spoiled(model: Model, observed: Observed, ports: TrainingPorts) -> str | Unknown | None:
    """Whether what was judged still lies there: a promotion may come long after, by a person's wish."""
    chosen = None if model.deleting else versions.promotable(model, observed)
    if chosen is None:
        return None
    try:
        content = await ports.artifacts.get(chosen.artifact_uri)
    except errors.Unreachable as trouble:
        return Unknown(reason=trouble.reason, message=trouble.message)
    except errors.BackendError as wrong:
        return f"the file of attempt {chosen.attempt} cannot be read ({wrong.message})"[:300]
    if content is None:
        return f"the file of attempt {chosen.attempt} is no longer in the artifact store"
    assert chosen.report is not None
    if await asyncio.to_thread(_digest, content) != chosen.report.artifact_sha256:
        return f"the file of attempt {chosen.attempt} is not the one that was judged"
    return None


async def _runs(
    model: Model,
    tenant: TenantRef,
    integrations: Mapping[str, str | None],
    trainings: Sequence[Training] | Unknown,
    ports: TrainingPorts,
    *,
    now: datetime,
) -> RunCount | Unknown | None:
    """How many runs there are to learn from; not counted where no training can begin."""
    uids = [uid for uid in integrations.values() if uid is not None]
    if model.deleting or tenant.state == runner_facts.SUSPENDED or len(uids) < len(integrations):
        return None
    if isinstance(trainings, Unknown) or _running(trainings) is not None:
        return None
    return await _or_unknown(
        ports.windows.count(
            tenant,
            since=now - model.spec.data.window,
            until=now,
            integrations=uids or None,
            new_since=trainings[0].started_at if trainings else None,
        )
    )


async def _or_unknown(read: Awaitable[T]) -> T | Unknown:
    """Also of a database whose password is not in Vault, or whose server the settings do not know."""
    try:
        return await read
    except (errors.Waiting, errors.Stalled, errors.BackendError) as trouble:
        return Unknown(reason=trouble.reason, message=trouble.message)
