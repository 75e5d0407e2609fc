"""What one tenant's history says in Kafka another gateway takes in, as it came, joined to a batch."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

from pipewright.store import to_kafka

RUN = {
    "type": "run", "project": "acme/shop", "pipeline": "ci", "id": "7", "attempt": 1, "branch": "main",
    "sha": "a1", "actor": "octocat", "outcome": "failure", "startedAt": "2026-03-01T12:00:00Z",
    "finishedAt": "2026-03-01T12:05:00Z",
}  # fmt: skip
JOB = {
    "type": "job", "project": "acme/shop", "run": "7", "attempt": 1, "id": "70", "name": "unit",
    "labels": ["x64"], "outcome": "failure", "finishedAt": "2026-03-01T12:04:00Z",
}  # fmt: skip
DEPLOYMENT = {
    "type": "deployment", "project": "acme/shop", "id": "d-1", "environment": "production", "run": "7",
    "outcome": "success", "finishedAt": "2026-03-01T12:09:00Z",
}  # fmt: skip
ROWS = [
    "SELECT provider_id, attempt, project, pipeline, branch, sha, outcome, finished_at FROM pipewright.runs",
    "SELECT provider_id, attempt, started_at, failed_jobs FROM pipewright.runs",
    "SELECT provider_id, run_id, attempt, project, name, outcome, labels, finished_at FROM pipewright.jobs",
    "SELECT provider_id, environment, run_id, outcome, finished_at FROM pipewright.deployments",
]


async def send(world, hook, body):
    signature = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/cloudevents-batch+json", "X-Signature-256": f"sha256={signature}",
    }  # fmt: skip
    return await world.ask("POST", f"/hooks/{hook.id}", data=body, headers=headers)


async def test_a_history_comes_back_from_the_topic(world, tenant, broker, tmp_path):
    here = await world.hook(tenant, name="ci", connector="cdevents")
    told = [
        {"specversion": "1.0", "type": "dev.pipewright.record", "source": "/ci", "id": str(n), "data": data}
        for n, data in enumerate([RUN, JOB, DEPLOYMENT])
    ]
    assert (await send(world, here, json.dumps(told).encode())).body["batch"] == {"stored": 3}

    dsn = tmp_path / "uri"
    dsn.write_text(tenant.dsn("readonly"))
    since, until = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    asked = ["--dsn-file", str(dsn), "--brokers", broker.address, "--topic", "round"]
    assert to_kafka.main([*asked, "--since", since.isoformat(), "--until", until.isoformat()]) == 0

    there = await world.tenant()
    hook = await world.hook(there, name="elsewhere", connector="cdevents")
    body = b"[" + b",".join(message.value for message in broker.messages("round")) + b"]"
    assert (await send(world, hook, body)).body["batch"] == {"stored": 3}
    for rows in ROWS:
        assert await there.rows(rows) == await tenant.rows(rows)
    assert (await send(world, hook, body)).body == {"duplicate": True, "batch": {"duplicate": 3}}
