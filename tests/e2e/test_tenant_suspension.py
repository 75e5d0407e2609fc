"""A Tenant is suspended and resumed on real servers: shut out at every door, and back as it was."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from dev import github_payloads, simulator, web
from dev.demo.scene import ProviderClient
from dev.problem import Problem
from dev.stack import Stack

OURS = {f"system:serviceaccount:pipewright-system:{name}" for name in ("provisioner", "runner", "gateway")}
POLL = 30.0
"""Seconds after which the runner looks again whether a tenant was resumed."""


class World:
    """A tenant with an Integration and a Workflow that reacts to failures, and what tests ask of it."""

    def __init__(self, stack: Stack, tenants: Any, eventually: Any, provider: ProviderClient) -> None:
        self.stack, self.tenants, self.eventually = stack, tenants, eventually
        self.kubectl, self.provider = tenants.kubectl, provider
        tenant = tenants.ready()
        self.name: str = tenant["metadata"]["name"]
        self.status: dict[str, Any] = tenant["status"]
        self.secret = tenants.secret(self.name)
        self._connect()
        self.hook = self._hook()

    # --- what the tenant has ------------------------------------------------------------------------------

    def _connect(self) -> None:
        token = {"name": "github-token", "namespace": self.name}
        step = {
            "name": "rerun",
            "uses": "github/rerun-failed-jobs",
            "with": {"project": "${{ event.project }}", "run": "${{ event.run.id }}"},
        }
        trigger = {"event": "pipelinerun.finished", "if": "event.outcome == 'failure'"}
        self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": token,
                "stringData": {"token": self.provider.token},
            },
            self._object(
                "Integration",
                "github",
                {
                    "connector": "github",
                    "config": {"baseUrl": self.provider.url},
                    "credentials": {"secretRef": {"name": "github-token"}},
                    "projects": ["acme/shop"],
                },
            ),
            self._object("Workflow", "heal", {"triggers": [trigger], "steps": [step]}),
        )
        self.until("integration", "github", "Ready", "True")
        self.until("workflow", "heal", "Ready", "True")

    def _object(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.name}
        return {"apiVersion": "pipewright.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

    def _hook(self) -> dict[str, str]:
        named = self.get("integration", "github")["status"]["webhook"]["secretRef"]["name"]
        found = self.kubectl.get("secret", named, "-n", self.name)
        assert found is not None
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found = self.kubectl.get(kind, name, *(() if kind == "tenant" else ("-n", self.name)))
        assert found is not None
        return dict(found)

    def condition(self, kind: str, name: str, aspect: str) -> dict[str, Any]:
        told = (self.get(kind, name).get("status") or {}).get("conditions") or []
        return next((it for it in told if it["type"] == aspect), {"status": None, "reason": None})

    def until(self, kind: str, name: str, aspect: str, *words: str, within: float = 60) -> None:
        """Until a condition has this status (and reason)."""

        def there() -> bool:
            found = self.condition(kind, name, aspect)
            return (found["status"], found["reason"])[: len(words)] == words

        self.eventually(
            there, within=within, says=f"{kind} {name}: {aspect} is {words}: {self.get(kind, name)}"
        )

    # --- what people and providers do ---------------------------------------------------------------------

    def suspend(self, word: bool) -> None:
        patch = json.dumps({"spec": {"suspended": word}})
        self.kubectl.run("patch", "tenant", self.name, "--type=merge", "-p", patch)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        fields = {key: self.secret[key] for key in ("host", "port", "dbname", "user", "password")}
        with psycopg.connect(**fields, connect_timeout=5, autocommit=True) as own:  # type: ignore[arg-type]
            yield own

    def vault_token(self) -> str:
        jwt = self.kubectl.token("pipewright", namespace=self.name, audience="vault")
        return self.stack.parts.vault().login(self.status["vault"]["role"], jwt)

    def read_vault(self, token: str) -> Any:
        return self.stack.parts.vault().call(
            "GET", f"tenants/data/{self.status['vault']['path']}/database", token=token
        )

    def failed_run(self) -> dict[str, Any]:
        """The webhook of a run that has just failed."""
        story = simulator.story(at=datetime.now(UTC) - timedelta(hours=1), seed=7, project="acme/shop")
        record = {**story.first[0], "id": str(900_000_000 + uuid.uuid4().int % 99_000_000)}
        return github_payloads.github_events(record)[-1][1]

    def deliver(self, payload: dict[str, Any], *, secret: str | None = None) -> tuple[int, dict[str, Any]]:
        """Send it as GitHub does; the id is that of the run, so that the same again is the same delivery."""
        body = json.dumps(payload).encode()
        signed = hmac.new((secret or self.hook["secret"]).encode(), body, hashlib.sha256).hexdigest()
        answer = web.ask(
            self.hook["url"],
            method="POST",
            document=payload,
            headers={
                "X-GitHub-Event": "workflow_run",
                "X-GitHub-Delivery": f"d-{payload['workflow_run']['id']}",
                "X-Hub-Signature-256": f"sha256={signed}",
            },
        )
        assert answer is not None
        return answer.code, answer.document

    # --- what came of it ----------------------------------------------------------------------------------

    def kept(self) -> int:
        with psycopg.connect(self.stack.parts.platform()["pipewright_gateway"], autocommit=True) as conn:
            row = conn.execute(
                "SELECT count(*) FROM pipewright.spool WHERE tenant_id = %s", [self.status["id"]]
            ).fetchone()
        assert row is not None
        return int(row[0])

    def history(self, payload: dict[str, Any]) -> int:
        """How often the delivery's run is in the history, by the administrator's hand."""
        dsn = self.stack.parts.database().admin_dsn
        with psycopg.connect(dsn, dbname=self.secret["dbname"], autocommit=True) as admin:
            row = admin.execute(
                "SELECT count(*) FROM pipewright.events WHERE delivery_id = %s",
                [f"d-{payload['workflow_run']['id']}"],
            ).fetchone()
        assert row is not None
        return int(row[0])

    def runs(self) -> list[str]:
        listed = self.kubectl.get("workflowruns", "-n", self.name)
        return [it["spec"]["event"]["deliveryId"] for it in listed["items"]]


@pytest.fixture
def world(stack: Stack, tenants: Any, eventually: Any, provider: ProviderClient) -> World:
    return World(stack, tenants, eventually, provider)


def test_suspended_it_is_shut_out_everywhere_and_resumed_it_is_as_before(
    world: World, audit: Any, eventually: Any, leaving: list[str]
) -> None:
    token, payload = world.vault_token(), world.failed_run()
    world.read_vault(token)
    with world.session() as own:
        own.execute("CREATE TABLE app.kept AS SELECT 42 AS answer")
        world.suspend(True)
        world.until("tenant", world.name, "Suspended", "True", "Suspended")
        with pytest.raises(psycopg.OperationalError):
            own.execute("SELECT 1")
    told = world.condition("tenant", world.name, "Ready")
    assert (told["status"], told["reason"]) == ("False", "Suspended")
    assert world.condition("tenant", world.name, "Stalled")["status"] == "False"

    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"), world.session():
        pass
    with pytest.raises(Problem, match=r"40[03]"):
        world.vault_token()
    with pytest.raises(Problem, match="403"):  # a token that was given before opens nothing any more
        world.read_vault(token)

    assert world.deliver(payload, secret="wrong")[0] == 401
    assert world.deliver(payload) == (202, {"accepted": True, "parked": True})
    assert world.deliver(payload) == (200, {"duplicate": True})
    assert (world.kept(), world.history(payload), world.runs()) == (1, 0, [])
    patch = json.dumps({"spec": {"projects": ["acme/shop", "acme/web"]}})
    world.kubectl.run("patch", "integration", "github", "-n", world.name, "--type=merge", "-p", patch)
    world.until("integration", "github", "Ready", "False", "TenantSuspended")

    gone = "no tenant of an earlier test is still going"
    eventually(lambda: not any(map(world.tenants.get, leaving)), within=60, says=gone)
    nothing_is_written(audit, audit.position(), seconds=POLL + 5)

    world.suspend(False)
    world.until("tenant", world.name, "Ready", "True")
    assert world.condition("tenant", world.name, "Suspended")["reason"] == "NotSuspended"
    with world.session() as own:
        assert own.execute("SELECT answer FROM app.kept").fetchone() == (42,)
    assert world.tenants.secret(world.name) == world.secret
    world.read_vault(world.vault_token())
    eventually(lambda: world.history(payload) == 1, says="the delivery is in the history")
    eventually(world.runs, says="the workflow was started")
    assert world.deliver(payload) == (200, {"duplicate": True})
    assert (world.kept(), world.history(payload)) == (0, 1)
    assert world.runs() == [payload_id(payload)]
    world.until("integration", "github", "Ready", "True", within=POLL + 30)


def payload_id(payload: dict[str, Any]) -> str:
    return f"d-{payload['workflow_run']['id']}"


def nothing_is_written(audit: Any, since: int, *, seconds: float) -> None:
    """For so long none of our processes writes anything."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1)
        assert [it for user in OURS for it in audit.writes(since=since, user=user)] == []


def test_a_suspended_tenant_can_be_made_rotated_and_taken_away(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    name = tenants.apply(suspended=True, deletionPolicy="Delete", finalDump="Skip")

    def told(aspect: str) -> Any:
        conditions = ((tenants.get(name) or {}).get("status") or {}).get("conditions") or []
        return next((it for it in conditions if it["type"] == aspect), {"status": None})

    eventually(lambda: told("Suspended")["status"] == "True", within=60, says=f"{name} is suspended")
    eventually(
        lambda: tenants.kubectl.get("secret", "pipewright-database", "-n", name), says="its Secret is there"
    )
    first = tenants.secret(name)
    asked = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="seconds")
    tenants.kubectl.run("annotate", "tenant", name, f"pipewright.dev/rotate-requested-at={asked}")
    eventually(lambda: tenants.secret(name)["user"] != first["user"], says="the passwords are new")
    eventually(lambda: told("Suspended")["status"] == "True", says="it is suspended all the same")
    for secret in (first, tenants.secret(name)):
        fields = {key: secret[key] for key in ("host", "port", "dbname", "user", "password")}
        with pytest.raises(psycopg.OperationalError, match=r"not permitted|authentication failed"):
            psycopg.connect(**fields, connect_timeout=5)
    tenants.delete(name)
    eventually(lambda: tenants.get(name) is None, within=60, says="the Tenant is gone")
