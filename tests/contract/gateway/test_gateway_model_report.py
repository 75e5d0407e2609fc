"""A model's report over HTTP: its training's points, and how its predictions turned out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ml import artifact, contract
from ml.train import Trained
from pipewright.store import journal
from pipewright.store.records import Training
from tests.contract.gateway.conftest import token_of


async def written(tenant: Any, model_uid: str, trained: Trained) -> None:
    """What the runner writes of a training."""
    report = contract.Report(
        submission_id="s-1", outcome="Passed", reason="all gates passed", metrics=trained.metrics,
        baselines=trained.baselines, curves=trained.curves, artifact_sha256=artifact.digest(trained.content),
        rows=trained.rows, data_from=trained.data_from, data_to=trained.data_to,
    )  # fmt: skip
    now = datetime.now(UTC)
    training = Training(
        submission_id="s-1", model_uid=model_uid, attempt=1, phase="Running", window_sha256="0" * 64,
        window_uri="file:///w", rows=trained.rows, artifact_uri="file:///a", report_uri="file:///r",
        started_at=now,
    )  # fmt: skip
    async with tenant.connect("runner") as conn:
        assert await journal.begin_training(conn, training)
        assert await journal.finish_training(
            conn, "s-1", phase="Finished", outcome="Passed", reason="all gates passed", finished_at=now,
            report=json.loads(contract.to_json(report)),
        )  # fmt: skip


async def test_it_has_what_the_training_said_and_what_became_of_the_predictions(
    world, tenant, hook, github, trained
):
    pointer = await world.promote(tenant, trained.content)
    await written(tenant, pointer.model_uid, trained)
    ends = {1: "success", 2: "failure", 3: "cancelled", 4: None}
    for run, conclusion in ends.items():
        await world.deliver(hook, "workflow_run", github("requested", run=run, minute=run))
        if conclusion:
            ended = github("completed", run=run, minute=run, conclusion=conclusion)
            await world.deliver(hook, "workflow_run", ended)

    found = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/models/run-failure/report")
    assert found.status == 200, found.body
    body = found.body
    assert body["model"] == {"name": "run-failure", "version": pointer.version}
    held = body["heldOut"]
    assert held["metrics"]["accuracy"] == trained.metrics.accuracy
    assert set(held["baselines"]) == {"alwaysPass", "lastOutcome"}
    assert len(held["curves"]["deciles"]) == 10
    live = body["live"]
    assert (live["predictions"], live["judged"], live["failures"]) == (4, 2, 1)
    assert sum(each["rows"] for each in live["calibration"]) == 2
    assert live["populationStabilityIndex"] > 0
    assert [(it["attempt"], it["outcome"], it["version"]) for it in body["trainings"]] == [
        (1, "Passed", pointer.version)
    ]


async def test_whoever_accepts_html_gets_a_page(world, tenant, trained):
    pointer = await world.promote(tenant, trained.content)
    await written(tenant, pointer.model_uid, trained)
    found = await world.ask(
        "GET",
        f"/v1/namespaces/{tenant.namespace}/models/run-failure/report",
        headers={"Authorization": f"Bearer {token_of('ada')}", "Accept": "text/html,*/*;q=0.8"},
    )
    assert found.status == 200, found.body
    assert found.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    assert found.body.count("<svg") == 4


async def test_without_a_training_on_record_there_is_what_is_known(world, tenant, model_file):
    pointer = await world.promote(tenant, model_file)
    found = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/models/run-failure/report")
    assert (found.status, found.body["heldOut"], found.body["trainings"]) == (200, None, [])
    assert found.body["model"]["version"] == pointer.version


async def test_a_model_without_an_active_version_has_none(world, tenant):
    found = await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/models/nobody/report")
    assert (found.status, found.body["reason"]) == (404, "NoActiveVersion")
