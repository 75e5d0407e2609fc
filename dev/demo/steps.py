"""The steps of the demo, in the order in which they are told. Each reads back what it claims."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg

from dev import simulator
from dev.demo.scene import NEIGHBOUR, TENANT, ProviderClient, Scene
from dev.github_payloads import github_deliveries
from dev.problem import Problem

RUNS = 5000
"""Attempts of runs that the simulated organisation has behind it."""
BY_WEBHOOK = timedelta(days=3)
"""The newest part of the history comes as signed webhooks, the rest as an import."""
INTEGRATION, MODEL, WORKFLOW = "github", "run-failure", "heal-flaky-runs"


@dataclass(slots=True)
class Findings:
    """What the closing table shows."""

    tenants: list[dict[str, Any]] = field(default_factory=list)
    imported: Mapping[str, Any] = field(default_factory=dict)
    webhooks: Mapping[str, int] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    healed: dict[str, Any] = field(default_factory=dict)
    proofs: list[tuple[str, str]] = field(default_factory=list)


def tenants(scene: Scene, findings: Findings) -> None:
    """Two tenants from the example, each with its own place."""
    scene.apply("01-tenants.yaml")
    for name in (TENANT, NEIGHBOUR):
        findings.tenants.append(scene.wait_condition("tenant", name, within=60))
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "automation", "namespace": TENANT},
    }
    scene.kubectl.apply(account)


def enter(scene: Scene) -> None:
    """Nothing in the cluster has the demo's names: what is there in a cluster of somebody else stays theirs.

    Raises Problem when there is.
    """
    for kind in ("tenant", "namespace"):
        for name in (TENANT, NEIGHBOUR):
            if scene.kubectl.get(kind, name) is not None:
                raise Problem(
                    f"the cluster has a {kind} {name} already; the demo makes its own: remove it first"
                )


def leave(scene: Scene) -> None:
    """Take the demo's tenants, with their data, out of a cluster that stays when the stack ends."""
    spec = '{"spec":{"deletionPolicy":"Delete"}}'
    for name in (TENANT, NEIGHBOUR):
        if scene.kubectl.get("tenant", name) is not None:
            scene.kubectl.run("patch", "tenant", name, "--type=merge", "-p", spec)
            scene.kubectl.run("delete", "tenant", name, "--wait=false")
    for name in (TENANT, NEIGHBOUR):
        gone = partial(_is_gone, scene, name)
        scene.wait(gone, what=f"tenant {name} is gone", within=90)


def integration(scene: Scene, provider: ProviderClient) -> None:
    """Acme connects its provider, and pastes the webhook's address and secret there."""
    provider.start()
    scene.progress.say(f"provider simulator answers on {provider.url}")
    credentials = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "github-credentials", "namespace": TENANT},
        "stringData": {"token": provider.token},
    }
    scene.kubectl.apply(credentials)

    def here(document: dict[str, Any]) -> None:
        document["spec"]["config"] = {"baseUrl": provider.url}

    scene.apply("02-integration.yaml", here)
    scene.wait_condition("integration", INTEGRATION, within=60, namespace=TENANT)
    webhook = scene.secret(f"{INTEGRATION}-webhook", namespace=TENANT)
    provider.tell("hooks", {"url": webhook["url"], "secret": webhook["secret"]})
    scene.progress.say(f"the provider delivers to {webhook['path'][:12]}… and signs what it sends")


def history(scene: Scene, provider: ProviderClient, findings: Findings) -> None:
    """Months of runs: the older ones imported, the newer ones delivered as signed webhooks."""
    now = datetime.now(UTC)
    records = list(simulator.recent(until=now - timedelta(minutes=30), runs=RUNS))
    border = (now - BY_WEBHOOK).isoformat(timespec="seconds").replace("+00:00", "Z")
    newer = {(it["id"], it["attempt"]) for it in records if it["type"] == "run" and it["startedAt"] >= border}
    by_webhook = [it for it in records if (it.get("run", it["id"]), it["attempt"]) in newer]
    imported = [it for it in records if (it.get("run", it["id"]), it["attempt"]) not in newer]
    with scene.progress.step(f"import of {_runs(imported)} runs and their jobs"):
        findings.imported = _import(scene, imported)
    with scene.progress.step(f"signed webhooks of {_runs(by_webhook)} runs"):
        deliveries = [
            {"event": event, "payload": payload} for _, event, payload in github_deliveries(by_webhook)
        ]
        codes: dict[str, int] = {}
        for batch in _batches(deliveries, 200):
            for code, count in provider.tell("deliver", batch, timeout=120)["statuses"].items():
                codes[code] = codes.get(code, 0) + count
    findings.webhooks = codes
    if set(codes) - {"200", "202"}:
        raise Problem(f"the gateway refused webhooks: {codes}. Its log is {scene.stack.log('gateway')}.")
    _count_runs(scene, expected=_runs(records))


def model(scene: Scene, findings: Findings) -> None:
    """A model trained on Ray from that history, and promoted because it passed its gates."""
    scene.apply("03-model.yaml")
    findings.model = scene.wait_condition("model", MODEL, within=600, namespace=TENANT)
    active = findings.model["status"]["active"]
    told = scene.rest(
        "POST",
        f"/v1/namespaces/{TENANT}/models/{MODEL}/predictions",
        document={
            "project": "acme/shop",
            "pipeline": "ci",
            "branch": "main",
            "trigger": "push",
            "sha": "0" * 40,
        },
    )
    if told["model"]["version"] != active["version"]:
        raise Problem(
            f"the gateway serves version {told['model']['version']}, promoted is {active['version']}"
        )
    scene.progress.say(f"the gateway serves version {active['version']}")


def workflow(scene: Scene) -> None:
    """The rule that heals."""
    scene.apply("04-workflow.yaml")
    scene.wait_condition("workflow", WORKFLOW, within=60, namespace=TENANT)


def heal(scene: Scene, provider: ProviderClient, findings: Findings) -> None:
    """A run fails in its flaky job; the workflow runs it again and says so; it turns green."""
    story = simulator.story(at=datetime.now(UTC))
    run = story.first[0]
    script = [[dict(record) for record in attempt] for attempt in (story.first, story.second)]
    provider.tell("runs", {"attempts": script, "delay": 0.2})
    scene.progress.say(f"run {run['id']} of {run['project']} starts at the provider")
    with connect(scene, TENANT) as own:
        failed = scene.wait(
            lambda: _attempt(own, run["id"], 1, "failure"),
            what=f"attempt 1 of run {run['id']} failed",
            within=60,
        )
        findings.decision = scene.wait(
            lambda: _decision(scene, run["id"]), what="the gateway decided to run it again", within=60
        )
        name = findings.decision["workflowRun"]
        scene.wait_condition("workflowrun", name, "Succeeded", within=120, namespace=TENANT)
        healed = scene.wait(
            lambda: _attempt(own, run["id"], 2, "success"), what=f"run {run['id']} is green", within=60
        )
    comments = [it for it in provider.ask("comments") if it["commit_id"] == run["sha"]]
    reruns = [it for it in provider.ask("calls") if it["path"].endswith(f"{run['id']}/rerun-failed-jobs")]
    if len(comments) != 1 or [it["status"] for it in reruns] != [201]:
        raise Problem(f"expected one re-run and one comment, found {reruns} and {len(comments)} comments")
    findings.healed = {
        "run": run["id"],
        "project": run["project"],
        "workflowRun": name,
        "seconds": (healed["finished_at"] - failed["finished_at"]).total_seconds(),
        "comment": comments[0]["body"],
    }


def isolation(scene: Scene, findings: Findings) -> None:
    """With the tenant's own credentials its own things answer, and the neighbour's refuse."""
    mine, theirs = (it["status"] for it in findings.tenants)
    with connect(scene, TENANT) as own:
        own.execute("SELECT 1")
    findings.proofs.append(("its own database", "answers"))
    secret = scene.secret("pipewright-database", namespace=TENANT)
    try:
        connect(scene, TENANT, dbname=theirs["database"]["name"]).close()
    except psycopg.OperationalError as refused:
        if "permission denied" not in str(refused):
            raise Problem(f"the neighbour's database did not refuse but failed: {refused}") from None
        findings.proofs.append(("the neighbour's database", "refuses: permission denied"))
    else:
        raise Problem(f"{secret['user']} got into the neighbour's database")
    if "vault" not in mine:
        findings.proofs.append(("its own Vault path", "there is none: VAULT=none"))
        return
    vault = scene.stack.parts.vault()
    jwt = scene.kubectl.token("pipewright", namespace=TENANT, audience="vault", hours=1)
    token = vault.login(mine["vault"]["role"], jwt)
    found = vault.call("GET", f"tenants/data/{mine['vault']['path']}/database", token=token)
    if found["data"]["data"]["password"] != secret["password"]:
        raise Problem("Vault and the connection Secret disagree")
    findings.proofs.append(("its own Vault path", "answers"))
    try:
        vault.call("GET", f"tenants/data/{theirs['vault']['path']}/database", token=token)
    except Problem as refused:
        if "403" not in str(refused):
            raise
        findings.proofs.append(("the neighbour's Vault path", "refuses: 403"))
    else:
        raise Problem("Vault let the tenant read the neighbour's path")


def _is_gone(scene: Scene, tenant: str) -> bool:
    return scene.kubectl.get("tenant", tenant) is None


def connect(scene: Scene, tenant: str, **other: str) -> psycopg.Connection[Any]:
    """A connection with the tenant's own Secret."""
    secret = scene.secret("pipewright-database", namespace=tenant)
    fields = {key: secret[key] for key in ("host", "port", "dbname", "user", "password")} | other
    return psycopg.connect(
        **fields,  # type: ignore[arg-type]
        autocommit=True,
        connect_timeout=10,
        row_factory=psycopg.rows.dict_row,
    )


def _attempt(own: psycopg.Connection[Any], run: str, attempt: int, outcome: str) -> dict[str, Any] | None:
    row: dict[str, Any] | None = own.execute(
        "SELECT outcome, finished_at FROM history.runs"
        " WHERE provider_id = %s AND attempt = %s AND outcome = %s",
        [run, attempt, outcome],
    ).fetchone()
    return row


def _decision(scene: Scene, run: str) -> dict[str, Any] | None:
    answer = scene.rest("GET", f"/v1/namespaces/{TENANT}/workflows/{WORKFLOW}/decisions")
    about = (it for it in answer["items"] if it["event"]["run"]["id"] == run and it["fired"])
    return next(about, None)


def _count_runs(scene: Scene, *, expected: int) -> None:
    with connect(scene, TENANT) as own:
        row = own.execute("SELECT count(*) AS runs FROM history.runs").fetchone()
    if row is None or row["runs"] != expected:
        raise Problem(f"expected {expected} runs in the tenant's history, found {row}")
    scene.progress.say(f"the tenant's own login counts {expected} runs in its history")


def _import(scene: Scene, records: list[dict[str, Any]]) -> Any:
    token = scene.kubectl.token("automation", namespace=TENANT, audience="pipewright", hours=1)
    url = f"{scene.stack.gateway_url}/v1/namespaces/{TENANT}/integrations/{INTEGRATION}/history"
    body = "".join(json.dumps(record) + "\n" for record in records).encode()
    request = urllib.request.Request(  # noqa: S310 - the gateway on loopback
        url,
        data=body,
        method="POST",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        return json.load(answer)


def _runs(records: list[dict[str, Any]]) -> int:
    return sum(record["type"] == "run" for record in records)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
