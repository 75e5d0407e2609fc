"""Several CloudEvents in one body: each counts once by its own id, all are stored or none."""

import hashlib
import hmac
import json

import pytest

BATCH, LINES = "application/cloudevents-batch+json", "application/x-ndjson"


def event(number, **changes):
    run = {
        "type": "run", "project": "acme/shop", "pipeline": "ci", "id": str(number), "attempt": 1,
        "outcome": "failure", "finishedAt": "2026-03-01T12:05:00Z", **changes,
    }  # fmt: skip
    return {
        "specversion": "1.0", "type": "dev.pipewright.record", "source": "/ci", "id": f"e-{number}",
        "data": run,
    }  # fmt: skip


def cdevent(number, outcome="success"):
    return {
        "specversion": "1.0", "type": "dev.cdevents.pipelinerun.finished.0.2.0", "source": "/tekton",
        "id": f"c-{number}",
        "data": {
            "context": {"timestamp": "2026-03-01T12:05:00Z"},
            "subject": {"id": f"c-{number}", "content": {"pipelineName": "ci", "outcome": outcome}},
            "customData": {"project": "acme/shop"},
        },
    }  # fmt: skip


async def send(world, hook, events, *, kind=BATCH, body=None):
    if body is None:
        body = json.dumps(events) if kind == BATCH else "\n".join(map(json.dumps, events))
    signature = hmac.new(hook.secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"Content-Type": kind, "X-Signature-256": f"sha256={signature}"}
    return await world.ask("POST", f"/hooks/{hook.id}", data=body.encode(), headers=headers)


@pytest.fixture
async def source(world, tenant):
    return await world.hook(tenant, name="tekton", connector="cdevents")


async def runs(tenant):
    return await tenant.rows("SELECT provider_id, outcome FROM pipewright.runs ORDER BY provider_id")


@pytest.mark.parametrize("kind", [BATCH, LINES])
async def test_a_batch_says_what_became_of_its_events(world, source, tenant, kind):
    foreign = event(3, project="acme/secret")
    answer = await send(world, source, [event(1), cdevent(2), foreign, event(1)], kind=kind)
    assert (answer.status, answer.body) == (
        202,
        {"accepted": True, "batch": {"stored": 2, "ignored": 1, "duplicate": 1}},
    )
    assert await runs(tenant) == [("1", "failure"), ("c-2", "success")]
    assert await tenant.rows("SELECT outcome, count(*) FROM pipewright.deliveries GROUP BY 1 ORDER BY 1") == [
        ("ignored", 1),
        ("stored", 2),
    ]
    again = await send(world, source, [event(1), cdevent(2)], kind=kind)
    assert (again.status, again.body) == (200, {"duplicate": True, "batch": {"duplicate": 2}})
    assert (await send(world, source, [event(4), event(1)])).body["batch"] == {"stored": 1, "duplicate": 1}


async def test_an_event_is_the_same_alone_and_in_a_batch(world, source, tenant):
    alone = json.dumps(event(1))
    assert (await send(world, source, [], kind="application/cloudevents+json", body=alone)).status == 202
    assert (await send(world, source, [event(1)])).status == 200
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]


async def test_an_event_of_a_run_after_another_is_the_later_one(world, source, tenant):
    early = event(1, outcome=None, finishedAt=None, phase="queued", queuedAt="2026-03-01T12:00:00Z")
    early["id"] = "before"
    assert (await send(world, source, [event(1), early, event(2)])).status == 202
    assert await runs(tenant) == [("1", "failure"), ("2", "failure")]


@pytest.mark.parametrize("events", [[], [event(1)]])
async def test_a_batch_may_hold_none_or_one(world, source, tenant, events):
    answer = await send(world, source, events)
    assert (answer.status, answer.body["batch"]) == (202, {"stored": 1} if events else {})
    assert len(await runs(tenant)) == len(events)


async def test_one_that_is_not_understood_keeps_all_of_them_out(world, source, tenant):
    answer = await send(world, source, [event(1), event(2, project=7), event(3)])
    assert (answer.status, answer.body["reason"], answer.body["event"]) == (422, "NotUnderstood", 2)
    assert answer.body["detail"].startswith("event 2 of 3: record: project: must be a text")
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


async def test_one_of_the_future_keeps_all_of_them_out(world, source, tenant):
    answer = await send(world, source, [event(1), event(2, finishedAt="2199-01-01T00:00:00Z")])
    assert (answer.status, answer.body["event"]) == (422, 2)
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


@pytest.mark.parametrize("body", ["[", "{}", "[1]", '[{"specversion": "1.0"}]', "[" + "{}," * 1000 + "{}]"])
async def test_a_body_that_is_no_batch_is_400(world, source, tenant, body):
    answer = await send(world, source, [], body=body)
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


async def test_an_unsigned_batch_is_401(world, source, tenant):
    headers = {"Content-Type": BATCH, "X-Signature-256": "sha256=" + "0" * 64}
    answer = await world.ask("POST", f"/hooks/{source.id}", data=json.dumps([event(1)]), headers=headers)
    assert answer.status == 401


async def test_each_event_of_a_batch_decides_and_has_its_body(world, source, tenant):
    await world.trigger(tenant, condition="event.outcome == 'failure'")
    await send(world, source, [event(number) for number in range(20)])
    assert await tenant.rows("SELECT count(*), bool_and(fired) FROM pipewright.decisions") == [(20, True)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.outbox") == [(20,)]
    assert await tenant.rows("SELECT count(DISTINCT body) FROM pipewright.events") == [(20,)]


async def test_a_batch_waits_for_a_suspended_tenant_and_is_stored_then(
    world, source, tenant, state, kept, eventually
):
    await state(tenant, "Suspended")
    answer = await send(world, source, [event(1), cdevent(2)])
    assert (answer.status, answer.body) == (202, {"accepted": True, "parked": True, "batch": {"parked": 2}})
    assert (await send(world, source, [event(1), event(3)])).body["batch"] == {"duplicate": 1, "parked": 1}
    await state(tenant, "Active")

    async def empty():
        return not await kept(tenant)

    await eventually(empty)
    assert await runs(tenant) == [("1", "failure"), ("3", "failure"), ("c-2", "success")]


async def test_a_batch_waits_for_a_database_that_is_away(world, proxied, kept, eventually):
    tenant = await world.tenant(port=proxied.port)
    source = await world.hook(tenant, name="tekton", connector="cdevents")
    await proxied.down()
    assert (await send(world, source, [event(1), event(2)])).body["batch"] == {"parked": 2}
    await proxied.up()

    async def empty():
        await world.parts.replayer.look()
        return not await kept(tenant)

    await eventually(empty)
    assert await runs(tenant) == [("1", "failure"), ("2", "failure")]
