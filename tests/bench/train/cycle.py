"""A Model from due to promoted on the real stack, less Ray's own start of a job.

the Model is applied ─ look ─ export ─ submit ─► Ray starts the job ─ train ─► noticed ─ promoted
"""

from __future__ import annotations

import json
import statistics
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from dev.parts import Ray
from dev.web import demand
from ml import contract
from tests.bench import sites
from tests.bench.lines import figure, say

WITHIN = 300.0
LOOK = 0.05
"""Seconds between two looks at the pointer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """Seconds of one cycle's parts, which follow each other, and of an empty job beside it."""

    look: float
    """Until the controller has decided to begin: it hears of the Model, and counts its runs."""
    export: float
    """The window read from the tenant's database, written as Parquet, put into the store."""
    submit: float
    """The attempt's row in the journal, and the job handed to Ray."""
    job: float
    """From there until its report is written."""
    train: float
    """Of it: the window read, features, fit, evaluation, model written, by the job's own clock."""
    promote: float
    """From the report until the pointer is there, which the gateway follows."""
    empty: float
    """Ray's own start: another job with the same package, from its submission to its first command."""

    @property
    def whole(self) -> float:
        """From the Model to the pointer."""
        return self.look + self.export + self.submit + self.job + self.promote

    @property
    def beyond(self) -> float:
        """Without Ray's own start."""
        return self.whole - self.empty

    @property
    def imports(self) -> float:
        """Of the job: what is neither Ray's own nor training; Python's imports, for the most part."""
        return self.job - self.empty - self.train


class Cycles:
    """A tenant with a history, and Ray."""

    def __init__(self, site: sites.Site, ray: Ray) -> None:
        self.site, self.ray = site, ray
        self.kubectl = site.stack.parts.system().kubectl

    def measure(self, *, rounds: int) -> list[dict[str, Any]]:
        """The first cycle pays for the package on Ray and is not counted."""
        found = []
        for number in range(rounds + 1):
            cycle = self.one(f"cycle-{uuid.uuid4().hex[:6]}")
            parts = {name: round(value, 2) for name, value in asdict(cycle).items()}
            say(
                f"cycle {number}/{rounds}: {cycle.whole:.2f} s, {cycle.beyond:.2f} s beyond Ray's own,"
                f" imports {cycle.imports:.2f} s: {parts}"
            )
            found.append(cycle)
        counted = found[1:]
        runs = self.site.count("runs")

        def median(name: str) -> float:
            return statistics.median(getattr(it, name) for it in counted)

        unit = f"s beyond Ray's own start, {runs} runs"
        return [
            figure("train_cycle", median("beyond"), unit, median("train")),
            *(
                figure(f"train_cycle_{name}", median(name), "s", None)
                for name in ("look", "export", "submit", "empty", "imports", "train", "promote")
            ),
        ]

    def one(self, name: str) -> Cycle:
        """Apply a Model, and wait for its pointer."""
        spec = {"task": "RunFailure", "data": {"minRuns": 100}, "training": {"retries": 0}}
        began = time.time()
        self.kubectl.apply(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": name, "namespace": self.site.namespace},
                "spec": spec,
            }
        )
        promoted = self._promoted(name)
        training = self._training(name)
        report = contract.from_json(contract.Report, json.dumps(training["report"]))
        assert report.outcome == "Passed", report.reason
        assert report.duration_seconds is not None
        exported, reported = (
            Path(urlsplit(training[uri]).path).stat().st_mtime for uri in ("window_uri", "report_uri")
        )
        job = self._job(training["submission_id"])
        submitted = job["start_time"] / 1000
        empty = self._empty(job)
        self.kubectl.run("delete", "model", name, "-n", self.site.namespace, "--timeout=60s")
        decided = training["started_at"].timestamp()
        return Cycle(
            look=decided - began,
            export=exported - decided,
            submit=submitted - exported,
            job=reported - submitted,
            train=report.duration_seconds,
            promote=promoted - reported,
            empty=empty,
        )

    def _promoted(self, name: str) -> float:
        """When the Model's pointer was there."""
        admin = self.site.stack.parts.database().admin_dsn
        query = "SELECT 1 FROM pipewright.model_pointers WHERE tenant_id = %s AND model = %s"
        deadline = time.monotonic() + WITHIN
        with psycopg.connect(admin, dbname="pipewright", autocommit=True) as conn:
            while conn.execute(query, [self.site.tenant_id, name]).fetchone() is None:
                assert time.monotonic() < deadline, f"no version was promoted: {self._told(name)}"
                time.sleep(LOOK)
        return time.time()

    def _told(self, name: str) -> Any:
        return (self.kubectl.get("model", name, "-n", self.site.namespace) or {}).get("status")

    def _training(self, name: str) -> dict[str, Any]:
        """The attempt, as the journal has it."""
        model = self.kubectl.get("model", name, "-n", self.site.namespace)
        assert model is not None
        with self.site.connect() as conn:
            cursor = conn.cursor(row_factory=dict_row)
            query = "SELECT * FROM pipewright.trainings WHERE model_uid = %s"
            [row] = cursor.execute(query, [model["metadata"]["uid"]]).fetchall()
        return row

    # --- Ray's Jobs API -----------------------------------------------------------------------------------

    def _job(self, submission_id: str) -> dict[str, Any]:
        """A job that has ended."""
        deadline = time.monotonic() + WITHIN
        while True:
            found: dict[str, Any] = self._ask("GET", f"/api/jobs/{submission_id}")
            if found.get("end_time"):
                assert found["status"] == "SUCCEEDED", found["message"]
                return found
            assert time.monotonic() < deadline, f"the job does not end: {found['status']}"
            time.sleep(LOOK)

    def _empty(self, like: dict[str, Any]) -> float:
        """Seconds until a job with the same package runs its first command."""
        name = f"empty-{uuid.uuid4().hex}"
        note = self.site.stack.folder / name
        wanted = {
            "submission_id": name,
            "entrypoint": f"date +%s.%N > {note}",
            "entrypoint_num_cpus": 1,
            "runtime_env": {"py_modules": like["runtime_env"]["py_modules"]},
        }
        self._ask("POST", "/api/jobs/", wanted)
        submitted: float = self._job(name)["start_time"] / 1000
        return float(note.read_text()) - submitted

    def _ask(self, method: str, path: str, document: object = None) -> Any:
        token = self.ray.token_file.read_text().strip()
        return demand(
            self.ray.address + path,
            method=method,
            document=document,
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
        )
