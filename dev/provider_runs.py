"""What the provider simulator does by itself: plays runs, and has their webhooks delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dev.github_payloads import Record, github_events
from dev.provider_hooks import Deliveries


@dataclass(slots=True, kw_only=True)
class Run:
    """A run and the script of its attempts: each the run's record, then its jobs', as history has them."""

    attempts: Sequence[Sequence[Record]]
    delay: float
    """Seconds between what happens."""
    played: int = 0
    playing: bool = False
    shown: Record = field(default_factory=dict)
    """The workflow_run object of the REST API."""

    @property
    def id(self) -> str:
        """The provider's id."""
        return str(self.attempts[0][0]["id"])

    @property
    def project(self) -> str:
        """owner/repository."""
        return str(self.attempts[0][0]["project"])

    @property
    def summary(self) -> dict[str, Any]:
        """How it stands."""
        return {
            "id": self.id,
            "project": self.project,
            "attempt": self.played,
            "status": self.shown.get("status"),
            "conclusion": self.shown.get("conclusion"),
        }


class Runs:
    """The runs that were registered; each plays one attempt at a time."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._runs: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def all(self) -> list[Run]:
        """Every run, in the order of registration."""
        return list(self._runs.values())

    def find(self, project: str, run: str) -> Run | None:
        """A project's run by its id."""
        return self._runs.get((project, run))

    def add(self, attempts: Sequence[Sequence[Record]], *, delay: float) -> Run:
        """Register a run; nothing happens until it is played."""
        run = Run(attempts=attempts, delay=delay)
        self._runs[run.project, run.id] = run
        return run

    def play(self, run: Run) -> None:
        """Start the next attempt; past the last of the script the last one repeats."""
        script = run.attempts[min(run.played, len(run.attempts) - 1)]
        run.played += 1
        if run.played > len(run.attempts):  # a job's id is never used twice
            script = [_renumbered(record, by=run.played) for record in script]
        run.playing = True
        task = asyncio.create_task(self._play(run, script, attempt=run.played))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what still plays."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _play(self, run: Run, script: Sequence[Record], *, attempt: int) -> None:
        """requested → jobs queued → in progress → jobs completed → completed, each after the delay."""
        scripted, *jobs = ({**record, "attempt": attempt} for record in script)
        live = _bare(scripted)
        try:
            await self._happen(run, live, at="queuedAt")
            begun = [{**_bare(job)} for job in jobs]
            for job in begun:
                await self._happen(run, job, at="queuedAt", of=live)
            await asyncio.sleep(run.delay)
            await self._happen(run, live, at="startedAt")
            for job in begun:
                await self._happen(run, job, at="startedAt", of=live)
            for job, told in zip(begun, jobs, strict=True):
                await asyncio.sleep(run.delay)
                job["outcome"] = told["outcome"]
                await self._happen(run, job, at="finishedAt", of=live)
            live["outcome"] = scripted["outcome"]
            # Over before it is told: whoever hears "completed" may ask for a re-run at once.
            run.playing = False
            await self._happen(run, live, at="finishedAt")
        finally:
            run.playing = False

    async def _happen(self, run: Run, record: Record, *, at: str, of: Record | None = None) -> None:
        """Stamp the record, and deliver what GitHub would."""
        record[at] = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event, payload = github_events(record, run=of)[-1]
        if of is None:
            run.shown = payload["workflow_run"]
        await self._deliveries.send(event, payload)


def _renumbered(record: Record, *, by: int) -> Record:
    return (
        {**record, "id": str(int(record["id"]) + 1_000_000_000 * by)} if record["type"] == "job" else record
    )


def _bare(record: Record) -> Record:
    """The record before anything happened to it."""
    told = {"phase", "outcome", "queuedAt", "startedAt", "finishedAt"}
    return {name: value for name, value in record.items() if name not in told}
