"""The main job on real servers: events in, a model trained, a failure healed, whatever dies meanwhile.

The world (tenants, provider, history, model, workflow) is the demo's, made once for all tests of this file.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from dev import parts, simulator, web
from dev.demo import steps
from dev.demo.scene import TENANT, ProviderClient, Scene
from dev.progress import Progress
from dev.stack import Stack

RUNNER = "system:serviceaccount:pipewright-system:runner"
GATEWAY = "system:serviceaccount:pipewright-system:gateway"


class World:
    """The demo's world, and what tests ask of it."""

    def __init__(self, scene: Scene, provider: ProviderClient, findings: steps.Findings) -> None:
        self.scene, self.provider, self.findings = scene, provider, findings
        self.kubectl = scene.kubectl

    def play(self, *, project: str = "acme/shop", delay: float = 0.05) -> dict[str, Any]:
        """Start a run that fails at its first attempt and passes at the second; its record."""
        story = simulator.story(at=datetime.now(UTC), seed=uuid.uuid4().int % 100_000, project=project)
        return self._start([story.first, story.second], delay=delay)

    def play_green(self, *, project: str) -> dict[str, Any]:
        """Start a run that passes at once; its record."""
        story = simulator.story(at=datetime.now(UTC), seed=uuid.uuid4().int % 100_000, project=project)
        return self._start([[{**record, "attempt": 1} for record in story.second]], delay=0.0)

    def _start(self, attempts: Sequence[Sequence[Mapping[str, Any]]], *, delay: float) -> dict[str, Any]:
        script = [[dict(record) for record in attempt] for attempt in attempts]
        run_id = str(900_000_000 + uuid.uuid4().int % 99_000_000)
        sha = uuid.uuid4().hex + "0" * 8
        for record in (record for attempt in script for record in attempt):
            record["id" if record["type"] == "run" else "run"] = run_id
            if record["type"] == "job":
                record["id"] = str(uuid.uuid4().int % 10**12)
            if "sha" in record:
                record["sha"] = sha
        self.provider.tell("runs", {"attempts": script, "delay": delay})
        return script[0][0]

    def attempt(self, run: dict[str, Any], number: int) -> dict[str, Any] | None:
        """One attempt of a run, as the tenant's own login sees it, once it has finished."""
        with steps.connect(self.scene, TENANT) as own:
            row: dict[str, Any] | None = own.execute(
                "SELECT outcome FROM history.runs"
                " WHERE provider_id = %s AND attempt = %s AND outcome IS NOT NULL",
                [run["id"], number],
            ).fetchone()
        return row

    def reruns(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The re-runs that the provider was asked for."""
        return [
            it for it in self.provider.ask("calls") if it["path"].endswith(f"{run['id']}/rerun-failed-jobs")
        ]

    def comments(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The comments on the run's commit."""
        return [it for it in self.provider.ask("comments") if it["commit_id"] == run["sha"]]

    def workflow_runs(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The WorkflowRuns about a run."""
        listed = self.kubectl.get("workflowruns", "-n", TENANT)
        assert listed is not None
        return [it for it in listed["items"] if it["spec"]["event"].get("runId") == run["id"]]

    def healed(self, run: dict[str, Any]) -> bool:
        """Whether the second attempt is green and its WorkflowRun has succeeded."""
        found = self.workflow_runs(run)
        done = [
            condition
            for it in found
            for condition in it.get("status", {}).get("conditions", [])
            if condition["type"] == "Succeeded" and condition["status"] == "True"
        ]
        attempt = self.attempt(run, 2)
        return bool(done) and attempt is not None and attempt["outcome"] == "success"

    def mend(self, run: dict[str, Any], eventually: Any) -> None:
        """What a person does about a run that stayed red, so that the next test finds a green branch."""
        if self.attempt(run, 2) is None:
            web.demand(
                f"{self.provider.url}/repos/{run['project']}/actions/runs/{run['id']}/rerun-failed-jobs",
                method="POST",
                headers={"Authorization": f"Bearer {self.provider.token}"},
            )
        eventually(lambda: self.attempt(run, 2), within=30, says=f"run {run['id']} is green again")

    def decisions(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """What was decided about a run, and why."""
        path = f"/v1/namespaces/{TENANT}/workflows/{steps.WORKFLOW}/decisions"
        return [it for it in self.scene.rest("GET", path)["items"] if it["event"]["run"]["id"] == run["id"]]

    def expect_healed_once(self, run: dict[str, Any]) -> None:
        """One WorkflowRun, one re-run, one comment."""
        assert len(self.workflow_runs(run)) == 1
        assert [it["status"] for it in self.reruns(run)] == [201]
        assert len(self.comments(run)) == 1


@pytest.fixture(scope="module")
def world(stack: Stack, ray_head: parts.Ray, provider: ProviderClient) -> Iterator[World]:
    """Tenants, provider, history, model and workflow, as the demo makes them."""
    scene, findings = Scene(stack=stack, progress=Progress()), steps.Findings()
    steps.tenants(scene, findings)
    steps.integration(scene, provider)
    steps.history(scene, provider, findings)
    steps.model(scene, findings)
    steps.workflow(scene)
    yield World(scene, provider, findings)
    for kind in ("workflowruns", "workflows", "models", "integrations"):
        scene.kubectl.run("delete", kind, "--all", "-n", TENANT, "--wait=false")


@pytest.fixture
def good_standing(world: World, eventually: Any) -> None:
    """Green runs before one fails: after many red ones a model thinks less of a re-run, as it should."""
    for project in ("acme/shop", "acme/payments"):
        greens = [world.play_green(project=project) for _ in range(4)]
        for run in greens:
            eventually(lambda run=run: world.attempt(run, 1), says=f"run {run['id']} is in the history")


def test_the_model_beats_its_baselines_and_says_so(world: World) -> None:
    status = world.findings.model["status"]
    metrics, baselines = status["active"]["metrics"], status["baselines"]
    best = max(baselines["alwaysPass"]["accuracy"], baselines["lastOutcome"]["accuracy"])
    assert metrics["accuracy"] >= best + 0.01
    assert metrics["falsePositiveRate"] <= 0.08
    assert status["dataset"]["rows"] > 3000
    assert status["lastTraining"]["outcome"]
    report = world.scene.rest("GET", f"/v1/namespaces/{TENANT}/models/{steps.MODEL}/report")
    assert report["model"]["version"] == status["active"]["version"]
    held = report["heldOut"]
    assert held["metrics"]["accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-4)
    for part in ("calibration", "deciles", "days"):
        assert sum(it["rows"] for it in held["curves"][part]) == held["metrics"]["rows"]
    assert held["curves"]["deciles"][-1]["failures"] > held["curves"]["deciles"][0]["failures"]


@pytest.mark.usefixtures("good_standing")
def test_a_failed_run_is_healed_exactly_once(world: World, eventually: Any) -> None:
    run = world.play()
    eventually(lambda: world.healed(run), within=60, says=f"run {run['id']} is healed")
    world.expect_healed_once(run)


@pytest.mark.usefixtures("good_standing")
def test_the_decision_and_its_reason_are_readable(world: World, eventually: Any) -> None:
    run = world.play()
    eventually(lambda: world.healed(run), within=60, says=f"run {run['id']} is healed")
    about = world.decisions(run)
    assert sorted(it["fired"] for it in about) == [False, True]  # attempt 2 passed: nothing to heal
    assert all(it["reason"] for it in about)


@pytest.mark.usefixtures("good_standing")
def test_a_redelivered_webhook_changes_nothing(world: World, eventually: Any) -> None:
    run = world.play()
    eventually(lambda: world.healed(run), within=60, says=f"run {run['id']} is healed")
    sent = [it for it in world.provider.ask("deliveries") if it["run"] == run["id"]]
    completed = {it["attempt"]: it["id"] for it in sent if it["action"] == "completed"}
    assert sorted(completed) == [1, 2]
    for delivery in completed.values():
        assert world.provider.tell("redeliver", {"id": delivery})["statuses"] == [200]
    world.expect_healed_once(run)


@pytest.mark.usefixtures("good_standing")
@pytest.mark.parametrize("after", [1, 4], ids=["its first write", "a later write"])
def test_a_workflowrun_survives_the_runners_death(
    after: int, world: World, stack: Stack, audit: Any, eventually: Any
) -> None:
    since = audit.position()
    run = world.play()

    def written() -> bool:
        return len(audit.writes(since=since, user=RUNNER)) >= after

    eventually(written, within=60, says=lambda: f"{after} writes of the runner: {world.decisions(run)}")
    stack.kill("runner")
    stack.start("runner")
    eventually(lambda: world.healed(run) or _unknown(world, run), within=90, says="the run came to its end")
    # killed between a call that must not be repeated and its record, the step is Unknown and fails by default
    if world.healed(run):
        world.expect_healed_once(run)
    assert len(world.reruns(run)) <= 1
    assert len(world.comments(run)) <= 1
    assert len(world.workflow_runs(run)) == 1
    world.mend(run, eventually)


def _unknown(world: World, run: dict[str, Any]) -> bool:
    phases = [
        step["phase"]
        for it in world.workflow_runs(run)
        for step in it.get("status", {}).get("steps", [])
        if it.get("status", {}).get("finishedAt")
    ]
    return "Unknown" in phases or "Failed" in phases


KINDS: dict[str, dict[str, Any]] = {
    "integration": {
        "connector": "github",
        "projects": ["acme/other"],
        "credentials": {"secretRef": {"name": "github-credentials"}},
    },
    "workflow": {
        "triggers": [{"event": "pipelinerun.finished", "if": "event.outcome == 'failure' && false"}],
        "steps": [
            {
                "name": "tell",
                "uses": "github/comment",
                "with": {
                    "project": "${{ event.project }}",
                    "sha": "${{ event.sha }}",
                    "body": "hello",
                },
            }
        ],
    },
    "model": {
        "task": "RunFailure",
        "data": {"window": "90d", "minRuns": 500},
        "evaluation": {"gates": {"maxFalsePositiveRate": 0.2}},
    },
}


@pytest.mark.parametrize("after", [1, 2], ids=["its first write", "a later write"])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_after_a_write_the_end_state_is_the_same(
    kind: str, after: int, world: World, stack: Stack, audit: Any, eventually: Any
) -> None:
    name, spec = f"k-{uuid.uuid4().hex[:6]}", dict(KINDS[kind])
    if kind == "integration":
        spec["config"] = {"baseUrl": world.provider.url}
    since = audit.position()
    world.kubectl.apply(
        {
            "apiVersion": "pipewright.dev/v1alpha1",
            "kind": {"integration": "Integration", "workflow": "Workflow", "model": "Model"}[kind],
            "metadata": {"name": name, "namespace": TENANT},
            "spec": spec,
        }
    )
    eventually(
        lambda: len(audit.writes(since=since, user=RUNNER)) >= after, says=f"{after} writes of the runner"
    )
    stack.kill("runner")
    stack.start("runner")
    found = world.scene.wait_condition(kind, name, within=180, namespace=TENANT)
    created = [
        (it["resource"], it["namespace"], it["name"])
        for it in audit.writes(since=since, user=RUNNER)
        if it["code"] == "201" and it["resource"] != "events"
    ]
    assert len(created) == len(set(created))
    _expect_one_row(kind, found["metadata"]["uid"], world, stack)
    world.kubectl.run("delete", kind, name, "-n", TENANT, "--timeout=60s")


def _expect_one_row(kind: str, uid: str, world: World, stack: Stack) -> None:
    table, column = {
        "integration": ("routes", "integration_uid"),
        "workflow": ("triggers", "workflow_uid"),
        "model": ("model_pointers", "model_uid"),
    }[kind]
    admin = stack.parts.database().admin_dsn
    with psycopg.connect(admin, dbname="pipewright") as platform:
        rows = platform.execute(
            f"SELECT count(*) FROM pipewright.{table} WHERE {column}::text = %s",  # type: ignore[arg-type]
            [uid],
        ).fetchone()
    assert rows == (1,)
    if kind == "model":
        tenant_db = world.findings.tenants[0]["status"]["database"]["name"]
        with psycopg.connect(admin, dbname=tenant_db) as own:
            trained = own.execute(
                "SELECT count(*) FROM pipewright.trainings"
                " WHERE model_uid::text = %s AND outcome IS NOT NULL",
                [uid],
            ).fetchone()
        assert trained == (1,)


@pytest.mark.usefixtures("good_standing")
def test_hooks_and_scoring_work_while_operator_and_api_server_are_down(
    world: World, stack: Stack, eventually: Any
) -> None:
    if stack.layout.cluster == "external":
        pytest.skip("the cluster is somebody else's: its API server is not ours to stop")
    for component in ("provisioner", "runner", "kube-apiserver"):
        stack.stop(component)
    try:
        while_down = world.play()
        eventually(lambda: _stored(world, stack, while_down), within=90, says="the failed run was stored")
        stack.restart("gateway")
        # of another project: the branch of the first is red, and the model may think little of it
        after_restart = world.play(project="acme/payments")
        eventually(lambda: _stored(world, stack, after_restart), within=90, says="the next one, too")
        for run in (while_down, after_restart):
            predictions = _predictions(world, stack, run)
            assert {"run", "retry"} <= {kind for kind, _ in predictions}, predictions
            assert all(0 < probability < 1 for _, probability in predictions), predictions
    finally:
        for component in ("kube-apiserver", "provisioner", "runner"):
            stack.start(component)
    for run in (while_down, after_restart):
        eventually(
            lambda run=run: world.healed(run),
            within=120,
            says=lambda run=run: f"run {run['id']} is healed later: {world.decisions(run)}",
        )
        world.expect_healed_once(run)


def _tenant_database(world: World, stack: Stack) -> psycopg.Connection[Any]:
    name = world.findings.tenants[0]["status"]["database"]["name"]
    return psycopg.connect(stack.parts.database().admin_dsn, dbname=name)


def _stored(world: World, stack: Stack, run: dict[str, Any]) -> bool:
    with _tenant_database(world, stack) as admin:
        row = admin.execute(
            "SELECT outcome FROM pipewright.runs WHERE provider_id = %s AND attempt = 1", [run["id"]]
        ).fetchone()
    return row == ("failure",)


def _predictions(world: World, stack: Stack, run: dict[str, Any]) -> list[tuple[str, float]]:
    with _tenant_database(world, stack) as admin:
        return admin.execute(
            "SELECT kind, probability FROM pipewright.predictions WHERE provider_id = %s", [run["id"]]
        ).fetchall()


COMPONENTS = ("provisioner", "runner", "gateway")


def test_idle_for_a_minute_means_no_write_at_all(world: World, audit: Any, eventually: Any) -> None:
    users = [f"system:serviceaccount:pipewright-system:{name}" for name in COMPONENTS]

    def writes(since: int) -> list[dict[str, str]]:
        return [it for user in users for it in audit.writes(since=since, user=user)]

    def nothing_for(seconds: float) -> Any:
        """A fact: since it was first asked, or since the last write, so much time has passed."""
        began, since = time.monotonic(), audit.position()

        def fact() -> bool:
            nonlocal began, since
            if writes(since):
                began, since = time.monotonic(), audit.position()
            return time.monotonic() - began >= seconds

        return fact

    eventually(nothing_for(10), within=120, says="what the tests before had begun is over")
    since, began = audit.position(), time.monotonic()
    eventually(lambda: time.monotonic() - began >= 60, within=70)
    assert writes(since) == []


def test_no_secret_is_in_any_log_event_or_object(world: World, stack: Stack) -> None:
    secret = world.scene.secret("pipewright-database", namespace=TENANT)
    webhook = world.scene.secret("github-webhook", namespace=TENANT)
    canaries = [secret["password"], webhook["secret"], world.provider.token]
    texts = {path.name: path.read_text(errors="replace") for path in (stack.folder / "logs").glob("*.log")}
    for kinds in ("tenants", "integrations", "models", "workflows", "workflowruns", "events"):
        texts[kinds] = world.kubectl.run("get", kinds, "-A", "-o", "json")
    for name in COMPONENTS:
        answer = web.ask(f"http://127.0.0.1:{stack.layout.ports[name]}/metrics")
        assert answer is not None
        texts[f"{name} metrics"] = answer.body.decode()
    found = [(name, canary[:4]) for name, text in texts.items() for canary in canaries if canary in text]
    assert found == []
