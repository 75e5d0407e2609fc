"""The ports of training over our stores: the journal and history of a tenant, and the platform's pointers."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from ml import contract
from ml import window as parquet
from pipewright.backends.runner.databases import TenantDatabases
from pipewright.backends.runner.platform import PlatformDatabase
from pipewright.runner_facts import TenantRef
from pipewright.store import durations, journal, records, routes, verdicts, window
from pipewright.training_facts import (
    DataWindow,
    ExportedWindow,
    LentWindows,
    Pointer,
    PoolWindow,
    RunCount,
    Training,
    TrainingOutcome,
    TrainingPhase,
)

KEPT = 20
"""Attempts that are read: more than all the retries of some turns, and what the status shows."""


class PostgresTrainings:
    """`ports.training.Trainings` on the tenants' databases."""

    def __init__(self, databases: TenantDatabases) -> None:
        self._databases = databases

    async def latest(self, tenant: TenantRef, *, model_uid: str) -> Sequence[Training]:
        """The model's last attempts, the newest first."""
        async with self._databases.connection(tenant) as conn:
            found = await journal.trainings(conn, model_uid, limit=KEPT)
        return tuple(map(_training, found))

    async def spread(
        self, tenant: TenantRef, *, version: str, since: datetime, bounds: Sequence[float]
    ) -> Sequence[int]:
        """Predictions by where they lie."""
        async with self._databases.connection(tenant) as conn:
            return await verdicts.spread(conn, version=version, since=since, bounds=bounds)

    async def covered(self, tenant: TenantRef, *, version: str, since: datetime) -> Sequence[int]:
        """Runs by where their durations lie."""
        async with self._databases.connection(tenant) as conn:
            return await durations.covered(conn, version=version, since=since)

    async def begin(self, tenant: TenantRef, training: Training, *, model_uid: str) -> bool:
        """Write the intent."""
        row = records.Training(
            submission_id=training.submission_id,
            model_uid=model_uid,
            attempt=training.attempt,
            phase=training.phase,
            window_sha256=training.window.sha256,
            window_uri=training.window.uri,
            rows=training.window.rows,
            artifact_uri=training.artifact_uri,
            report_uri=training.report_uri,
            started_at=training.started_at,
            compute=training.compute,
            pool=_lent_json(training.lent),
        )
        async with self._databases.connection(tenant) as conn:
            return await journal.begin_training(conn, row)

    async def mark(self, tenant: TenantRef, *, submission_id: str, phase: TrainingPhase) -> None:
        """Note how far an attempt is."""
        async with self._databases.connection(tenant) as conn:
            await journal.move_training(conn, submission_id, phase=phase)

    async def finish(
        self,
        tenant: TenantRef,
        *,
        submission_id: str,
        outcome: TrainingOutcome,
        reason: str,
        report: contract.Report | None,
        at: datetime,
    ) -> None:
        """Write how an attempt ended."""
        async with self._databases.connection(tenant) as conn:
            await journal.finish_training(
                conn,
                submission_id,
                phase="Finished",
                outcome=outcome,
                reason=reason,
                finished_at=at,
                report=None if report is None else json.loads(contract.to_json(report)),
            )


class PostgresWindows:
    """`ports.training.Windows` on the tenants' databases."""

    def __init__(self, databases: TenantDatabases) -> None:
        self._databases = databases

    async def count(
        self,
        tenant: TenantRef,
        *,
        since: datetime,
        until: datetime,
        integrations: Sequence[str] | None,
        new_since: datetime | None,
    ) -> RunCount:
        """Attempts with a known outcome."""
        async with self._databases.connection(tenant) as conn:
            rows, heard, ended = await window.count(
                conn, since=since, until=until, integrations=integrations, new_since=new_since
            )
        return RunCount(rows=rows, heard=heard, ended=ended)

    async def export(
        self, tenant: TenantRef, *, since: datetime, until: datetime, integrations: Sequence[str] | None
    ) -> ExportedWindow:
        """All attempts as Parquet; compressed in a thread, so that the other reconciles go on."""
        async with self._databases.connection(tenant) as conn:
            table = await window.table(conn, since=since, until=until, integrations=integrations)
        content = await asyncio.to_thread(parquet.write_table, table)
        digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        return ExportedWindow(content=content, sha256=digest, rows=table.num_rows)


class PostgresPointers:
    """`ports.training.Pointers` on the platform database."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._platform = platform

    async def find(self, *, model_uid: str) -> Pointer | None:
        """The model's pointer."""
        async with self._platform.connection() as conn:
            row = await routes.find_model(conn, model_uid=model_uid)
        return _pointer(row) if row is not None else None

    async def default_of(self, *, tenant_id: str, namespace: str, task: str) -> Pointer | None:
        """The default for a task in a namespace."""
        async with self._platform.connection() as conn:
            found = await routes.load_models(conn)
        wanted = (tenant_id, namespace, task)
        return next(
            (
                _pointer(row)
                for row in found
                if row.is_default and (row.tenant_id, row.namespace, row.task) == wanted
            ),
            None,
        )

    async def promote(self, pointer: Pointer, *, expected: int | None) -> bool:
        """Compare and swap on the generation."""
        row = records.ModelPointer(
            model_uid=pointer.model_uid,
            tenant_id=pointer.tenant_id,
            namespace=pointer.namespace,
            model=pointer.model,
            task=pointer.task,
            is_default=pointer.is_default,
            version=pointer.version,
            artifact_uri=pointer.artifact_uri,
            artifact_sha256=pointer.artifact_sha256,
            metrics=pointer.metrics,
            promoted_at=pointer.promoted_at,
            control_share=pointer.control_share,
        )
        async with self._platform.connection() as conn:
            return await routes.promote(conn, row, expected=expected)

    async def change_serving(self, *, model_uid: str, is_default: bool, control_share: float) -> None:
        """Change both."""
        async with self._platform.connection() as conn:
            await routes.change_serving(
                conn, model_uid=model_uid, is_default=is_default, control_share=control_share
            )

    async def withdraw(self, *, model_uid: str) -> None:
        """Delete the row."""
        async with self._platform.connection() as conn:
            await routes.delete_model(conn, model_uid=model_uid)


def _training(row: records.Training) -> Training:
    return Training(
        submission_id=row.submission_id,
        attempt=row.attempt,
        recipe=_recipe(row.report_uri),
        phase=cast("TrainingPhase", row.phase),
        window=DataWindow(uri=row.window_uri, sha256=row.window_sha256, rows=row.rows),
        artifact_uri=row.artifact_uri,
        report_uri=row.report_uri,
        started_at=row.started_at,
        compute=row.compute,
        finished_at=row.finished_at,
        outcome=cast("TrainingOutcome | None", row.outcome),
        reason=row.reason,
        report=_report(row.report),
        lent=_lent(row.pool),
    )


def _lent_json(lent: LentWindows | None) -> dict[str, Any] | None:
    return None if lent is None else dataclasses.asdict(lent)


def _lent(stored: Mapping[str, Any] | None) -> LentWindows | None:
    if stored is None:
        return None
    return LentWindows(
        folder=stored["folder"], windows=tuple(PoolWindow(**each) for each in stored["windows"])
    )


def _recipe(report_uri: str) -> str:
    """The attempt's folder is named `<attempt>-<recipe>`."""
    return PurePosixPath(urlsplit(report_uri).path).parent.name.partition("-")[2]


def _report(stored: Mapping[str, Any] | None) -> contract.Report | None:
    """A report that this release cannot read any more tells nothing; the outcome stays."""
    if stored is None:
        return None
    try:
        return contract.from_json(contract.Report, json.dumps(dict(stored)))
    except contract.ContractError:
        return None


def _pointer(row: records.ModelPointer) -> Pointer:
    return Pointer(
        model_uid=row.model_uid,
        tenant_id=row.tenant_id,
        namespace=row.namespace,
        model=row.model,
        task=row.task,
        is_default=row.is_default,
        version=row.version,
        artifact_uri=row.artifact_uri,
        artifact_sha256=row.artifact_sha256,
        metrics=row.metrics,
        promoted_at=row.promoted_at,
        control_share=row.control_share,
        generation=row.generation,
    )
