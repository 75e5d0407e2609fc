"""The same servers for Models: Ray behind a proxy, a tenant with a history, and hands on what trains."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from psycopg.rows import dict_row

from dev import process, simulator, throwaway, web
from dev.faults.runner_rig import HOME, RunnerRig
from dev.faults.world import Subject
from dev.faults.writes import Call, Refuse, Treatment, Write
from dev.problem import Problem
from dev.stack import Stack
from ml import contract
from pipewright.records import RunRecord, parse_record
from pipewright.store import connect, history, imports

RUNS = 900
"""Of the simulator: enough for a model that is little better than none, and trained in a second or two."""
INTEGRATION = "0a0a0a0a-0000-4000-8000-000000000001"
MODELS = f"/apis/pipewright.dev/v1alpha1/namespaces/{HOME}/models"
_TRAINS = ["-m", "ml.train"]
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class Forgetful:
    """The cluster never has the package, so that each training uploads it, and that can be met by a fault.

    A real one forgets it some minutes after the last job, which no two plays of a story would agree on.
    """

    def meet(self, call: Call, write: Write | None) -> Treatment | None:
        """Answer 404 to who asks for the package."""
        return Refuse(404) if call.label.startswith("ray: GET packages/") else None


class ModelRig(RunnerRig):
    """Faults happen to the runner, and to what trains for it."""

    kind = "Model"
    unused = frozenset[str]()

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, ray=stack.layout.ray_address)
        self.switch.standing = Forgetful()
        self.store = stack.folder / "artifacts"
        self.store.mkdir()
        self.spare: list[tuple[int, Subject]] = []
        """Models that were judged and found good, with how often each was trained: a story may begin so."""

    def path(self, name: str) -> str:
        """Where the API server has the Model of this name."""
        return f"{MODELS}/{name}"

    def adapt(self, settings: dict[str, Any]) -> None:
        """Ray and the tenants' databases are reached by their proxies only."""
        settings["ray"]["address"] = f"http://127.0.0.1:{self.proxies.ports['ray']}"
        for server in settings["servers"]:
            server |= {"host": "127.0.0.1", "port": self.proxies.ports["postgres"]}

    def settle_in(self) -> None:
        """Start Ray, a provisioner, and a tenant with a history."""
        with ThreadPoolExecutor(max_workers=1) as beside:
            started = beside.submit(self.stack.parts.ray)
            self.settle_tenant()
            asyncio.run(self._bring())
            started.result()

    async def _bring(self) -> None:
        """Import runs, as the gateway does."""
        until = datetime.now(UTC).replace(microsecond=0)
        told = (it for it in simulator.recent(until=until, runs=RUNS) if it["type"] == "run")
        runs = [run for run in map(parse_record, told) if isinstance(run, RunRecord)]
        info = connect.conninfo(self.database.admin_dsn, dbname=f"pw_{self.tenant_id}")
        conn = await connect.connect(info, where="the tenant's database")
        try:
            async with conn.transaction():
                actors = await history.surrogates(conn, provider="github", logins={it.actor for it in runs})
                seen = datetime.now(UTC)
                await imports.import_runs(conn, runs, integration=INTEGRATION, seen_at=seen, actors=actors)
        finally:
            await conn.close()

    def take(self, *attempts: int) -> Subject | None:
        """A spare Model that was trained so often."""
        found = next((each for each in self.spare if each[0] in attempts), None)
        if found is None:
            return None
        self.spare.remove(found)
        return found[1]

    # -- the journal ---------------------------------------------------------------------------------------

    def trainings(self, uid: str) -> list[dict[str, Any]]:
        """A model's attempts as the journal has them, the first first."""
        return self.rows("SELECT * FROM pipewright.trainings WHERE model_uid = %s ORDER BY attempt", uid)

    def rows(self, statement: str, *values: str, database: str = "") -> list[dict[str, Any]]:
        """Rows of the tenant's database, or of another."""
        with (
            self.using(database or f"pw_{self.tenant_id}") as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            return cursor.execute(statement, values).fetchall()

    def age(self, uid: str, *, by: str) -> None:
        """Let a model's attempts have begun and ended earlier than they did."""
        with self.using(f"pw_{self.tenant_id}") as conn:
            conn.execute(
                "UPDATE pipewright.trainings SET started_at = started_at - %s::interval,"
                " finished_at = finished_at - %s::interval WHERE model_uid = %s",
                [by, by, uid],
            )

    # -- the store -----------------------------------------------------------------------------------------

    def home(self, uid: str) -> Path:
        """Where a model's files lie."""
        return self.store / self.tenant_id / "models" / uid

    def drafts(self) -> list[Path]:
        """Files that were begun and never moved to their place."""
        return sorted(path for path in self.store.rglob(".*"))

    # -- Ray -----------------------------------------------------------------------------------------------

    def jobs(self, uid: str = "") -> list[dict[str, Any]]:
        """What Ray knows of a model's jobs, or of all that have not ended."""
        known = [(job.get("metadata") or {}, job) for job in self.ask_ray("GET", "jobs/")]
        if uid:
            return [job for metadata, job in known if metadata.get("model") == uid]
        return [job for metadata, job in known if "model" in metadata and job["status"] not in ENDED]

    def ask_ray(self, method: str, path: str) -> Any:
        """Past the proxies, with the token: a call of the Jobs API."""
        token = (self.stack.folder / "ray.token").read_text().strip()
        address = f"{self.stack.layout.ray_address}/api/{path}"
        return web.demand(address, method=method, headers={"Authorization": f"Bearer {token}"})

    def drivers(self, uid: str = "") -> list[psutil.Process]:
        """The processes that train, of a model or of all."""
        found = []
        for each in process.leftovers(self.stack.folder, "ray"):
            with contextlib.suppress(psutil.Error):
                if each.cmdline()[-2:] == _TRAINS and uid in _job_of(each):
                    found.append(each)
        return found

    def driver(self, uid: str, *, within: float = 60.0) -> psutil.Process:
        """The process that trains a model, as soon as there is one."""
        (found,) = self.until(lambda: self.drivers(uid) or None, within=within, says="a job trains")
        return found

    def supervisor(self, driver: psutil.Process) -> psutil.Process:
        """Ray's process that started the driver, and answers for it."""
        found = next((it for it in driver.parents() if it.cmdline()[:1] != ["/bin/sh"]), None)
        if found is None:
            raise Problem("the training has no parent: did its supervisor die?")
        return found

    def end_ray(self) -> None:
        """SIGKILL to the head and to all that belongs to it; with it goes what it knew of jobs."""
        if self.stack.running("ray"):
            self.stack.kill("ray", signal.SIGKILL)
        process.end_leftovers(self.stack.folder, "ray")

    def start_ray(self) -> None:
        """A new head, on the old port."""
        self.stack.start("ray")

    def mend(self) -> None:
        """Every server runs and answers again, and nobody trains."""
        for each in self.drivers():
            with contextlib.suppress(psutil.Error):
                each.kill()
        super().mend()


def _job_of(driver: psutil.Process) -> str:
    """What it was told: JSON, with the model's UID in its addresses."""
    text = driver.environ().get(contract.JOB_VARIABLE, "")
    return json.dumps(json.loads(base64.b64decode(text))) if text else ""


@contextmanager
def gate(path: Path) -> Iterator[Path]:
    """In a file's place something that whoever opens it waits at: a pipe that nobody holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def model_rig() -> Iterator[ModelRig]:
    """Servers of our own, gone afterwards."""
    with throwaway.stack() as stack:
        made = ModelRig(stack)
        try:
            made.settle_in()
            yield made
        finally:
            made.close()
