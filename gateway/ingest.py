"""Deliveries in one transaction of the tenant's database: history, lines, predictions, decisions, outbox.

    delivery (seen before: stop) → raw body → people → runs and jobs → lines of work → predictions → decisions
                                                     → artifacts ──────────────────────────────────────┘
                                                     → steps, tests, commits, deployments

Either all of it is there after the commit, or none. Whatever order deliveries come in and however often,
the rows are the same: what is decided is read back from the merged rows, not from what this one said.

Several deliveries go the way together, statement by statement, and what follows from each is as if they had
come one after the other: those that speak of the same attempt of a run take their turns (`turns`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from gateway import decide, forecasts
from gateway.control import Control
from gateway.decide import NOT_HELD, Held
from gateway.forecasts import Book, Told
from gateway.scoring import Models
from ml.diagnosis import Judge
from ml.forecast import Forecaster
from ml.predict import Predictor
from pipewright import events
from pipewright.events import ArtifactRecord, Event, JobRecord, Prediction, Record, RunRecord
from pipewright.records import CommitRecord, DeploymentRecord, Detail
from pipewright.store import arrivals, artifacts, decisions, details, history
from pipewright.store.records import Attempt, Decision, Delivery, Route, Run, Trigger

People = Mapping[str, Mapping[str, str]]
"""Connector → login → surrogate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the directory knows where the delivery arrived."""

    triggers: Sequence[Trigger] = ()
    predictor: Predictor | None = None
    control: Control | None = None
    """Runs on which nothing is done by what the predictor says."""
    forecaster: Forecaster | None = None
    duration_control: Control | None = None
    """The same for the forecaster."""
    judge: Judge | None = None
    cause_control: Control | None = None
    """The same for the judge."""

    def held(self, attempt: Attempt) -> Held:
        """Of which control groups the attempt's run is."""
        groups = (self.control, self.duration_control, self.cause_control)
        failure, duration, cause = (group is not None and group.has(attempt) for group in groups)
        return Held(failure=failure, duration=duration, cause=cause)


_KINDS: Final[Mapping[str, Any]] = {
    "runs": RunRecord,
    "jobs": JobRecord,
    "artifacts": ArtifactRecord,
    "details": Detail,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A delivery that was verified and mapped: what is stored of it, and what it says."""

    route: Route
    delivery: Delivery
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    """Compressed and encrypted."""
    records: Sequence[Record] = ()
    around: Surroundings = field(default_factory=Surroundings)
    key: arrivals.Key = field(init=False)
    """What makes it the same delivery when it comes again."""
    runs: Sequence[RunRecord] = field(init=False, default=())
    """What it says of runs."""
    jobs: Sequence[JobRecord] = field(init=False, default=())
    """What it says of jobs."""
    artifacts: Sequence[ArtifactRecord] = field(init=False, default=())
    """What it says of artifacts."""
    details: Sequence[Detail] = field(init=False, default=())
    """What it says of steps, tests, commits and deployments."""
    deciding: Sequence[RunRecord | JobRecord | ArtifactRecord] = field(init=False, default=())
    """The records that some trigger waits for."""
    asking: Set[Attempt] = field(init=False, default=frozenset())
    """The attempts that they are about."""
    reading: Set[Attempt] = field(init=False, default=frozenset())
    """The attempts whose rows somebody reads once they are merged: these, runs that have finished, and all
    that a model may be asked about."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.delivery.integration, self.delivery.delivery_id))
        for name, kind in _KINDS.items():
            if found := [record for record in self.records if isinstance(record, kind)]:
                object.__setattr__(self, name, found)
        if self.around.triggers:
            deciding = [
                it
                for it in self.records
                if not isinstance(it, Detail) and decide.concerned(self.around.triggers, it.type)
            ]
            asking = {self.attempt(it) for it in deciding if not isinstance(it, ArtifactRecord)}
            object.__setattr__(self, "deciding", deciding)
            object.__setattr__(self, "asking", asking)
        asked = self.around.predictor is not None or self.around.forecaster is not None
        read = {self.attempt(run) for run in self.runs if asked or run.phase == "finished"}
        object.__setattr__(self, "reading", read | self.asking)

    def attempt(self, record: RunRecord | JobRecord) -> Attempt:
        """The attempt that a record of it speaks of."""
        run = record.id if isinstance(record, RunRecord) else record.run
        return self.route.integration_uid, run, record.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a delivery."""

    duplicate: bool = False
    decisions: int = 0
    fired: int = 0


async def store(conn: psycopg.AsyncConnection, received: Sequence[Received], models: Models) -> list[Stored]:
    """Store the deliveries and all that follows from them; the caller's transaction makes it one."""
    stored: list[Stored] = []
    for turn in turns(received):
        stored += await _store(conn, turn, models)
    return stored


def turns(received: Sequence[Received]) -> Iterator[Sequence[Received]]:
    """The deliveries in their order, in parts: within one, none says what another one of it reads or writes.

    What is read is the attempt's row (`Received.reading`): who reads it may not be merged together with what
    another says of that attempt. Jobs nobody waits for only write, and so do runs until they have finished
    where no model is asked.
    """
    part: list[Received] = []
    keys, told, read = set[arrivals.Key](), set[Attempt](), set[Attempt]()
    for each in received:
        tells = {each.attempt(run) for run in each.runs}
        if each.key in keys or tells & read or each.reading & told:
            yield part
            part, keys, told, read = [], set(), set(), set()
        part.append(each)
        keys.add(each.key)
        told |= tells
        read |= each.reading
    if part:
        yield part


async def _store(conn: psycopg.AsyncConnection, received: Sequence[Received], models: Models) -> list[Stored]:
    new = await arrivals.take(conn, [_arrival(each) for each in received])
    fresh = [each for each in received if each.key in new and each.delivery.outcome == "stored"]
    made = await _follow(conn, fresh, models) if fresh else {}
    return [made.get(each.key, Stored(duplicate=each.key not in new)) for each in received]


def _arrival(received: Received) -> arrivals.Arrival:
    return arrivals.Arrival(
        delivery=received.delivery,
        body=received.body if received.delivery.outcome == "stored" else None,
        headers=received.headers,
    )


async def _follow(
    conn: psycopg.AsyncConnection, received: Sequence[Received], models: Models
) -> dict[arrivals.Key, Stored]:
    """What follows from deliveries that are new."""
    people = await _people(conn, received)
    known = await _merge(conn, received, people)
    await _keep_artifacts(conn, received, people)
    told = {each.key: _told(each, known) for each in received}
    asked = {attempt for each in received for attempt in each.asking}
    timed = {attempt for each in received if each.around.forecaster for attempt in each.asking}
    judged = {attempt for each in received if each.around.judge for attempt in each.asking}
    runs = [it for some in told.values() for it in some]
    book = await forecasts.open_book(conn, runs, asked=asked, timed=timed, judged=judged)
    wanted: list[decisions.Wanted] = []
    for each in received:
        for run in told[each.key]:
            await book.follow(run, models=models, now=each.delivery.received_at)
        wanted += await _decide(each, known, book, people.get(each.route.connector, {}))
    await book.write(conn)
    fires = await decisions.keep(conn, wanted) if wanted else []
    made = {each.key: Stored() for each in received}
    for kept, fired in zip(wanted, fires, strict=True):
        key = (kept.decision.integration, kept.decision.delivery_id)
        made[key] = Stored(decisions=made[key].decisions + 1, fired=made[key].fired + fired)
    return made


async def _people(conn: psycopg.AsyncConnection, received: Sequence[Received]) -> People:
    """The people in the records."""
    logins: dict[str, set[str]] = {}
    for each in received:
        named = logins.setdefault(each.route.connector, set())
        named.update(run.actor for run in each.runs)
        named.update(artifact.actor for artifact in each.artifacts)
        named.update(it.actor for it in each.details if isinstance(it, CommitRecord | DeploymentRecord))
    return {
        provider: await history.surrogates(conn, provider=provider, logins=names)
        for provider, names in sorted(logins.items())
    }


async def _merge(
    conn: psycopg.AsyncConnection, received: Sequence[Received], people: People
) -> Mapping[Attempt, Run]:
    """Merge what the records say into what is known; the rows of the runs that somebody reads."""
    runs = [
        history.run_row(
            run,
            integration=each.route.integration_uid,
            seen_at=each.delivery.received_at,
            actors=people[each.route.connector],
        )
        for each in received
        for run in each.runs
    ]
    jobs = [
        history.job_row(job, integration=each.route.integration_uid, seen_at=each.delivery.received_at)
        for each in received
        for job in each.jobs
    ]
    attempts = {each.attempt(run) for each in received for run in each.runs}
    attempts |= {each.attempt(job) for each in received for job in each.jobs}
    more = _detail_rows(received, people)
    if locked := {(integration, run) for integration, run, _ in attempts} | (
        details.runs(more) if more else set()
    ):
        await history.lock_runs(conn, locked)
    if more:
        await details.merge_rows(conn, more)
    if not attempts:
        return {}
    await history.merge_rows(conn, runs=runs, jobs=jobs)
    read = {attempt for each in received for attempt in each.reading}
    return await history.find_attempts(conn, read) if read else {}


def _detail_rows(received: Sequence[Received], people: People) -> details.Rows | None:
    """Rows of steps, tests, commits and deployments; None where nobody tells of any."""
    telling = [each for each in received if each.details]
    if not telling:
        return None
    return details.together(
        details.rows(
            each.details,
            integration=each.route.integration_uid,
            seen_at=each.delivery.received_at,
            actors=people[each.route.connector],
        )
        for each in telling
    )


def _told(received: Received, known: Mapping[Attempt, Run]) -> list[Told]:
    return [
        Told(
            row=known[received.attempt(run)],
            phase=run.phase,
            predictor=received.around.predictor,
            forecaster=received.around.forecaster,
            judge=received.around.judge,
        )
        for run in received.runs
        if received.attempt(run) in received.reading
    ]


async def _decide(
    received: Received, known: Mapping[Attempt, Run], book: Book, people: Mapping[str, str]
) -> list[decisions.Wanted]:
    """What each workflow decides on the delivery: of its records one that fires, else the first."""
    verdicts: dict[str, tuple[decide.Verdict, Event, Prediction | None]] = {}
    for record in received.deciding:
        event, prediction, held = _event(record, received, known, people), None, NOT_HELD
        if not isinstance(record, ArtifactRecord):
            prediction, held = _said(received, book, received.attempt(record))
        for verdict in decide.decide(received.around.triggers, event, prediction, held=held):
            before = verdicts.get(verdict.workflow_uid)
            if before is None or (verdict.fired and not before[0].fired):
                verdicts[verdict.workflow_uid] = (verdict, event, prediction)
            await asyncio.sleep(0)  # conditions are tenants' code: others have a turn after each workflow's
    return [_wanted(received, *found) for found in verdicts.values()]


def _said(received: Received, book: Book, attempt: Attempt) -> tuple[Prediction | None, Held]:
    """What models said of an attempt, but for those of whose control group it is; and these."""
    made, duration, cause = book.of(attempt), book.duration_of(attempt), book.cause_of(attempt)
    of = received.around.held(attempt)
    held = Held(
        failure=of.failure and "run" in made,
        duration=of.duration and duration is not None,
        cause=of.cause and cause is not None,
    )
    prediction = forecasts.as_prediction(
        {} if held.failure else made,
        None if held.duration else duration,
        None if held.cause else cause,
    )
    return prediction, held


async def _keep_artifacts(
    conn: psycopg.AsyncConnection, received: Sequence[Received], people: People
) -> None:
    """Keep what the records say of artifacts."""
    for each in received:
        if each.artifacts:
            await artifacts.keep(
                conn, each.artifacts, delivery=each.delivery, actors=people[each.route.connector]
            )


def _event(
    record: RunRecord | JobRecord | ArtifactRecord,
    received: Received,
    known: Mapping[Attempt, Run],
    people: Mapping[str, str],
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
    found = known.get(received.attempt(record))
    if isinstance(record, RunRecord):
        assert found is not None, "a run that was merged is there"
        return events.run_event(record, id=delivery, integration=name, actor=found.actor)
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


def _wanted(
    received: Received, verdict: decide.Verdict, event: Event, prediction: Prediction | None
) -> decisions.Wanted:
    """The decision as it is kept, with the WorkflowRun if it fires."""
    route = received.route
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
        decided_at=received.delivery.received_at,
    )
    if name is None:
        return decisions.Wanted(decision=decision)
    manifest = decide.manifest(verdict, event, namespace=route.namespace, name=name)
    return decisions.Wanted(decision=decision, manifest=manifest)
