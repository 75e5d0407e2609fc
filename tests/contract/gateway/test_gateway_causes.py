"""A model of causes: why a run failed, in conditions, REST and the report; and whether to run it again."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from gateway import decide
from ml import artifact, cause_train, contract, window
from pipewright.store import journal
from pipewright.store.records import Training
from tests.contract.gateway.conftest import token_of

RUN = {"project": "acme/shop", "pipeline": "ci", "branch": "main", "trigger": "push", "attempt": 1}
LOG = "fatal: unable to access 'https://git.example.org/x': Could not resolve host: git.example.org"
KEPT = (
    "SELECT provider_id, attempt, kind, transient, model_version FROM pipewright.failure_causes ORDER BY 1, 2"
)


def rows():
    """Failures that are run again: those of e2e pass then, those of unit do not."""
    start, chance, found = datetime(2026, 1, 1, tzinfo=UTC), random.Random(4), []
    for number in range(160):
        job, began = chance.choice(("e2e", "unit")), start + timedelta(hours=number)
        for attempt, outcome in ((1, "failure"), (2, "success" if job == "e2e" else "failure")):
            at = began + timedelta(minutes=20 * attempt)
            found.append(
                {
                    "integration": "github", "project": "acme/shop", "pipeline": "ci", "run_id": str(number),
                    "attempt": attempt, "number": number, "event": "push", "branch": "main", "actor": "u",
                    "sha": f"s{number}", "outcome": outcome, "queued_at": None, "started_at": at,
                    "finished_at": at + timedelta(minutes=5),
                    "failed_jobs": [job] if outcome == "failure" else [], "jobs": 2,
                }
            )  # fmt: skip
    return found


@pytest.fixture(scope="session")
def learned() -> tuple[bytes, contract.Report]:
    """A small model of causes that was really trained, and its report."""
    content = window.write(rows())
    job = contract.TrainingJob(
        submission_id="t",
        task="FailureCause",
        window_uri="file:///nowhere/window.parquet",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report.json",
    )
    return cause_train.learn(content, job)


@pytest.fixture
async def causes(world, tenant, learned):
    return await world.promote(tenant, learned[0], name="causes", task="FailureCause")


async def fail(world, hook, github, *, run, job, minute=0, attempt=1):
    """A run of which a job fails, and then the run."""
    started = f"2026-03-01T12:{minute:02d}:00Z"
    told = {
        "action": "completed",
        "workflow_job": {
            "id": 1000 * run + attempt, "run_id": run, "run_attempt": attempt, "name": job,
            "conclusion": "failure", "status": "completed", "created_at": started, "started_at": started,
            "completed_at": f"2026-03-01T12:{minute + 4:02d}:00Z", "workflow_name": "CI",
            "head_branch": "main", "head_sha": "a" * 40, "labels": ["linux"], "runner_name": "r1",
            "html_url": "https://github.com/acme/shop/actions/runs/1/job/1", "steps": [],
        },
        "repository": {"full_name": "acme/shop"},
        "sender": {"login": "octocat"},
    }  # fmt: skip
    assert (await world.deliver(hook, "workflow_job", told)).status == 202
    ended = github("completed", run=run, minute=minute, conclusion="failure", attempt=attempt)
    await world.deliver(hook, "workflow_run", ended)


async def test_a_failed_run_is_judged_once_and_one_that_passes_is_not(world, hook, tenant, github, causes):
    await fail(world, hook, github, run=1, job="e2e")
    await fail(world, hook, github, run=2, job="unit", minute=10)
    await world.deliver(hook, "workflow_run", github("completed", run=3, minute=20, conclusion="success"))
    first = await tenant.rows(KEPT)
    assert [(run, attempt, kind) for run, attempt, kind, *_ in first] == [("1", 1, "flaky"), ("2", 1, "code")]
    assert first[0][3] > 0.7 > 0.3 > first[1][3]
    assert {row[4] for row in first} == {causes.version}
    await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))
    assert await tenant.rows(KEPT) == first


async def test_a_condition_reads_why_a_run_failed(world, hook, tenant, github, causes):
    uid = await world.trigger(
        tenant, condition="prediction.cause.kind == 'flaky' && prediction.cause.transient > 0.7"
    )
    await fail(world, hook, github, run=1, job="e2e")
    await fail(world, hook, github, run=2, job="unit", minute=10)
    found = await tenant.rows(
        "SELECT fired, prediction FROM pipewright.decisions WHERE workflow_uid = %s ORDER BY id", uid
    )
    assert [fired for fired, _ in found] == [True, False]
    cause = found[0][1]["cause"]
    assert (cause["owner"], cause["model"]) == ("team", causes.version)
    assert cause["recipe"].startswith("Run it again")
    assert "the job e2e failed" in cause["reasons"][0]


async def test_nothing_is_done_by_the_cause_of_a_run_in_its_control_group(
    world, hook, tenant, github, learned
):
    await world.promote(tenant, learned[0], name="causes", task="FailureCause", control_share=0.5)
    uid = await world.trigger(tenant, condition="prediction.cause.transient >= 0.0")
    for run in range(1, 21):
        await fail(world, hook, github, run=run, job="e2e", minute=run)
    found = await tenant.rows(
        "SELECT reason, count(*) FROM pipewright.decisions WHERE workflow_uid = %s GROUP BY 1", uid
    )
    counts = dict(found)
    assert counts["fired"] + counts[decide.HELD] == 20
    assert min(counts["fired"], counts[decide.HELD]) > 0


async def test_ask_why_a_run_failed_with_and_without_its_log(world, hook, tenant, causes):
    url = f"/v1/namespaces/{tenant.namespace}/models/causes/predictions"
    bare = await world.rest("POST", url, json={**RUN, "failedJobs": ["e2e"]})
    assert bare.status == 200, bare.body
    assert (bare.body["kind"], bare.body["category"], bare.body["advice"]) == ("flaky", None, "run it again")
    assert bare.body["model"] == {"name": "causes", "version": causes.version}
    logged = await world.rest("POST", url, json={**RUN, "failedJobs": ["unit"], "log": LOG})
    assert logged.body["kind"] == "infra"
    assert logged.body["category"]
    assert logged.body["recipe"]
    assert "git.example.org" in logged.body["reasons"][0]
    assert (await world.rest("POST", url, json={**RUN, "log": 5})).status == 422
    kept = await tenant.rows("SELECT count(*) FROM pipewright.failure_causes")
    assert kept == [(0,)], "what was only asked is not kept"


async def test_recorded_causes_are_listed_and_the_report_tells_how_re_runs_ended(
    world, hook, tenant, github, causes, learned
):
    await written(tenant, causes.model_uid, learned)
    await fail(world, hook, github, run=1, job="e2e")
    ended = github("completed", run=1, minute=10, conclusion="success", attempt=2)
    await world.deliver(hook, "workflow_run", ended)
    await fail(world, hook, github, run=2, job="unit", minute=20)
    await fail(world, hook, github, run=2, job="unit", minute=30, attempt=2)
    base = f"/v1/namespaces/{tenant.namespace}/models/causes"
    listed = (await world.rest("GET", f"{base}/predictions")).body["items"]
    assert {(it["run"], it["attempt"], it["kind"], it["advice"], it["integration"]) for it in listed} == {
        ("1", 1, "flaky", "run it again", "github"),
        ("2", 1, "code", "do not run it again", "github"),
        ("2", 2, "code", "do not run it again", "github"),
    }
    found = await world.rest("GET", f"{base}/report")
    assert found.status == 200, found.body
    body, report = found.body, learned[1]
    assert body["heldOut"]["metrics"]["accuracy"] == report.causes.metrics.accuracy
    assert set(body["heldOut"]["baselines"]) == {"majority", "lineRate"}
    live = body["live"]
    assert (live["causes"], live["judged"], live["passed"], live["accuracy"]) == (3, 2, 1, 1.0)
    assert live["kinds"] == {"code": 2, "flaky": 1}
    assert live["brier"] < 0.1
    page = await world.ask(
        "GET", f"{base}/report", headers={"Authorization": f"Bearer {token_of('ada')}", "Accept": "text/html"}
    )
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.body.count("<svg") == 2


async def written(tenant, model_uid, learned):
    """What the runner writes of a training."""
    content, report = learned
    now = datetime.now(UTC)
    training = Training(
        submission_id="s-1", model_uid=model_uid, attempt=1, phase="Running", window_sha256="0" * 64,
        window_uri="file:///w", rows=report.rows, artifact_uri="file:///a", report_uri="file:///r",
        started_at=now,
    )  # fmt: skip
    told = json.loads(contract.to_json(report)) | {"artifactSha256": artifact.digest(content)}
    async with tenant.connect("runner") as conn:
        assert await journal.begin_training(conn, training)
        assert await journal.finish_training(
            conn, "s-1", phase="Finished", outcome="Passed", reason="all gates passed", finished_at=now,
            report=told,
        )  # fmt: skip
