"""The Model controller's actions as port calls.

The order in time: window, intent, job, report, outcome, pointer. Killed between any two, the next pass finds
the earlier one and goes on from there; a window without an intent is a file that goes with the model.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from typing import assert_never

from ml import contract
from pipewright import errors
from pipewright.actions import model
from pipewright.ports.training import Artifacts, TrainingPorts, TurnEnd
from pipewright.training_facts import DataWindow, LentWindows, PoolWindow, Training


async def perform(action: model.ModelAction, *, ports: TrainingPorts) -> None:
    """Do one action."""
    match action:
        case model.BeginTraining():
            await _begin(action, ports)
        case model.SkipTraining():
            _count(ports, "Skipped")  # the status tells the rest, and it is written after this
        case model.SubmitTraining():
            job = await _lent(action, ports.artifacts)
            await ports.compute.submit(job, place=action.place, pod=action.pod)
            await ports.trainings.mark(
                action.tenant, submission_id=action.job.submission_id, phase=action.phase
            )
        case model.StopTraining():
            await ports.compute.stop(action.submission_id, place=action.place)
            await ports.trainings.mark(action.tenant, submission_id=action.submission_id, phase="Stopping")
        case model.FinishTraining():
            if action.lent:
                await ports.artifacts.delete(action.lent)
            await ports.trainings.finish(
                action.tenant,
                submission_id=action.submission_id,
                outcome=action.outcome,
                reason=action.reason,
                report=action.report,
                at=action.at,
            )
            _count(ports, action.outcome)
        case model.PromoteModel():
            if not await ports.pointers.promote(action.pointer, expected=action.expected):
                raise errors.Conflict(f"{action}: the active version changed meanwhile")
        case model.ChangeServing():
            await ports.pointers.change_serving(
                model_uid=action.model_uid, is_default=action.is_default, control_share=action.control_share
            )
        case model.WithdrawModel():
            await ports.pointers.withdraw(model_uid=action.model_uid)
        case model.DeleteArtifacts():
            await ports.artifacts.delete(
                folder(ports.artifacts, tenant_id=action.tenant_id, model_uid=action.model_uid)
            )
        case model.ReturnWindows():
            await ports.artifacts.delete(lent_folder(ports.artifacts, model_uid=action.model_uid))
        case model.PruneTrainings():
            for url in action.urls:
                await ports.artifacts.delete(url)
        case _:
            assert_never(action)


async def _lent(action: model.SubmitTraining, artifacts: Artifacts) -> contract.TrainingJob:
    """The job with addresses that it can follow without a credential of the store."""
    training, lasting = action.training, action.lasting
    window, artifact, report = await asyncio.gather(
        artifacts.lend(training.window.uri, to="read", lasting=lasting),
        artifacts.lend(training.artifact_uri, to="write", lasting=lasting),
        artifacts.lend(training.report_uri, to="write", lasting=lasting),
    )
    windows = training.lent.windows if training.lent is not None else ()
    pool = await asyncio.gather(*(artifacts.lend(it.uri, to="read", lasting=lasting) for it in windows))
    return dataclasses.replace(
        action.job,
        window_uri=window,
        artifact_uri=artifact,
        report_uri=report,
        pool=tuple(
            contract.PoolWindow(uri=uri, sha256=it.sha256) for uri, it in zip(pool, windows, strict=True)
        ),
    )


def _count(ports: TrainingPorts, how: TurnEnd) -> None:
    if ports.turns is not None:
        ports.turns.ended(how)


def folder(artifacts: Artifacts, *, tenant_id: str, model_uid: str) -> str:
    """Where all files of a model lie."""
    return artifacts.url_for(tenant_id, "models", model_uid)


def lent_folder(artifacts: Artifacts, *, model_uid: str) -> str:
    """Where windows of a pool lie while the model trains on them: no tenant's place, and no tenant's name."""
    return artifacts.url_for("pools", model_uid)


def submission_id(*, tenant_id: str, model_uid: str, window_sha256: str, attempt: int) -> str:
    """The job's id: the same attempt at the same data is the same job, however often it is submitted.

    `window_sha256`: of a pooled training, the digest over those of all its windows.
    """
    text = f"{tenant_id}|{model_uid}|{window_sha256}|{attempt}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


async def _begin(action: model.BeginTraining, ports: TrainingPorts) -> None:
    found = await ports.windows.export(
        action.tenant, since=action.since, until=action.at, integrations=action.integrations
    )
    home = (action.tenant.id, "models", action.model_uid)
    window = DataWindow(
        uri=ports.artifacts.url_for(*home, "windows", f"{found.sha256}.parquet"),
        sha256=found.sha256,
        rows=found.rows,
    )
    await ports.artifacts.put(window.uri, found.content)
    lent = await _borrow(action, ports)
    others = [each.sha256 for each in lent.windows] if lent is not None else []
    place = (*home, "trainings", f"{action.attempt}-{action.recipe}")
    training = Training(
        submission_id=submission_id(
            tenant_id=action.tenant.id,
            model_uid=action.model_uid,
            window_sha256=contract.data_sha256(found.sha256, others),
            attempt=action.attempt,
        ),
        attempt=action.attempt,
        recipe=action.recipe,
        phase="Intended",
        window=window,
        artifact_uri=ports.artifacts.url_for(*place, "model"),
        report_uri=ports.artifacts.url_for(*place, "report.json"),
        started_at=action.at,
        compute=action.compute,
        lent=lent,
    )
    if not await ports.trainings.begin(action.tenant, training, model_uid=action.model_uid):
        raise errors.Conflict(f"attempt {action.attempt} was begun by somebody else: looking again")


async def _borrow(action: model.BeginTraining, ports: TrainingPorts) -> LentWindows | None:
    """Write the other members' windows where this training alone reads them; what an earlier one left goes.

    Raises:
        BackendError: one could not be read or written. It names nobody: it is told to one of the tenants.
    """
    folder = lent_folder(ports.artifacts, model_uid=action.model_uid)
    await ports.artifacts.delete(folder)
    if not action.pool:
        return None
    try:
        windows = [await _lent_by(each, action, ports) for each in action.pool]  # one in memory at a time
    except (errors.Waiting, errors.Stalled, errors.BackendError):
        await ports.artifacts.delete(folder)
        raise errors.BackendError(
            "the runs of a member of the pool could not be read: it is tried again"
        ) from None
    return LentWindows(folder=folder, windows=tuple(sorted(windows, key=lambda it: it.sha256)))


async def _lent_by(
    member: model.Contribution, action: model.BeginTraining, ports: TrainingPorts
) -> PoolWindow:
    found = await ports.windows.export(
        member.tenant, since=member.since, until=action.at, integrations=member.integrations
    )
    name = f"{action.attempt}-{found.sha256}.parquet"
    uri = ports.artifacts.url_for("pools", action.model_uid, name)
    await ports.artifacts.put(uri, found.content)
    return PoolWindow(key=member.key, uri=uri, sha256=found.sha256, rows=found.rows)
