"""Between rows and predictions: a run's row as the model knows it, and its lines of work, read and written.

Webhooks and imports go through here alike, so a history gives the same lines however it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

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


class Held:
    """Lines of work that are at hand for runs that come one after the other, and are written once."""

    def __init__(self, known: Mapping[store.Line, tuple[Outcome, ...]]) -> None:
        self._known = dict(known)
        self._before = dict(known)

    def of(self, run: history.Run) -> Lines:
        """The run's lines as they stand now."""
        return {scope: self._known[scope, key] for scope, key in history.lines(run).items()}

    def insert(self, run: history.Run, outcome: Outcome) -> None:
        """Put the outcome in its place in the run's lines; they were read to be written."""
        for line in history.lines(run).items():
            self._known[line] = history.insert(self._known[line], outcome)

    async def write(self, conn: psycopg.AsyncConnection) -> None:
        """Write those that have changed."""
        changed = {line: now for line, now in self._known.items() if now != self._before[line]}
        if changed:
            await store.write_lines(conn, {line: history.encode(now) for line, now in changed.items()})
            self._before |= changed


async def hold(
    conn: psycopg.AsyncConnection, *, written: Iterable[history.Run], read: Iterable[history.Run]
) -> Held:
    """The lines of all these runs; nobody else changes those of `written` until the transaction ends."""
    changing = {line for run in written for line in history.lines(run).items()}
    reading = {line for run in read for line in history.lines(run).items()} - changing
    found = {
        **(await store.read_lines(conn, changing, lock=True) if changing else {}),
        **(await store.read_lines(conn, reading) if reading else {}),
    }
    return Held({line: history.decode(outcomes) for line, outcomes in found.items()})


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
