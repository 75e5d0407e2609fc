"""What the gateway's model sees of a run when its events come in, training sees of it in the data window."""

from datetime import UTC, datetime

import pytest

from dev import simulator
from dev.github_payloads import github_deliveries
from ml import artifact, features, replay, window
from ml.predict import Predictor
from pipewright.store import window as export

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def scored(monkeypatch):
    """(run id, attempt) → (whether it was only queued, its features), as the gateway had them scored."""
    found = {}
    predict = Predictor.predict

    def recording(self, run, lines):
        waits = run.queued_at == run.started_at
        found.setdefault((run.run_id, run.attempt), (waits, features.features(run, lines)))
        return predict(self, run, lines)

    monkeypatch.setattr(Predictor, "predict", recording)
    return found


async def test_a_delivery_from_the_future_is_refused_and_blinds_no_line(world, tenant, github):
    hook = await world.hook(tenant)
    payload = github("completed", conclusion="failure")
    payload["workflow_run"]["updated_at"] = "2199-01-01T00:00:00Z"
    answer = await world.deliver(hook, "workflow_run", payload)
    assert answer.status == 202
    assert answer.body["refused"].startswith("finishedAt: lies in the future")
    assert await tenant.rows("SELECT scope FROM pipewright.lines") == []


async def replayed(tenant):
    """(run id, attempt) → its row in training, from the data window as the runner exports it."""
    async with tenant.connect("runner") as conn:
        content = window.write_table(await export.table(conn))
    table = window.read(content, sha256=artifact.digest(content))
    return {
        (row.run.run_id, row.run.attempt): (row.run, features.features(row.run, lines))
        for row, lines in replay.replay(replay.attempts(table))
    }


async def test_a_run_that_is_queued_started_finished_is_to_training_what_it_was_when_scored(
    world, tenant, model_file, scored
):
    records = list(simulator.history(until=UNTIL, seed=7, runs=120, days=1))
    projects = sorted({record["project"] for record in records})
    hook = await world.hook(tenant, projects=projects)
    other = await world.hook(tenant, name="enterprise", projects=projects)
    await world.promote(tenant, model_file)
    runs = [record for record in records if record["type"] == "run"]
    for _, event, payload in github_deliveries(runs):
        where = other if payload["workflow_run"]["id"] % 2 else hook
        assert (await world.deliver(where, event, payload)).status == 202

    offline = await replayed(tenant)
    first = [name for name in offline if name[1] == 1]
    assert len(first) > 80
    for name in first:
        waits, online = scored[name]
        assert waits
        assert online == pytest.approx(offline[name][1], rel=0, abs=0, nan_ok=True)
    # While some of them waited for their start, others finished: at the start more was known.
    finishes = [datetime.fromisoformat(run["finishedAt"]).timestamp() for run in runs]
    spans = [(run.judged_at, run.started_at) for run, _ in offline.values() if run.attempt == 1]
    assert any(queued < at <= started for queued, started in spans for at in finishes)
