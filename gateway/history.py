"""An imported history: NDJSON of records, read and checked whole, then stored part by part.

The first pass reads the body line by line and refuses the first line that is wrong, by its number, before
the database is touched. The second stores each part in a transaction of its own, so that webhooks of the
Integration wait for a part and not for the whole: through the same merge as theirs, and with the outcomes in
their lines of work, which keep the order of time whatever comes first. So every part that is stored is right
by itself, and the same file again changes nothing: an import that broke is sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import psycopg
from starlette.requests import Request

from gateway import lines as work
from gateway import problems, reading
from gateway.databases import Databases
from gateway.limits import Lanes
from gateway.metrics import Metrics
from gateway.problems import Problem
from ml.history import Outcome
from pipewright import errors, events
from pipewright.events import ArtifactRecord, JobRecord, Record, RecordError, RunRecord
from pipewright.ports import Clock
from pipewright.records import Detail, StepRecord, TestRecord
from pipewright.runtime import logs, tracing
from pipewright.store import history, imports
from pipewright.store.lines import Line
from pipewright.store.records import Route

log = logs.get(__name__)

LONGEST_LINE = 64 * 1024
BATCH = 2000
"""Records that are stored in one transaction."""
BREATH = 100
"""Records after which other requests have a turn."""
TRIES = 3
PATIENCE = 60.0
"""Seconds to wait for one's turn."""
ROOM = 4
"""So many of the largest bodies may be in memory, those of all tenants together."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How much there was."""

    records: Mapping[str, int]
    """By type."""
    passed_over: int
    """Steps and tests of them that are too old to be kept."""
    lines: int
    """Lines of work that got an outcome."""


@dataclass(slots=True)
class _Part:
    """Lines that are good and are stored together."""

    lines: list[bytes] = field(default_factory=list)
    last: int = 0
    """The number of the last of them in the body."""


@dataclass(slots=True)
class _Progress:
    """How much is stored so far."""

    records: Counter[str] = field(default_factory=Counter)
    passed_over: int = 0
    line: int = 0
    """All of the body up to this line."""
    touched: set[Line] = field(default_factory=set)


@dataclass(slots=True)
class _Held:
    """How much of a body is in memory."""

    bytes: int = 0


class Imports:
    """Takes histories, a few at a time."""

    def __init__(
        self, *, databases: Databases, clock: Clock, metrics: Metrics, max_body: int, at_once: int = 2
    ) -> None:
        self._databases = databases
        self._clock = clock
        self._metrics = metrics
        self._max_body = max_body
        self._lanes = Lanes(places=2, working=1, patience=PATIENCE)
        self._places = asyncio.Semaphore(at_once)
        self._room = ROOM * max_body

    async def receive(self, route: Route, request: Request) -> Imported:
        """Import the request's body into the Integration's history.

        Raises:
            Problem: 422 names the line that is wrong; 413 the body is too big; 503 not now. When it was being
                stored, `stored` says up to which line it is.
        """
        reading.check_length(request, limit=self._max_body)
        done, held = _Progress(), _Held()
        async with self._lanes.enter(route.tenant_id), self._lanes.work(route.tenant_id):
            try:
                parts = await self._check(route, request, held)
                async with self._place():
                    await self._store_parts(route, parts, done)
            finally:
                self._room += held.bytes
        log.info(
            "history imported",
            namespace=route.namespace, integration=route.integration, records=dict(done.records),
        )  # fmt: skip
        return Imported(records=done.records, passed_over=done.passed_over, lines=len(done.touched))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the places to store, which all tenants share: only with a body that is here and good.

        Raises:
            Problem: 503, none came free in time.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            raise problems.unavailable("Busy", "other imports are under way; try again", after=30) from None
        try:
            yield
        finally:
            self._places.release()

    async def _check(self, route: Route, request: Request, held: _Held) -> list[_Part]:
        """The body in parts, all lines of it good; blank ones are left out.

        Raises:
            Problem: as `receive` says; 503 when the bodies of all imports together are too much.
        """
        parts, number, now = [_Part()], 0, self._clock.now()
        async for line in reading.lines(request, limit=self._max_body, longest=LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            _record(line, number=number, projects=route.projects, now=now)
            if len(parts[-1].lines) == BATCH:
                parts.append(_Part())
            if len(line) > self._room:
                raise problems.unavailable("Busy", "other imports are under way; try again", after=30)
            self._room -= len(line)
            held.bytes += len(line)
            parts[-1].lines.append(line)
            parts[-1].last = number
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return parts

    async def _store_parts(self, route: Route, parts: Sequence[_Part], done: _Progress) -> None:
        try:
            with tracing.span("history.import"):
                await self._store(route, parts, done)
        except (Problem, errors.BackendError, errors.Waiting) as error:
            log.warning("a history was imported in part", line=done.line, **logs.describe(error))
            raise _partly(problems.from_error(error), done) from None

    async def _store(self, route: Route, parts: Sequence[_Part], done: _Progress) -> None:
        # The moment of receipt decides between equal sayings: what a webhook told meanwhile is newer.
        received_at = self._clock.now()
        for part in parts:
            records = await _records(part)
            touched, passed_over = await self._commit(route, records, received_at=received_at)
            kinds = Counter(_kind(record) for record in records)
            done.records, done.passed_over, done.line = (
                done.records + kinds,
                done.passed_over + passed_over,
                part.last,
            )
            done.touched |= touched
            for kind, count in kinds.items():
                self._metrics.imported.labels(kind).inc(count)

    async def _commit(
        self, route: Route, records: Sequence[Record], *, received_at: datetime
    ) -> tuple[set[Line], int]:
        """The transaction of a part; once more when another one was in the way.

        The lines that it changed, and how many records were passed over.
        """
        for left in reversed(range(TRIES)):
            try:
                async with self._databases.transaction(route.tenant_id) as conn:
                    return await _write(conn, route, records, received_at=received_at)
            except errors.Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")


async def _write(
    conn: psycopg.AsyncConnection, route: Route, records: Sequence[Record], *, received_at: datetime
) -> tuple[set[Line], int]:
    integration = route.integration_uid
    runs = [record for record in records if isinstance(record, RunRecord)]
    jobs = [record for record in records if isinstance(record, JobRecord)]
    rest = [record for record in records if isinstance(record, Detail)]
    logins = {it.actor for it in (*runs, *rest) if not isinstance(it, StepRecord | TestRecord)}
    actors = await history.surrogates(conn, provider=route.connector, logins=logins)
    gathered: dict[Line, list[Outcome]] = {}
    if runs:
        await imports.import_runs(conn, runs, integration=integration, seen_at=received_at, actors=actors)
        attempts = {(run.id, run.attempt) for run in runs if run.phase == "finished"}
        found = await history.find_runs(conn, integration=integration, attempts=attempts)
        async for some in _slowly(list(found.values())):
            work.gather(some, into=gathered)
    if jobs:
        await imports.import_jobs(conn, jobs, integration=integration, seen_at=received_at)
    kept = await imports.import_details(
        conn, rest, integration=integration, seen_at=received_at, actors=actors
    )
    await work.insert_many(conn, gathered)
    return set(gathered), len(rest) - kept


async def _records(part: _Part) -> list[Record]:
    """What the part's lines say. Of the first pass the bytes are kept only: they are smaller."""
    records: list[Record] = []
    async for some in _slowly(part.lines):
        records += [_parsed(line) for line in some]
    return records


def _kind(record: Record) -> str:
    return "run" if isinstance(record, RunRecord) else "job" if isinstance(record, JobRecord) else record.type


async def _slowly(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """The items in small parts, with a turn for other requests after each."""
    for at in range(0, len(items), BREATH):
        yield items[at : at + BREATH]
        await asyncio.sleep(0)


def _record(line: bytes, *, number: int, projects: Sequence[str], now: datetime) -> Record:
    """The record on a line.

    Raises:
        Problem: 422, with the line's number and what is wrong there.
    """
    try:
        record = _parsed(line)
        events.not_from_the_future(record, now=now)
    except RecordError as error:
        raise _wrong(number, str(error)) from None
    except (ValueError, RecursionError):
        raise _wrong(number, "must be a JSON object in UTF-8") from None
    if projects and record.project not in projects:
        raise _wrong(number, "project: is not among the Integration's projects")
    return record


def _parsed(line: bytes) -> Record:
    record = events.parse_record(json.loads(line, parse_constant=_no_constant))
    if isinstance(record, ArtifactRecord):
        raise RecordError("type", "must be run, job, step, test, commit or deployment")
    return record


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _wrong(number: int, problem: str) -> Problem:
    return Problem(422, "InvalidRecord", f"line {number}: {problem}", line=number)


def _partly(problem: Problem, done: _Progress) -> Problem:
    """The problem, with how far the import came."""
    far = f"it is stored up to line {done.line}" if done.line else "nothing is stored"
    members: dict[str, Any] = {**problem.members, "stored": done.line}
    return Problem(
        problem.status, problem.reason, f"{problem.detail}; {far}", headers=problem.headers, **members
    )
