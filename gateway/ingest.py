"""One delivery in one transaction of the tenant's database: history, lines, predictions, decisions, outbox.

    delivery (seen before: stop) → raw body → people → runs and jobs → lines of work → predictions → decisions
                                                     → artifacts ──────────────────────────────────────┘

Either all of it is there after the commit, or none. Whatever order deliveries come in and however often,
the rows are the same: what is decided is read back from the merged rows, not from what this one said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from gateway import decide, forecasts
from gateway.forecasts import Forecasts
from gateway.scoring import Models
from ml.predict import Predictor
from pipewright import events
from pipewright.events import ArtifactRecord, Event, JobRecord, Prediction, Record, RunRecord
from pipewright.store import artifacts, decisions, history, predictions
from pipewright.store.records import Decision, Delivery, Route, Run, Trigger

Attempt = tuple[str, int]
"""A provider's run id and the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A delivery that was verified and mapped: what is stored of it, and what it says."""

    route: Route
    delivery: Delivery
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    """Compressed and encrypted."""
    records: Sequence[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a delivery."""

    duplicate: bool = False
    decisions: int = 0
    fired: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the directory knows where the delivery arrived."""

    triggers: Sequence[Trigger]
    predictor: Predictor | None
    models: Models


async def store(conn: psycopg.AsyncConnection, received: Received, around: Surroundings) -> Stored:
    """Store the delivery and all that follows from it; the caller's transaction makes it one."""
    if not await history.record_delivery(conn, received.delivery):
        return Stored(duplicate=True)
    # Statements go out together as far as nobody needs the answer of one for the next: a third of the waits.
    async with conn.pipeline():
        return await _follow(conn, received, around)


async def _follow(conn: psycopg.AsyncConnection, received: Received, around: Surroundings) -> Stored:
    """What follows from a delivery that is new."""
    integration, now = received.route.integration_uid, received.delivery.received_at
    await history.store_event(conn, received.delivery, body=received.body, headers=received.headers)
    known = await _merge(conn, received)
    people = await _keep_artifacts(conn, received)
    made: dict[Attempt, Forecasts] = {}
    for record in received.records:
        if isinstance(record, RunRecord):
            row = known[record.id, record.attempt]
            made[record.id, record.attempt] = await forecasts.follow(
                conn, row, phase=record.phase, predictor=around.predictor, models=around.models, now=now
            )
    verdicts: dict[str, tuple[decide.Verdict, Event, Prediction | None]] = {}
    for record in received.records:
        if not decide.concerned(around.triggers, record.type):
            continue
        event = _event(record, received, known, people)
        prediction = None
        if event.run is not None:
            attempt = (event.run.id, event.run.attempt)
            if attempt not in made:
                found = await predictions.find(
                    conn, integration=integration, run_id=attempt[0], attempt=attempt[1]
                )
                made[attempt] = found
            prediction = forecasts.as_prediction(made[attempt])
        for verdict in decide.decide(around.triggers, event, prediction):
            before = verdicts.get(verdict.workflow_uid)
            if before is None or (verdict.fired and not before[0].fired):
                verdicts[verdict.workflow_uid] = (verdict, event, prediction)
            await asyncio.sleep(0)  # conditions are tenants' code: others have a turn after each workflow's
    fired = 0
    for verdict, event, prediction in verdicts.values():
        fired += await _keep(conn, verdict, event, prediction, route=received.route, now=now)
    return Stored(decisions=len(verdicts), fired=fired)


async def _merge(conn: psycopg.AsyncConnection, received: Received) -> dict[Attempt, Run]:
    """Merge what the records say into what is known; the rows of all runs that they are about."""
    integration, now = received.route.integration_uid, received.delivery.received_at
    runs = [record for record in received.records if isinstance(record, RunRecord)]
    jobs = [record for record in received.records if isinstance(record, JobRecord)]
    if runs:
        logins = {record.actor for record in runs}
        actors = await history.surrogates(conn, provider=received.route.connector, logins=logins)
        await history.upsert_runs(conn, runs, integration=integration, seen_at=now, actors=actors)
    if jobs:
        await history.upsert_jobs(conn, jobs, integration=integration, seen_at=now)
    attempts = {(record.id, record.attempt) for record in runs} | {(job.run, job.attempt) for job in jobs}
    return await history.find_runs(conn, integration=integration, attempts=attempts)


async def _keep_artifacts(conn: psycopg.AsyncConnection, received: Received) -> Mapping[str, str]:
    """Keep what the records say of artifacts; the surrogates of the people in them."""
    found = [record for record in received.records if isinstance(record, ArtifactRecord)]
    if not found:
        return {}
    logins = {record.actor for record in found}
    people = await history.surrogates(conn, provider=received.route.connector, logins=logins)
    await artifacts.keep(conn, found, delivery=received.delivery, actors=people)
    return people


def _event(
    record: Record, received: Received, known: Mapping[Attempt, Run], people: Mapping[str, str]
) -> Event:
    """The event that a record is, people as surrogates."""
    delivery, name = received.delivery.delivery_id, received.route.integration
    if isinstance(record, ArtifactRecord):
        return events.artifact_event(
            record,
            id=delivery,
            integration=name,
            received_at=received.delivery.received_at,
            actor=people.get(record.actor, ""),
        )
    if isinstance(record, RunRecord):
        row = known[record.id, record.attempt]
        return events.run_event(record, id=delivery, integration=name, actor=row.actor)
    found = known.get((record.run, record.attempt))
    if found is None:
        return events.job_event(record, id=delivery, integration=name)
    return events.job_event(record, id=delivery, integration=name, run=_record_of(found), actor=found.actor)


def _record_of(row: Run) -> RunRecord:
    """What is known of a run, for the events of its jobs."""
    return RunRecord(
        project=row.project,
        pipeline=row.pipeline,
        id=row.provider_id,
        attempt=row.attempt,
        number=row.number,
        trigger=row.trigger,
        branch=row.branch,
        sha=row.sha,
        phase="queued",
        url=row.url,
    )


async def _keep(
    conn: psycopg.AsyncConnection,
    verdict: decide.Verdict,
    event: Event,
    prediction: Prediction | None,
    *,
    route: Route,
    now: datetime,
) -> bool:
    """Keep the decision; whether it fires."""
    uid = route.integration_uid
    name = decide.run_name(verdict, integration_uid=uid, delivery_id=event.id) if verdict.fired else None
    decision = Decision(
        workflow_uid=verdict.workflow_uid,
        integration=uid,
        delivery_id=event.id,
        revision=verdict.revision,
        namespace=route.namespace,
        workflow=verdict.workflow,
        fired=verdict.fired,
        reason=verdict.reason,
        event=events.encode(event),
        prediction=events.encode(prediction) if prediction else None,
        run_name=name,
        decided_at=now,
    )
    if name is None:
        await decisions.record(conn, decision)
        return False
    wanted = decide.manifest(verdict, event, namespace=route.namespace, name=name)
    return await decisions.fire(conn, decision, manifest=wanted)
