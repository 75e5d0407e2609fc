"""Between rows and predictions: a run's row as the model knows it, and its lines of work, read and written.

Webhooks and imports go through here alike, so a history gives the same lines however it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import orjson
import psycopg

from ml import history
from ml.history import Outcome
from pipewright.store import lines as store
from pipewright.store.records import Run

LABELS = {"success": False, "failure": True}
"""Outcome → whether it failed; other outcomes say nothing about the code."""

_BREATH = 20
"""Lines after which other requests have a turn."""

Lines = Mapping[str, Sequence[Outcome]]
"""Scope → the last outcomes."""
RunKey = tuple[str, str, int]
"""Integration, the provider's id, attempt."""
Names = Mapping[RunKey, Sequence[store.Line]]
"""The lines of runs: they are asked for more than once."""


def run_of(row: Run) -> history.Run:
    """The attempt as the model judges it; one that is only queued counts as starting now.

    When a first attempt was queued stands from the first delivery on, so that `judged_at` is the same moment
    whatever was heard first, and the one that training takes from the data window.
    """
    began = row.started_at or row.queued_at or row.seen_at
    return history.Run(
        integration=row.integration,
        project=row.project,
        pipeline=row.pipeline,
        event=row.trigger,
        branch=row.branch,
        actor=row.actor,
        sha=row.sha,
        run_id=row.provider_id,
        attempt=row.attempt,
        started_at=began.timestamp(),
        queued_at=row.queued_at.timestamp() if row.queued_at else None,
    )


def outcome_of(row: Run) -> Outcome | None:
    """What is remembered of the attempt; None while it runs, and of outcomes that are no label."""
    if row.finished_at is None or row.outcome not in LABELS:
        return None
    return Outcome(
        run=row.provider_id,
        attempt=row.attempt,
        sha=row.sha,
        started_at=(row.started_at or row.finished_at).timestamp(),
        finished_at=row.finished_at.timestamp(),
        failed=LABELS[row.outcome],
        project=row.project,
        pipeline=row.pipeline,
    )


async def read(conn: psycopg.AsyncConnection, run: history.Run) -> Lines:
    """The run's lines of work as they stand."""
    return (await hold(conn, written=(), read=[run])).of(run)


class Kept:
    """Lines of work of many runs, which may have no ids yet; each was read once."""

    def __init__(self, rows: Mapping[store.Line, Sequence[history.Row]]) -> None:
        self._rows = rows
        self._understood: dict[store.Line, tuple[Outcome, ...]] = {}

    def of(self, run: history.Run) -> Lines:
        """The run's lines as they were read."""
        return {line[0]: self._outcomes(line) for line in history.lines(run).items()}

    def _outcomes(self, line: store.Line) -> tuple[Outcome, ...]:
        if line not in self._understood:
            self._understood[line] = history.decode(self._rows[line])
        return self._understood[line]


async def read_many(conn: psycopg.AsyncConnection, runs: Iterable[history.Run]) -> Kept:
    """The lines of work of several runs as they stand."""
    return Kept(await store.read_lines(conn, {line for run in runs for line in history.lines(run).items()}))


class Held:
    """Lines of work that are at hand for runs that come one after the other, and are written once.

    They stay as they are kept until somebody scores by them: to understand a line takes longer than to
    remember one outcome more.
    """

    def __init__(self, kept: Mapping[store.Line, Sequence[history.Row]], names: Names) -> None:
        """`names` has the lines of each run that will be asked for."""
        self._rows = dict(kept)
        self._names = names
        self._understood: dict[store.Line, tuple[Outcome, ...]] = {}
        self._changed = set[store.Line]()

    def of(self, run: history.Run) -> Lines:
        """The run's lines as they stand now."""
        return {line[0]: self._outcomes(line) for line in self._lines(run)}

    def insert(self, run: history.Run, outcome: Outcome) -> None:
        """Put the outcome in its place in the run's lines; they were read to be written."""
        row = history.row_of(outcome)
        for line in self._lines(run):
            before = self._rows[line]
            now = history.insert_row(before, row)
            if now != before:
                self._rows[line] = now
                self._understood.pop(line, None)
                self._changed.add(line)

    async def write(self, conn: psycopg.AsyncConnection) -> None:
        """Write those that have changed."""
        if self._changed:
            lines = {line: orjson.dumps(self._rows[line]).decode() for line in self._changed}
            await store.write_lines(conn, lines)
            self._changed.clear()

    def _lines(self, run: history.Run) -> Sequence[store.Line]:
        # of the next attempt are those of this one
        return self._names.get(_key(run)) or tuple(history.lines(run).items())

    def _outcomes(self, line: store.Line) -> tuple[Outcome, ...]:
        found = self._understood.get(line)
        if found is None:
            found = self._understood[line] = history.decode(self._rows[line])
        return found


def _key(run: history.Run) -> RunKey:
    return run.integration, run.run_id, run.attempt


async def hold(
    conn: psycopg.AsyncConnection, *, written: Iterable[history.Run], read: Iterable[history.Run]
) -> Held:
    """The lines of all these runs; nobody else changes those of `written` until the transaction ends."""
    names: dict[RunKey, Sequence[store.Line]] = {}
    changing, reading = set[store.Line](), set[store.Line]()
    for runs, wanted in ((written, changing), (read, reading)):
        for run in runs:
            names[_key(run)] = lines = tuple(history.lines(run).items())
            wanted.update(lines)
    found = {
        **(await store.read_lines(conn, changing, lock=True) if changing else {}),
        **(await store.read_lines(conn, reading - changing) if reading - changing else {}),
    }
    return Held(found, names)


def gather(rows: Iterable[Run], *, into: dict[store.Line, list[Outcome]]) -> None:
    """Add the outcomes of these attempts to what is gathered for `insert_many`."""
    for row in rows:
        if (outcome := outcome_of(row)) is not None:
            for line in history.lines(run_of(row)).items():
                into.setdefault(line, []).append(outcome)


async def insert_many(
    conn: psycopg.AsyncConnection, gathered: Mapping[store.Line, Sequence[Outcome]], *, batch: int = 500
) -> None:
    """The outcomes of many finished attempts into their lines.

    Lines are locked in one order, like those of webhooks, so that neither waits for the other crosswise.
    """
    names = sorted(gathered)
    for at in range(0, len(names), batch):
        part = names[at : at + batch]
        known = await store.read_lines(conn, part, lock=True)
        written = {}
        for number, line in enumerate(part):
            written[line] = history.encode(_inserted(known[line], gathered[line]))
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        await store.write_lines(conn, written)


def _inserted(stored: Sequence[Sequence[object]], outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    newest = {(each.run, each.attempt): each for each in outcomes}
    line = tuple(each for each in history.decode(stored) if (each.run, each.attempt) not in newest)
    # Of a long history only the newest can stay: the rest need not be put in and pushed out again.
    for outcome in sorted(newest.values(), key=lambda each: each.finished_at)[-history.LIMIT :]:
        line = history.insert(line, outcome)
    return line
