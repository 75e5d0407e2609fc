"""An imported history: NDJSON of runs and jobs, read and checked whole, then one transaction.

The first pass reads the body line by line and refuses the first line that is wrong, by its number, before
the database is touched. The second writes in batches through the same merge as webhooks, and puts the
outcomes into their lines of work. The same file again changes nothing: a broken import is sent again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import psycopg
from starlette.requests import Request

from gateway import lines as work
from gateway import reading
from gateway.databases import Databases
from gateway.limits import Lanes
from gateway.metrics import Metrics
from gateway.problems import Problem
from ml.history import Outcome
from pipewright import errors, events
from pipewright.events import JobRecord, Record, RecordError, RunRecord
from pipewright.ports import Clock
from pipewright.runtime import logs, tracing
from pipewright.store import history, imports
from pipewright.store.lines import Line
from pipewright.store.records import Route

log = logs.get(__name__)

LONGEST_LINE = 64 * 1024
BATCH = 2000
"""Records that are merged at once."""
BREATH = 100
"""Records after which other requests have a turn."""
TRIES = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How much there was."""

    runs: int
    jobs: int
    lines: int
    """Lines of work that got an outcome."""


@dataclass(slots=True, kw_only=True)
class _Checked:
    """A body after the first pass: its lines are good."""

    lines: list[bytes] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)


class Imports:
    """Takes histories, a few at a time."""

    def __init__(
        self, *, databases: Databases, clock: Clock, metrics: Metrics, max_body: int, at_once: int = 2
    ) -> None:
        self._databases = databases
        self._clock = clock
        self._metrics = metrics
        self._max_body = max_body
        self._lanes = Lanes(places=2, working=1, patience=60.0)
        self._places = asyncio.Semaphore(at_once)

    async def receive(self, route: Route, request: Request) -> Imported:
        """Import the request's body into the Integration's history.

        Raises:
            Problem: 422 names the line that is wrong; 413 the body is too big; 503 not now.
            BackendError: the tenant's database did not answer; nothing was written.
        """
        reading.check_length(request, limit=self._max_body)
        async with self._lanes.enter(route.tenant_id), self._lanes.work(route.tenant_id), self._places:
            checked = await self._check(route, request)
            with tracing.span("history.import"):
                imported = await self._commit(route, checked)
        self._metrics.imported.labels("run").inc(imported.runs)
        self._metrics.imported.labels("job").inc(imported.jobs)
        log.info(
            "history imported",
            namespace=route.namespace, integration=route.integration, runs=imported.runs, jobs=imported.jobs,
        )  # fmt: skip
        return imported

    async def _check(self, route: Route, request: Request) -> _Checked:
        checked, number = _Checked(), 0
        async for line in reading.lines(request, limit=self._max_body, longest=LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            record = _record(line, number=number, projects=route.projects)
            if isinstance(record, RunRecord) and record.actor:
                checked.logins.add(record.actor)
            checked.lines.append(line)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return checked

    async def _commit(self, route: Route, checked: _Checked) -> Imported:
        for left in reversed(range(TRIES)):
            try:
                async with self._databases.transaction(route.tenant_id) as conn:
                    return await self._write(conn, route, checked)
            except errors.Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _write(self, conn: psycopg.AsyncConnection, route: Route, checked: _Checked) -> Imported:
        integration, now = route.integration_uid, self._clock.now()
        actors = await history.surrogates(conn, provider=route.connector, logins=checked.logins)
        gathered: dict[Line, list[Outcome]] = {}
        runs = jobs = 0
        for part in _batches(checked.lines):
            records: list[Record] = []
            async for some in _slowly(part):
                records += [_parsed(line) for line in some]
            of_runs = [record for record in records if isinstance(record, RunRecord)]
            of_jobs = [record for record in records if isinstance(record, JobRecord)]
            if of_runs:
                runs += await imports.import_runs(
                    conn, of_runs, integration=integration, seen_at=now, actors=actors
                )
                attempts = {(run.id, run.attempt) for run in of_runs if run.phase == "finished"}
                found = await history.find_runs(conn, integration=integration, attempts=attempts)
                async for rows in _slowly(list(found.values())):
                    work.gather(rows, into=gathered)
            if of_jobs:
                jobs += await imports.import_jobs(conn, of_jobs, integration=integration, seen_at=now)
        await work.insert_many(conn, gathered)
        return Imported(runs=runs, jobs=jobs, lines=len(gathered))


def _batches(items: Sequence[T], *, size: int = BATCH) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def _slowly(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """The items in small parts, with a turn for other requests after each."""
    for part in _batches(items, size=BREATH):
        yield part
        await asyncio.sleep(0)


def _record(line: bytes, *, number: int, projects: Sequence[str]) -> Record:
    """The record on a line.

    Raises:
        Problem: 422, with the line's number and what is wrong there.
    """
    try:
        record = _parsed(line)
    except RecordError as error:
        raise _wrong(number, str(error)) from None
    except (ValueError, RecursionError):
        raise _wrong(number, "must be a JSON object in UTF-8") from None
    if projects and record.project not in projects:
        raise _wrong(number, "project: is not among the Integration's projects")
    return record


def _parsed(line: bytes) -> Record:
    return events.parse_record(json.loads(line, parse_constant=_no_constant))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _wrong(number: int, problem: str) -> Problem:
    return Problem(422, "InvalidRecord", f"line {number}: {problem}", line=number)
