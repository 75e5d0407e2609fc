"""A model of durations: forecasts when runs start, conditions that read them, REST and the report."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from gateway import decide
from ml import artifact, contract, duration_train, window
from pipewright.store import journal
from pipewright.store.records import Training
from tests.contract.gateway.conftest import simulated_rows, token_of

RUN = {"project": "acme/shop", "pipeline": "ci", "branch": "main", "trigger": "push", "sha": "b" * 40}
KEPT = "SELECT provider_id, attempt, p50, p95, model_version FROM pipewright.duration_forecasts ORDER BY 1, 2"


@pytest.fixture(scope="session")
def learned() -> tuple[bytes, contract.Report]:
    """A small model of durations that was really trained, and its report."""
    content = window.write(simulated_rows())
    job = contract.TrainingJob(
        submission_id="t",
        task="Duration",
        window_uri="file:///nowhere/window.parquet",
        window_sha256=artifact.digest(content),
        artifact_uri="file:///nowhere/model",
        report_uri="file:///nowhere/report.json",
        hyperparameters={"num_trees": 20},
    )
    return duration_train.learn(content, job)


@pytest.fixture
async def durations(world, tenant, learned):
    return await world.promote(tenant, learned[0], name="durations", task="Duration")


async def history(world, hook, github, *, runs=(1, 2, 3)):
    """Runs of five minutes that have ended."""
    for run in runs:
        await world.deliver(
            hook, "workflow_run", github("completed", run=run, minute=run, conclusion="success")
        )


def slow(github, *, run, minute=10):
    """A run that ends after 45 minutes."""
    payload = github("completed", run=run, minute=minute, conclusion="failure")
    payload["workflow_run"]["updated_at"] = f"2026-03-01T12:{minute + 45:02d}:00Z"
    return payload


async def test_how_long_a_run_takes_is_said_once_when_it_starts(world, hook, tenant, github, durations):
    await history(world, hook, github)
    await world.deliver(hook, "workflow_run", github("requested", run=7, minute=10))
    first = await tenant.rows(KEPT)
    assert [row[0] for row in first] == ["2", "3", "7"], "nothing was known when the first one ended"
    _, attempt, p50, p95, version = first[-1]
    assert (attempt, version) == (1, durations.version)
    assert 100 < p50 <= p95 < 900
    await history(world, hook, github, runs=(4, 5))
    await world.deliver(hook, "workflow_run", github("in_progress", run=7, minute=10))
    await world.deliver(hook, "workflow_run", github("completed", run=7, minute=10, conclusion="failure"))
    assert [row for row in await tenant.rows(KEPT) if row[0] == "7"] == [first[-1]]


async def test_a_condition_reads_it_with_or_without_a_model_of_failures(
    world, hook, tenant, github, durations, model_file
):
    slower = "event.finishedAt - event.startedAt > duration(string(prediction.duration.p95) + 's')"
    uid = await world.trigger(tenant, condition=slower)
    await history(world, hook, github)
    await world.deliver(hook, "workflow_run", slow(github, run=8))
    await world.promote(tenant, model_file)
    await world.deliver(hook, "workflow_run", slow(github, run=9))
    found = await tenant.rows(
        "SELECT fired, reason, prediction FROM pipewright.decisions WHERE workflow_uid = %s ORDER BY id", uid
    )
    # of the first run nothing was known
    assert [fired for fired, *_ in found] == [False, False, False, True, True]
    assert found[0][1].startswith("evaluation failed")
    assert found[1][1] == "condition is false"
    alone, both = found[3][2], found[4][2]
    assert set(alone) == {"reasons", "duration"}
    assert alone["duration"]["model"] == durations.version
    assert both["duration"]["p50"] <= both["duration"]["p90"] <= both["duration"]["p95"]
    assert both["retry"]["probability"] > 0


async def test_nothing_is_done_by_the_forecast_of_a_run_in_its_control_group(
    world, hook, tenant, github, learned
):
    await world.promote(tenant, learned[0], name="durations", task="Duration", control_share=0.5)
    uid = await world.trigger(tenant, condition="prediction.duration.p50 > 0.0")
    await history(world, hook, github, runs=range(1, 21))
    found = await tenant.rows(
        "SELECT reason, count(*) FROM pipewright.decisions WHERE workflow_uid = %s GROUP BY 1", uid
    )
    counts = dict(found)
    assert counts["fired"] + counts[decide.HELD] >= 19
    assert min(counts["fired"], counts[decide.HELD]) > 0


async def test_ask_how_long_a_run_takes(world, hook, tenant, github, durations):
    url = f"/v1/namespaces/{tenant.namespace}/models/durations/predictions"
    unknown = await world.rest("POST", url, json=RUN)
    assert (unknown.status, unknown.body["reason"]) == (409, "NothingKnown")
    await history(world, hook, github)
    answer = await world.rest("POST", url, json=RUN)
    assert answer.status == 200, answer.body
    assert answer.body["model"] == {"name": "durations", "version": durations.version}
    assert 0 < answer.body["p50"] <= answer.body["p90"] <= answer.body["p95"]
    assert answer.body["reasons"][0].startswith("3 runs of this ")
    assert (await world.rest("POST", url, json={**RUN, "attempt": 0})).status == 422
    many = await world.rest("POST", f"{url}/batch", json={"runs": [RUN]})
    assert (many.status, many.body["reason"]) == (409, "OtherTask")


async def test_recorded_forecasts_are_listed_by_run(world, hook, tenant, github, durations):
    await history(world, hook, github)
    url = f"/v1/namespaces/{tenant.namespace}/models/durations/predictions"
    every = await world.rest("GET", url)
    assert {(each["run"], each["integration"]) for each in every.body["items"]} == {
        ("2", "github"),
        ("3", "github"),
    }
    (one,) = (await world.rest("GET", url, params={"run": "3"})).body["items"]
    assert one["model"] == {"name": "durations", "version": durations.version}


async def test_the_report_tells_how_it_was_judged_how_it_does_and_what_was_slow(
    world, hook, tenant, github, durations, learned
):
    await written(tenant, durations.model_uid, learned)
    await history(world, hook, github)
    await world.deliver(hook, "workflow_run", slow(github, run=8))
    await world.deliver(hook, "workflow_run", github("requested", run=9, minute=20))
    url = f"/v1/namespaces/{tenant.namespace}/models/durations/report"
    found = await world.rest("GET", url)
    assert found.status == 200, found.body
    body, report = found.body, learned[1]
    assert (body["task"], body["model"]["version"]) == ("Duration", durations.version)
    assert body["heldOut"]["metrics"]["pinballLoss"] == report.durations.metrics.pinball_loss
    assert set(body["heldOut"]["baselines"]) == {"recentRuns", "lastRun"}
    live = body["live"]
    assert (live["forecasts"], live["judged"]) == (4, 3)
    assert live["covered"]["p95"] == pytest.approx(2 / 3)
    assert live["populationStabilityIndex"] > 0
    assert [(it["run"], it["seconds"], it["integration"]) for it in body["slow"]] == [("8", 2700, "github")]
    assert [(it["attempt"], it["version"]) for it in body["trainings"]] == [(1, durations.version)]
    page = await world.ask(
        "GET", url, headers={"Authorization": f"Bearer {token_of('ada')}", "Accept": "text/html"}
    )
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.body.count("<svg") == 3
    assert "45 min" in page.body


async def written(tenant, model_uid, learned):
    """What the runner writes of a training."""
    content, report = learned
    now = datetime.now(UTC)
    sha = artifact.digest(content)
    training = Training(
        submission_id="s-1", model_uid=model_uid, attempt=1, phase="Running", window_sha256="0" * 64,
        window_uri="file:///w", rows=report.rows, artifact_uri="file:///a", report_uri="file:///r",
        started_at=now,
    )  # fmt: skip
    told = json.loads(contract.to_json(report)) | {"artifactSha256": sha}
    async with tenant.connect("runner") as conn:
        assert await journal.begin_training(conn, training)
        assert await journal.finish_training(
            conn, "s-1", phase="Finished", outcome="Passed", reason="all gates passed", finished_at=now,
            report=told,
        )  # fmt: skip
