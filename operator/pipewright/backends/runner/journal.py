"""The run journal and the gateway's decisions, in the tenant's own database."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from pipewright import errors, events
from pipewright.backends.runner.databases import TenantDatabases
from pipewright.ports import Clock
from pipewright.runner_facts import (
    Attempt,
    AttemptPhase,
    Decision,
    RunJournal,
    RunPhase,
    TenantRef,
    idempotency_key,
)
from pipewright.store import decisions, journal, records

ATTEMPT_PHASES: Mapping[str, AttemptPhase] = {
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
    "Skipped": "Skipped",
    "Unknown": "Unknown",
}
RUN_PHASES: Mapping[str, RunPhase] = {
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
    "Cancelled": "Cancelled",
}


class PostgresJournal:
    """`ports.Journal` on the tenants' databases."""

    def __init__(self, databases: TenantDatabases, *, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock

    async def read(self, tenant: TenantRef, *, run_uid: str) -> RunJournal | None:
        """The run with all attempts of its steps."""
        async with self._databases.connection(tenant) as conn:
            line = await journal.find_run(conn, run_uid)
            if line is None:
                return None
            steps = await journal.steps(conn, run_uid)
        return RunJournal(
            phase=RUN_PHASES.get(line.phase, "Running"),
            started_at=line.started_at,
            finished_at=line.finished_at,
            reason=line.reason,
            attempts=tuple(sorted(map(_attempt, steps), key=lambda tried: (tried.step, tried.number))),
        )

    async def begin(
        self, tenant: TenantRef, *, run_uid: str, namespace: str, name: str, workflow_uid: str | None
    ) -> None:
        """Open the run."""
        line = records.WorkflowRun(
            run_uid=run_uid,
            namespace=namespace,
            name=name,
            workflow_uid=workflow_uid,
            started_at=self._clock.now(),
        )
        async with self._databases.connection(tenant) as conn:
            await journal.start_run(conn, line)

    async def finish(
        self,
        tenant: TenantRef,
        *,
        run_uid: str,
        phase: Literal["Succeeded", "Failed", "Cancelled"],
        reason: str,
    ) -> None:
        """Close the run; one that is closed stays as it is."""
        async with self._databases.connection(tenant) as conn:
            await journal.finish_run(conn, run_uid, phase=phase, reason=reason, finished_at=self._clock.now())

    async def begin_step(self, tenant: TenantRef, *, run_uid: str, step: str, attempt: int) -> None:
        """Write the intent."""
        async with self._databases.connection(tenant) as conn:
            fresh = await journal.intend_step(conn, self._intent(run_uid, step, attempt))
        if not fresh:
            # somebody else holds this attempt: performing it here as well would be twice
            raise errors.Conflict(f"attempt {attempt} of step {step} has begun elsewhere")

    async def finish_step(
        self,
        tenant: TenantRef,
        *,
        run_uid: str,
        step: str,
        attempt: int,
        phase: AttemptPhase,
        message: str = "",
        outputs: Mapping[str, str] | None = None,
        after: timedelta | None = None,
    ) -> None:
        """Write the outcome, with the intent if there is none."""
        now = self._clock.now()
        row = dataclasses.replace(
            self._intent(run_uid, step, attempt),
            phase=phase,
            finished_at=now,
            message=message,
            outputs=dict(outputs or {}),
            not_before=None if after is None else now + after,
        )
        async with self._databases.connection(tenant) as conn:
            await journal.conclude_step(conn, row)

    def _intent(self, run_uid: str, step: str, attempt: int) -> records.Step:
        return records.Step(
            run_uid=run_uid,
            step=step,
            attempt=attempt,
            phase="Running",
            idempotency_key=idempotency_key(run_uid, step, attempt),
            started_at=self._clock.now(),
        )


class PostgresDecisions:
    """`ports.Decisions` on the tenants' databases."""

    def __init__(self, databases: TenantDatabases) -> None:
        self._databases = databases

    async def find(
        self,
        tenant: TenantRef,
        *,
        namespace: str,
        workflow: str,
        revision: str,
        integration: str,
        delivery_id: str,
    ) -> Decision | None:
        """The decision that asked for a run."""
        async with self._databases.connection(tenant) as conn:
            row = await decisions.find(
                conn,
                namespace=namespace,
                workflow=workflow,
                revision=revision,
                integration=integration,
                delivery_id=delivery_id,
            )
        # a decision that did not fire starts no run, whoever asks for it
        return None if row is None or not row.fired else _decision(row)


def _decision(row: records.Decision) -> Decision:
    try:
        return Decision(
            event=events.event_from_json(row.event),
            prediction=None if row.prediction is None else events.prediction_from_json(row.prediction),
        )
    except events.RecordError as error:
        raise errors.Stalled("UnreadableEvent", f"the decision cannot be read: {error}") from None


def _attempt(row: records.Step) -> Attempt:
    return Attempt(
        step=row.step,
        number=row.attempt,
        phase=ATTEMPT_PHASES.get(row.phase, "Unknown"),
        started_at=row.started_at,
        finished_at=row.finished_at,
        message=row.message,
        outputs={name: str(value) for name, value in row.outputs.items()},
        not_before=row.not_before,
    )
