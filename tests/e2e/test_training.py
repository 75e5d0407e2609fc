"""Trainings on real servers: data in the tenant's database, the job on Ray, the pointer for the gateway."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from dev import simulator
from dev.parts import Ray
from dev.stack import Stack
from dev.web import ask
from pipewright.records import RunRecord, parse_record
from pipewright.store import connect, history, imports

pytestmark = pytest.mark.ray

INTEGRATION = "0a0a0a0a-0000-4000-8000-000000000001"
GATES = {"maxFalsePositiveRate": 0.12, "minGainOverBaseline": 0}
SMALL = {"hyperparameters": {"trees": 40}}
"""How a model is trained where it does not matter how good it is."""
RUNNER = "system:serviceaccount:pipewright-system:runner"


class Models:
    """Models in a tenant's namespace, and what is behind them."""

    def __init__(self, stack: Stack, tenant: dict[str, Any], eventually: Any) -> None:
        self.kubectl = stack.parts.system().kubectl
        self.namespace, self.tenant_id = tenant["metadata"]["name"], tenant["status"]["id"]
        self._admin = stack.parts.database().admin_dsn
        self._eventually = eventually

    def apply(self, name: str = "run-failure", *, task: str = "RunFailure", **spec: Any) -> None:
        self.kubectl.apply(
            {
                "apiVersion": "pipewright.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"task": task, **spec},
            }
        )

    def get(self, name: str = "run-failure") -> Any:
        return self.kubectl.get("model", name, "-n", self.namespace)

    def status(self, name: str = "run-failure") -> dict[str, Any]:
        return ((self.get(name) or {}).get("status")) or {}

    def condition(self, aspect: str, name: str = "run-failure") -> dict[str, Any]:
        found = [it for it in self.status(name).get("conditions", []) if it["type"] == aspect]
        return found[0] if found else {}

    def wait(
        self, aspect: str, reason: str, *, within: float = 90, name: str = "run-failure"
    ) -> dict[str, Any]:
        """The status, once the condition has the reason."""

        def so() -> Any:
            return self.status(name) if self.condition(aspect, name).get("reason") == reason else None

        return self._eventually(so, within=within, says=f"{aspect} is {reason}: {self.status(name)}")

    def pointers(self) -> list[dict[str, Any]]:
        """What the gateway follows for this tenant."""
        of_ours = f"SELECT * FROM pipewright.model_pointers WHERE tenant_id = '{self.tenant_id}'"
        return self.rows(of_ours, database="pipewright")

    def rows(self, query: str, *, database: str | None = None) -> list[dict[str, Any]]:
        info = connect.conninfo(self._admin, dbname=database or f"pw_{self.tenant_id}")
        with psycopg.connect(info, autocommit=True, row_factory=dict_row) as conn:
            return conn.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]

    def bring(self, records: Iterable[RunRecord]) -> int:
        """Import runs as the gateway does."""
        return asyncio.run(self._bring(list(records)))

    async def _bring(self, runs: list[RunRecord]) -> int:
        info = connect.conninfo(self._admin, dbname=f"pw_{self.tenant_id}")
        conn = await connect.connect(info, where="the tenant's database")
        try:
            async with conn.transaction():
                actors = await history.surrogates(conn, provider="github", logins={it.actor for it in runs})
                return await imports.import_runs(
                    conn, runs, integration=INTEGRATION, seen_at=datetime.now(UTC), actors=actors
                )
        finally:
            await conn.close()


@pytest.fixture
def models(tenants: Any, stack: Stack, ray_head: Ray, eventually: Any) -> Iterator[Models]:
    made = Models(stack, tenants.ready(), eventually)
    yield made
    made.kubectl.run("delete", "models", "--all", "-n", made.namespace, "--timeout=60s")


@cache
def simulated(count: int = 5000) -> Sequence[RunRecord]:
    """Runs of the simulator up to a day ago or so, the same at each hour."""
    until = datetime.now(UTC).replace(microsecond=0)
    told = simulator.recent(until=until, runs=count)
    parsed = [parse_record(record) for record in told if record["type"] == "run"]
    return [record for record in parsed if isinstance(record, RunRecord)]


def file_of(uri: str) -> Path:
    return Path(urlsplit(uri).path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def jobs_of(ray_head: Ray, tenant_id: str) -> list[dict[str, Any]]:
    """The tenant's jobs on Ray."""
    token = ray_head.token_file.read_text().strip()
    answer = ask(f"{ray_head.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=5)
    assert answer is not None
    return [job for job in json.loads(answer.body) if (job.get("metadata") or {}).get("tenant") == tenant_id]


def test_a_model_waits_for_runs_trains_on_ray_and_predicts(
    models: Models, ray_head: Ray, eventually: Any, audit: Any
) -> None:
    models.apply(evaluation={"gates": GATES}, serving={"default": True})
    waits = models.wait("Ready", "WaitingForData")
    assert "lastTraining" not in waits
    assert models.bring(simulated()) > 1000
    status = models.wait("Ready", "Active")
    assert models.condition("GatesPassed")["status"] == "True"
    active, last = status["active"], status["lastTraining"]
    assert (last["attempt"], last["outcome"]) == (1, "Passed")
    assert active["version"] == active["artifact"]["sha256"][:12]
    assert digest(file_of(active["artifact"]["uri"])) == active["artifact"]["sha256"]
    assert digest(file_of(status["dataset"]["uri"])) == status["dataset"]["sha256"]
    assert status["baselines"]["alwaysPass"]["recall"] == 0
    (pointer,) = models.pointers()
    assert (pointer["tenant_id"], pointer["namespace"]) == (models.tenant_id, models.namespace)
    assert (pointer["is_default"], pointer["generation"]) == (True, 1)
    assert (pointer["version"], pointer["artifact_sha256"]) == (
        active["version"],
        active["artifact"]["sha256"],
    )
    (job,) = jobs_of(ray_head, models.tenant_id)
    assert job["submission_id"] == last["submissionId"]
    assert [(it["attempt"], it["version"]) for it in status["trainings"]] == [(1, active["version"])]
    nobody_has_it(models)
    it_rests_and_goes(models, eventually, audit, folder=file_of(active["artifact"]["uri"]).parents[2])


def nobody_has_it(models: Models) -> None:
    gates = {"gates": GATES}
    before = models.pointers()
    models.apply(evaluation=gates, serving={"default": True, "version": "0" * 12})
    models.wait("Ready", "VersionNotFound")
    assert models.pointers() == before
    models.apply(evaluation=gates, serving={"default": True, "version": before[0]["version"]})
    models.wait("Ready", "Active")
    assert models.pointers() == before


def it_rests_and_goes(models: Models, eventually: Any, audit: Any, *, folder: Path) -> None:
    since, before = audit.position(), models.status()
    models.kubectl.run("annotate", "model", "run-failure", "-n", models.namespace, "look=again")
    eventually(lambda: models.condition("Reconciling").get("status") == "False", says="it rests")
    assert models.status() == before
    assert audit.writes(since=since, user=RUNNER) == []
    assert folder.exists()
    models.kubectl.run("delete", "model", "run-failure", "-n", models.namespace, "--timeout=30s")
    assert not folder.exists()
    assert models.pointers() == []


def test_a_missed_gate_is_refused_and_an_open_one_lets_the_next_attempt_through(
    models: Models,
) -> None:
    models.bring(simulated())
    models.apply(evaluation={"gates": {"minAccuracy": 0.9999}}, training=SMALL)
    status = models.wait("Ready", "GatesFailed")
    refusal = models.condition("GatesPassed")
    assert (refusal["status"], refusal["reason"]) == ("False", "GatesFailed")
    assert "accuracy" in refusal["message"]
    assert "must be at least 0.9999" in refusal["message"]
    assert status["lastTraining"]["outcome"] == "GatesFailed"
    assert status["candidate"]["metrics"]["accuracy"] < 0.9999
    assert "active" not in status
    assert (
        digest(file_of(status["candidate"]["artifact"]["uri"])) == status["candidate"]["artifact"]["sha256"]
    )
    assert models.pointers() == []
    models.apply(evaluation={"gates": GATES}, training={**SMALL, "search": {"trials": 2}})
    status = models.wait("Ready", "Active")
    assert (status["lastTraining"]["attempt"], status["lastTraining"]["outcome"]) == (2, "Passed")
    found = status["lastTraining"]["search"]
    assert found["trials"] == 2
    assert found["loss"] <= found["defaultLoss"]
    assert "trees" not in found["hyperparameters"]
    assert "candidate" not in status


def test_a_model_of_durations_is_trained_judged_and_promoted_beside_one_of_failures(models: Models) -> None:
    models.bring(simulated())
    models.apply(evaluation={"gates": GATES}, serving={"default": True})
    models.apply(
        "durations",
        task="Duration",
        evaluation={"gates": {"minPinballGain": -0.1, "maxCoverageError": 0.15}},
        serving={"default": True},
    )
    status = models.wait("Ready", "Active", within=150, name="durations")
    models.wait("Ready", "Active", within=150)
    active = status["active"]
    assert digest(file_of(active["artifact"]["uri"])) == active["artifact"]["sha256"]
    assert active["metrics"]["coverageError"] <= 0.15
    losses = {name: found["pinballLoss"] for name, found in status["baselines"].items()}
    assert set(losses) == {"recentRuns", "lastRun"}
    assert active["metrics"]["pinballLoss"] <= 1.1 * min(losses.values())
    assert "accuracy" not in active["metrics"]
    assert status["trainings"][0]["pinballLoss"] == active["metrics"]["pinballLoss"]
    assert {(it["model"], it["task"], it["is_default"]) for it in models.pointers()} == {
        ("run-failure", "RunFailure", True),
        ("durations", "Duration", True),
    }
    gates = {"gates": {"minPinballGain": 0.99}}
    models.apply("strict", task="Duration", evaluation=gates)
    models.wait("Ready", "GatesFailed", within=150, name="strict")
    assert "gain in pinball loss over the baseline" in models.condition("GatesPassed", "strict")["message"]


def test_a_model_of_causes_waits_for_re_runs_and_learns_from_them(models: Models) -> None:
    models.bring(rerun(40))
    gates = {"minAccuracy": 0.8, "maxCalibrationError": 0.3}
    wanted = {"data": {"minRuns": 50}, "training": {"retries": 0}, "evaluation": {"gates": gates}}
    models.apply("causes", task="FailureCause", **wanted)
    models.wait("Ready", "TrainingFailed", within=150, name="causes")
    assert "training needs 60" in models.condition("Training", "causes")["message"]
    models.bring(rerun(160))
    changed = {**wanted, "evaluation": {"gates": gates, "holdout": 0.3}}
    models.apply("causes", task="FailureCause", **changed)
    status = models.wait("Ready", "Active", within=150, name="causes")
    assert set(status["baselines"]) == {"majority", "lineRate"}
    assert status["active"]["metrics"]["accuracy"] > status["baselines"]["majority"]["accuracy"] + 0.2
    assert models.condition("Drifted", "causes")["reason"] == "NotMeasured"
    assert [it["task"] for it in models.pointers()] == ["FailureCause"]


def rerun(count: int) -> Iterator[RunRecord]:
    """Failures that are run again: those of the pipeline browser pass then, those of unit do not."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)
    for number in range(count):
        pipeline = ("browser", "unit")[number % 2]
        for attempt, outcome in ((1, "failure"), (2, "success" if pipeline == "browser" else "failure")):
            began = start + timedelta(hours=2 * number, minutes=20 * attempt)
            yield RunRecord(
                project="acme/shop", pipeline=pipeline, id=f"r{number}", attempt=attempt, number=number,
                trigger="push", branch="main", sha=f"s{number}", actor="u", phase="finished",
                outcome="success" if outcome == "success" else "failure", started_at=began,
                finished_at=began + timedelta(minutes=5),
            )  # fmt: skip


def test_a_training_survives_the_death_of_the_runner(
    models: Models, stack: Stack, ray_head: Ray, eventually: Any
) -> None:
    models.bring(simulated())
    models.apply(evaluation={"gates": GATES}, training=SMALL)
    eventually(lambda: jobs_of(ray_head, models.tenant_id), within=60, says="a job is submitted")
    stack.kill("runner")
    stack.start("runner")
    status = models.wait("Ready", "Active")
    assert status["lastTraining"]["attempt"] == 1
    assert len(jobs_of(ray_head, models.tenant_id)) == 1
    assert len(models.rows("SELECT * FROM pipewright.trainings")) == 1


def test_a_training_survives_the_death_of_ray(
    models: Models, stack: Stack, ray_head: Ray, eventually: Any
) -> None:
    models.bring(simulated())
    models.apply(evaluation={"gates": GATES}, training=SMALL)
    eventually(lambda: jobs_of(ray_head, models.tenant_id), within=60, says="a job is submitted")
    stack.stop("ray")
    stack.start("ray")
    status = models.wait("Ready", "Active", within=120)
    found = models.rows("SELECT attempt, phase, outcome FROM pipewright.trainings ORDER BY attempt")
    assert [it["outcome"] for it in found][-1] == "Passed"
    assert status["lastTraining"]["attempt"] == len(found) <= 2


def test_real_histories_of_github_actions_are_learned_better_than_the_baselines(
    models: Models, shared_data: Path
) -> None:
    source = shared_data / "gha-runs" / "gha_mit.csv.gz"
    if not source.exists():
        pytest.skip(f"the public histories are not at {source}")
    begun = datetime.now(UTC)
    count = models.bring(real_runs(source))
    imported = datetime.now(UTC)
    models.apply(data={"window": "730d"}, evaluation={"gates": {"minGainOverBaseline": 0.01}})
    status = models.wait("Ready", "Active", within=180)
    print(f"\n{count} runs imported in {(imported - begun).total_seconds():.1f} s,", end=" ")
    print(f"Ready {(datetime.now(UTC) - imported).total_seconds():.1f} s after the Model was applied")
    metrics = status["active"]["metrics"]
    for name, found in {"model": metrics, **status["baselines"]}.items():
        print(f"  {name:12} {json.dumps(found)}")
    best = max(it["accuracy"] for it in status["baselines"].values())
    assert metrics["accuracy"] >= max(0.85, best + 0.01)
    assert metrics["falsePositiveRate"] <= 0.06
    assert metrics["auc"] >= 0.84


def real_runs(source: Path) -> Iterator[RunRecord]:
    """The histories, moved by whole weeks so that they end shortly before now."""
    with gzip.open(source, "rt") as text:
        found = list(csv.DictReader(text))
    newest = max(datetime.fromisoformat(row["finished_at"]) for row in found)
    weeks = timedelta(weeks=(datetime.now(UTC) - newest) // timedelta(weeks=1))
    for number, row in enumerate(found):
        yield RunRecord(
            project=row["project"],
            pipeline=row["key"],
            id=str(number),
            attempt=1,
            number=number,
            trigger=row["c_event"],
            branch=row["c_branch"],
            sha=row["c_sha"],
            actor=row["c_actor"],
            phase="finished",
            outcome="failure" if row["failed"] == "1" else "success",
            started_at=datetime.fromisoformat(row["started_at"]) + weeks,
            finished_at=datetime.fromisoformat(row["finished_at"]) + weeks,
        )
