"""What the provider simulator does by itself: plays runs, and delivers their webhooks signed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from dev.github_payloads import Record, github_events

_ANSWER_WITHIN = aiohttp.ClientTimeout(total=10)
"""GitHub gives a receiver ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where webhooks go, and the secret that signs them. Without a project: those of every project."""

    url: str
    secret: str = field(repr=False)
    project: str = ""


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One webhook to one hook: the same id and bytes however often it is sent."""

    id: str
    event: str
    action: str
    project: str
    run: str
    """The run's id and attempt that a `workflow_run` is about; empty and 0 for others."""
    attempt: int
    body: bytes = field(repr=False)
    hook: Hook
    codes: list[int] = field(default_factory=list)
    """The receiver's answers; 0 for none."""


class Deliveries:
    """The webhooks that were sent, and the one client that sends them."""

    def __init__(self) -> None:
        self._hooks: dict[tuple[str, str], Hook] = {}
        self._sent: dict[str, Delivery] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Every delivery with the answers that it got."""
        return [
            {
                "id": sent.id,
                "event": sent.event,
                "action": sent.action,
                "project": sent.project,
                "run": sent.run,
                "attempt": sent.attempt,
                "url": sent.hook.url,
                "codes": sent.codes,
            }
            for sent in self._sent.values()
        ]

    def register(self, hook: Hook) -> None:
        """Deliver to this hook from now on; the same address and project again changes its secret."""
        self._hooks[hook.url, hook.project] = hook

    async def send(self, event: str, payload: Record) -> list[int]:
        """Deliver a payload to every hook of its project; gives the receivers' answers."""
        project = payload.get("repository", {}).get("full_name", "")
        run = payload.get("workflow_run", {})
        body = json.dumps(payload, separators=(",", ":")).encode()
        hooks = [hook for hook in self._hooks.values() if hook.project in ("", project)]
        return [
            await self._post(
                Delivery(
                    id=str(uuid.uuid4()),
                    event=event,
                    action=payload.get("action", ""),
                    project=project,
                    run=str(run.get("id", "")),
                    attempt=run.get("run_attempt", 0),
                    body=body,
                    hook=hook,
                )
            )
            for hook in hooks
        ]

    async def again(self, delivery_id: str) -> list[int]:
        """Send a delivery once more; nothing if there is none with this id."""
        found = self._sent.get(delivery_id)
        return [await self._post(found)] if found else []

    async def _post(self, delivery: Delivery) -> int:
        self._sent[delivery.id] = delivery
        hook = self._hooks[delivery.hook.url, delivery.hook.project]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/simulated",
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Event": delivery.event,
            "X-Hub-Signature-256": signature(hook.secret, delivery.body),
        }
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_ANSWER_WITHIN, trust_env=False)
        try:
            async with self._session.post(hook.url, data=delivery.body, headers=headers) as answer:
                code = answer.status
        except (aiohttp.ClientError, TimeoutError):
            code = 0
        delivery.codes.append(code)
        return code

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()


def signature(secret: str, body: bytes) -> str:
    """The value of X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


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
