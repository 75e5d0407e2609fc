"""Workflows and their runs on real servers: understood or refused with the place, and performed exactly once.

The gateway's part, a decision in the tenant's database and the WorkflowRun that it asks for, is played by the
test, so that a run's story does not depend on it.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from dev import web
from dev.demo.scene import ProviderClient
from dev.simulator import story
from dev.stack import Stack

RUNNER = "system:serviceaccount:pipewright-system:runner"
SHA = "5f0c2b1d9a7e4c3b8a6d5e4f3c2b1a0998877665"
RERUN = {
    "name": "rerun",
    "uses": "github/rerun-failed-jobs",
    "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
    "outputs": {"status": "result.status"},
}
TELL = {
    "name": "tell",
    "needs": ["rerun"],
    "uses": "github/comment",
    "with": {
        "project": "${{ event.project }}",
        "sha": "${{ event.sha }}",
        "body": "started again (${{ steps.rerun.outputs.status }})",
    },
}
TRIGGER = {"event": "pipelinerun.finished", "if": "event.outcome == 'failure'"}


class World:
    """A tenant with an Integration at the simulator, and what tests ask of them."""

    def __init__(self, stack: Stack, tenants: Any, eventually: Any, url: str, token: str) -> None:
        self.stack, self.kubectl, self.eventually = stack, tenants.kubectl, eventually
        self.url, self.token = url, token
        tenant = tenants.ready()
        self.namespace: str = tenant["metadata"]["name"]
        self.id: str = tenant["status"]["id"]

    def sim(self, method: str, path: str, document: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return web.demand(f"{self.url}/_sim/{path}", method=method, document=document, headers=headers)

    def connect(self) -> None:
        """The Integration and the Secret with its token."""
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "github-token", "namespace": self.namespace},
                "stringData": {"token": self.token},
            },
            self._object(
                "Integration",
                "github",
                {
                    "connector": "github",
                    "config": {"baseUrl": self.url},
                    "credentials": {"secretRef": {"name": "github-token"}},
                    "projects": ["acme/shop"],
                },
            ),
        )

    def workflow(self, **spec: Any) -> None:
        wanted = {"triggers": [TRIGGER], "steps": [RERUN, TELL]} | spec
        self.kubectl.apply(self._object("Workflow", "heal", wanted))

    def _object(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "pipewright.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found = self.kubectl.get(kind, name, "-n", self.namespace)
        assert found is not None
        return dict(found)

    def until(self, kind: str, name: str, aspect: str, status: str, *, within: float = 60) -> dict[str, Any]:
        """The object, once a condition of its current generation has this status."""

        def there() -> dict[str, Any] | None:
            found = self.get(kind, name)
            for told in (found.get("status") or {}).get("conditions") or []:
                current = told["observedGeneration"] == found["metadata"]["generation"]
                if told["type"] == aspect and told["status"] == status and current:
                    return found
            return None

        made: dict[str, Any] = self.eventually(
            there, within=within, says=f"{kind} {name} has {aspect} {status}: {self.get(kind, name)}"
        )
        return made

    def triggers(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.parts.platform()["pipewright_runner"], autocommit=True) as conn:
            return conn.execute(
                "SELECT revision, event, condition FROM pipewright.triggers WHERE namespace = %s",
                [self.namespace],
            ).fetchall()

    def database(self, purpose: str) -> psycopg.Connection[Any]:
        """The tenant's database by one of its logins."""
        vault = self.stack.parts.vault()
        passwords = vault.call("GET", f"tenants/data/{self.id}/platform/database")["data"]["data"]
        server = self.stack.parts.database()
        return psycopg.connect(
            host=server.host,
            port=server.port,
            dbname=f"pw_{self.id}",
            user=f"pw_{self.id}_{purpose}",
            password=passwords[purpose],
            autocommit=True,
        )

    def failed_run(self) -> str:
        """A run at the provider that has failed; its id."""
        told = story(at=datetime.now(UTC))
        attempts = [[dict(record) for record in attempt] for attempt in (told.first, told.second)]
        run_id = str(100_000_000 + uuid.uuid4().int % 800_000_000)
        for record in (record for attempt in attempts for record in attempt):
            record["id" if record["type"] == "run" else "run"] = run_id
            record["project"] = "acme/shop"
        self.sim("POST", "runs", {"attempts": attempts, "delay": 0.01})
        self.eventually(
            lambda: any(
                run["id"] == run_id and run["status"] == "completed" for run in self.sim("GET", "runs")
            ),
            says=f"run {run_id} has been played: {self.sim('GET', 'runs')}",
        )
        return run_id

    def fire(self, run_id: str, *, fired: bool = True) -> str:
        """What the gateway does when the workflow's trigger fires on a failed run; the WorkflowRun's name."""
        workflow, delivery = self.get("workflow", "heal"), str(uuid.uuid4())
        revision = workflow["status"]["revision"]
        event = {
            "type": "pipelinerun.finished",
            "id": delivery,
            "integration": "github",
            "project": "acme/shop",
            "pipeline": "ci",
            "branch": "main",
            "sha": SHA,
            "trigger": "push",
            "actor": "",
            "outcome": "failure",
            "run": {"id": run_id, "number": 7, "attempt": 1, "url": ""},
        }
        with self.database("ingest") as conn:
            conn.execute(
                "INSERT INTO pipewright.decisions (workflow_uid, integration, delivery_id, revision,"
                " namespace, workflow, fired, reason, event, decided_at)"
                " VALUES (%s, %s, %s, %s, %s, 'heal', %s, 'fired', %s, now())",
                [
                    workflow["metadata"]["uid"],
                    self.get("integration", "github")["metadata"]["uid"],
                    delivery,
                    revision,
                    self.namespace,
                    fired,
                    Jsonb(event),
                ],
            )
        name = f"heal-{uuid.uuid4().hex[:10]}"
        spec = {
            "workflow": {"name": "heal", "revision": revision},
            "event": {"integration": "github", "deliveryId": delivery, "type": "pipelinerun.finished"},
        }
        self.kubectl.apply(self._object("WorkflowRun", name, spec))
        return name

    def calls(self, run_id: str) -> list[str]:
        """What the provider was asked to do for a run, in order."""
        found = [call for call in self.sim("GET", "calls") if call["method"] == "POST"]
        return [
            f"{call['path'].rsplit('/', 1)[1]} {call['status']}"
            for call in found
            if f"/{run_id}/" in call["path"]
        ]

    def comments(self) -> list[str]:
        return [comment["body"] for comment in self.sim("GET", "comments")]


@pytest.fixture
def world(stack: Stack, tenants: Any, eventually: Any, provider: ProviderClient) -> World:
    return World(stack, tenants, eventually, provider.url, provider.token)


def test_a_workflow_waits_for_its_integration_and_then_listens(world: World) -> None:
    world.workflow()
    waits = world.until("workflow", "heal", "IntegrationsFound", "False")
    (told,) = [it for it in waits["status"]["conditions"] if it["type"] == "Ready"]
    assert told["reason"] == "WaitingForIntegration"
    assert world.triggers() == []
    world.connect()
    found = world.until("workflow", "heal", "Ready", "True")
    revision = found["status"]["revision"]
    assert world.triggers() == [(revision, "pipelinerun.finished", "event.outcome == 'failure'")]
    kept = world.get("controllerrevision", revision)
    assert kept["data"]["spec"]["steps"][0]["name"] == "rerun"
    world.workflow(suspended=True)
    world.eventually(lambda: world.triggers() == [], says="a suspended workflow has no triggers")
    world.kubectl.run("delete", "workflow", "heal", "-n", world.namespace, "--timeout=30s")


def test_a_bad_expression_is_stalled_with_its_place_and_nothing_listens(world: World) -> None:
    world.connect()
    world.workflow()
    world.until("workflow", "heal", "Ready", "True")
    world.workflow(triggers=[{"event": "pipelinerun.finished", "if": "event.outcom == 'failure'"}])
    found = world.until("workflow", "heal", "Stalled", "True")
    (told,) = [it for it in found["status"]["conditions"] if it["type"] == "Stalled"]
    assert told["reason"] == "InvalidExpression"
    assert "triggers[0].if: line 1, column 6" in told["message"]
    world.eventually(lambda: world.triggers() == [], says="the triggers are withdrawn")


def test_a_run_starts_the_jobs_again_and_comments_each_exactly_once(world: World, audit: Any) -> None:
    world.connect()
    world.workflow()
    world.until("workflow", "heal", "Ready", "True")
    run_id = world.failed_run()
    before = len(world.comments())
    name = world.fire(run_id)
    found = world.until("workflowrun", name, "Succeeded", "True")
    assert [(step["name"], step["phase"], step["attempt"]) for step in found["status"]["steps"]] == [
        ("rerun", "Succeeded", 1),
        ("tell", "Succeeded", 1),
    ]
    assert world.calls(run_id) == ["rerun-failed-jobs 201"]
    assert world.comments()[before:] == ["started again (201)"]
    with world.database("runner") as conn:
        rows = conn.execute(
            "SELECT step, attempt, phase, idempotency_key FROM pipewright.run_steps ORDER BY step"
        ).fetchall()
    uid = found["metadata"]["uid"]
    assert rows == [("rerun", 1, "Succeeded", f"{uid}/rerun/1"), ("tell", 1, "Succeeded", f"{uid}/tell/1")]
    since = audit.position()
    world.stack.restart("runner")
    world.kubectl.run("label", "workflowrun", name, "-n", world.namespace, "seen=yes")
    other = world.fire(world.failed_run())
    world.until("workflowrun", other, "Succeeded", "True")
    touched = [write for write in audit.writes(since=since, user=RUNNER) if write["name"] == name]
    assert touched == []
    assert world.calls(run_id) == ["rerun-failed-jobs 201"]


def test_a_refused_action_fails_the_run_and_what_needs_it_is_left_out(world: World) -> None:
    world.connect()
    world.workflow()
    world.until("workflow", "heal", "Ready", "True")
    found = world.until("workflowrun", world.fire("12345"), "Succeeded", "False")
    (told,) = [it for it in found["status"]["conditions"] if it["type"] == "Succeeded"]
    assert told["reason"] == "StepFailed"
    assert [step["phase"] for step in found["status"]["steps"]] == ["Failed", "Skipped"]
    assert "404" in found["status"]["steps"][0]["message"]


def test_an_answer_that_never_came_leaves_the_step_unknown_and_is_not_repeated(world: World) -> None:
    world.connect()
    world.workflow(steps=[{**RERUN, "timeout": "2s", "retry": {"limit": 3, "backoff": "1s"}}])
    world.until("workflow", "heal", "Ready", "True")
    run_id = world.failed_run()
    world.sim("POST", "faults", {"path": f".*/{run_id}/.*", "delay": 4, "after": True})
    found = world.until("workflowrun", world.fire(run_id), "Succeeded", "False")
    assert [step["phase"] for step in found["status"]["steps"]] == ["Unknown"]
    calls = world.eventually(lambda: world.calls(run_id) or None, says="the call is over")
    assert len(calls) == 1


def test_a_busy_provider_is_asked_again(world: World) -> None:
    world.connect()
    world.workflow(steps=[{**RERUN, "retry": {"limit": 2, "backoff": "1s"}}])
    world.until("workflow", "heal", "Ready", "True")
    run_id = world.failed_run()
    world.sim("POST", "faults", {"path": f".*/{run_id}/.*", "status": 503, "headers": {"Retry-After": "1"}})
    found = world.until("workflowrun", world.fire(run_id), "Succeeded", "True")
    assert [(step["phase"], step["attempt"]) for step in found["status"]["steps"]] == [("Succeeded", 2)]
    assert world.calls(run_id) == ["rerun-failed-jobs 503", "rerun-failed-jobs 201"]


def test_a_run_on_a_decision_that_did_not_fire_fails(world: World) -> None:
    world.connect()
    world.workflow()
    world.until("workflow", "heal", "Ready", "True")
    found = world.until("workflowrun", world.fire("12345", fired=False), "Succeeded", "False")
    (told,) = [it for it in found["status"]["conditions"] if it["type"] == "Succeeded"]
    assert told["reason"] == "EventMissing"


def test_a_run_that_is_deleted_midway_is_cancelled(world: World) -> None:
    world.connect()
    world.workflow(steps=[{**RERUN, "retry": {"limit": 5, "backoff": "1h"}}])
    world.until("workflow", "heal", "Ready", "True")
    name = world.fire("12345")
    world.eventually(
        lambda: (
            (world.get("workflowrun", name).get("status") or {}).get("steps", [{}])[0].get("attempt") == 1
        ),
        says="the first attempt has failed",
    )
    world.kubectl.run("delete", "workflowrun", name, "-n", world.namespace, "--timeout=30s")
    with world.database("runner") as conn:
        rows = conn.execute("SELECT phase FROM pipewright.workflow_runs WHERE name = %s", [name]).fetchall()
    assert rows == [("Cancelled",)]
