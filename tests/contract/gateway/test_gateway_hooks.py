"""Webhooks on the real database: what is refused, in which order, and what is stored exactly once."""

import asyncio
import json
from uuid import uuid4

import pytest

from gateway import bodies, parts
from pipewright.ports import Secret


async def test_a_signed_delivery_is_stored_with_its_run_its_person_as_a_surrogate_and_its_body_encrypted(
    world, hook, tenant, github
):
    payload = github("in_progress")
    answer = await world.deliver(hook, "workflow_run", payload, id="d-1")
    assert (answer.status, answer.body) == (202, {"accepted": True})

    [(phase, project, surrogate)] = await tenant.rows(
        "SELECT r.phase, r.project, a.surrogate FROM pipewright.runs r"
        " JOIN pipewright.actors a ON a.id = r.actor"
    )
    assert (phase, project) == ("started", "acme/shop")
    assert "octocat" not in surrogate
    [(integration, delivery, body, headers)] = await tenant.rows(
        "SELECT integration::text, delivery_id, body, headers FROM pipewright.events"
    )
    assert (integration, delivery) == (hook.uid, "d-1")
    assert b"octocat" not in body
    assert "x-hub-signature-256" not in headers
    opened = bodies.unseal(bytes(body), key=tenant.data_key, integration=hook.uid, delivery_id="d-1")
    assert json.loads(opened) == payload


async def test_the_same_delivery_again_is_200_and_changes_nothing(world, hook, tenant, github):
    first = await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"), id="d-1")
    again = await world.deliver(hook, "workflow_run", github("completed", conclusion="success"), id="d-1")
    assert (first.status, again.status, again.body) == (202, 200, {"duplicate": True})
    assert await tenant.rows("SELECT outcome FROM pipewright.runs") == [("failure",)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]


async def test_of_twenty_equal_deliveries_at_once_one_is_stored(world, hook, tenant, github):
    payload = github("completed", conclusion="failure")
    answers = await asyncio.gather(
        *(world.deliver(hook, "workflow_run", payload, id="d-1") for _ in range(20))
    )
    assert sorted(answer.status for answer in answers) == [200] * 19 + [202]
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]


async def test_events_that_come_backwards_give_the_same_run(world, hook, tenant, github):
    for action, conclusion in (("completed", "failure"), ("in_progress", None), ("requested", None)):
        answer = await world.deliver(hook, "workflow_run", github(action, conclusion=conclusion))
        assert answer.status == 202
    assert await tenant.rows("SELECT phase, outcome FROM pipewright.runs") == [("finished", "failure")]


REFUSED = {
    "an unsigned delivery": ({"X-Hub-Signature-256": ""}, None, 401, "SignatureRefused"),
    "a wrong signature": ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, None, 401, "SignatureRefused"),
    "a signature of another scheme": ({"X-Hub-Signature-256": "md5=1"}, None, 401, "SignatureRefused"),
    "no delivery id": ({"X-GitHub-Delivery": ""}, None, 400, "BadRequest"),
    "a delivery id with spaces": ({"X-GitHub-Delivery": "a b"}, None, 400, "BadRequest"),
    "no event name": ({"X-GitHub-Event": ""}, None, 400, "BadRequest"),
    "XML instead of JSON": ({"Content-Type": "text/xml"}, None, 415, "WrongType"),
    "a form that is none": ({"Content-Type": "application/x-www-form-urlencoded"}, None, 400, "BadRequest"),
    "a form of 10,000 fields": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"payload={}" + b"&a=1" * 10_000,
        400,
        "BadRequest",
    ),
    "garbage": ({}, b"{", 400, "BadRequest"),
    "an empty body": ({}, b"", 400, "BadRequest"),
    "a list": ({}, b"[]", 400, "BadRequest"),
    "not UTF-8": ({}, b'{"a": "\xff"}', 400, "BadRequest"),
    "not a number": ({}, b'{"a": NaN}', 400, "BadRequest"),
    "a body nested too deeply": ({}, b'{"a":' * 100_000, 400, "BadRequest"),
}


@pytest.mark.parametrize(("headers", "body", "status", "reason"), REFUSED.values(), ids=REFUSED)
async def test_refused_and_nothing_is_stored(world, hook, tenant, github, headers, body, status, reason):
    answer = await world.deliver(hook, "workflow_run", github("in_progress"), headers=headers, body=body)
    assert (answer.status, answer.body["reason"]) == (status, reason)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"action": "completed", "workflow_run": null, "repository": {"full_name": "acme/shop"}}',
        b'{"action": "completed", "workflow_run": {"id": "x"}, "repository": {"full_name": 7}}',
    ],
    ids=["null where a run should be", "numbers where texts should be"],
)
async def test_what_is_not_understood_is_listed_and_kept_and_makes_no_run(world, hook, tenant, github, body):
    answer = await world.deliver(hook, "workflow_run", None, body=body)
    assert (answer.status, list(answer.body)) == (202, ["refused"])
    assert await tenant.rows("SELECT outcome FROM pipewright.deliveries") == [("refused",)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.dead_letters") == [(1,)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(0,)]


async def test_an_unknown_path_is_404_and_so_is_a_disabled_webhook(world, tenant, hook, github):
    assert (await world.ask("POST", "/hooks/nobody-knows-me", data=b"{}")).status == 404
    disabled = await world.hook(tenant, name="off", enabled=False)
    assert (await world.deliver(disabled, "workflow_run", github("requested"))).status == 404


async def test_an_unknown_path_is_answered_before_the_body_came(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(b"POST /hooks/nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    async with asyncio.timeout(5):
        assert b" 404 " in await reader.readline()
    writer.close()


async def test_a_body_over_the_cap_is_refused_by_its_length_before_it_is_read(world, hook):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    writer.write(f"POST /hooks/{hook.id} HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_chunked_body_over_the_cap_is_refused_where_the_cap_is(world, hook):
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b" " * 65536

    try:
        answer = await world.ask("POST", f"/hooks/{hook.id}", data=endless())
        assert answer.status == 413
    except OSError:  # the server hung up while we were still sending
        pass
    assert await hook.tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


async def test_a_rotated_secret_is_good_beside_the_old_one(world, tenant, github):
    hook = await world.hook(tenant, secrets_=["old-secret", "new-secret"])
    for secret in ("old-secret", "new-secret"):
        signed = type(hook)(
            id=hook.id, secret=secret, integration=hook.integration, uid=hook.uid, tenant=tenant
        )
        assert (await world.deliver(signed, "workflow_run", github("requested"))).status == 202


IGNORED = {
    "a ping": ("ping", {"zen": "x"}, "events of the kind ping are not used"),
    "an action that says nothing": (
        "workflow_job",
        {"action": "waiting", "repository": {"full_name": "acme/shop"}},
        "this workflow_job says nothing that is kept",
    ),
}


@pytest.mark.parametrize(("event", "payload", "why"), IGNORED.values(), ids=IGNORED)
async def test_what_says_nothing_is_noted_and_not_kept(world, hook, tenant, event, payload, why):
    answer = await world.deliver(hook, event, payload, id="d-1")
    assert (answer.status, answer.body) == (202, {"ignored": why})
    kept = await tenant.rows("SELECT delivery_id, event, outcome, reason FROM pipewright.deliveries")
    assert kept == [("d-1", event, "ignored", why)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(0,)]
    assert (await world.deliver(hook, event, payload, id="d-1")).body == {"ignored": why}


async def test_another_project_is_ignored_and_its_data_not_kept(world, hook, tenant, github):
    answer = await world.deliver(
        hook, "workflow_run", github("completed", conclusion="success", project="acme/x")
    )
    assert (answer.status, answer.body) == (
        202,
        {"ignored": "the project is not among the Integration's projects"},
    )
    assert await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(0,)]


async def test_a_delivery_that_was_ignored_is_stored_when_it_comes_again_and_is_wanted(world, tenant, github):
    hook = await world.hook(tenant, projects=["acme/other"])
    payload = github("completed", conclusion="failure")
    assert "ignored" in (await world.deliver(hook, "workflow_run", payload, id="d-1")).body
    await world.runner.execute(
        "UPDATE pipewright.routes SET projects = '{acme/shop}' WHERE hook_id = %s", [hook.id]
    )
    await world.parts.directory.load(["routes"])
    assert (await world.deliver(hook, "workflow_run", payload, id="d-1")).body == {"accepted": True}
    assert (await world.deliver(hook, "workflow_run", payload, id="d-1")).body == {"duplicate": True}
    assert await tenant.rows("SELECT count(*) FROM pipewright.runs") == [(1,)]


STATES = {
    "a tenant without a bundle yet": ({"sealed": False}, 503),
    "a retained tenant": ({"state": "Retained"}, 404),
    "a tenant that is being deleted": ({"state": "Deleting"}, 404),
}


@pytest.mark.parametrize(("kind", "status"), STATES.values(), ids=STATES)
async def test_hooks_of(world, github, kind, status):
    hook = await world.hook(await world.tenant(**kind))
    assert (await world.deliver(hook, "workflow_run", github("requested"))).status == status


async def test_a_tenant_that_fills_its_lane_is_told_to_wait_and_another_is_served(serve, github, eventually):
    async with serve(limits=parts.Limits(tenant_requests=1)) as world:
        greedy, other = await world.hook(await world.tenant()), await world.hook(await world.tenant())
        more = asyncio.Event()

        async def slow():
            yield b"{"
            await more.wait()
            yield b"}"

        holding = asyncio.create_task(world.ask("POST", f"/hooks/{greedy.id}", data=slow()))

        async def inside():
            return len(world.parts.hooks.lanes)

        await eventually(inside)
        refused = await world.deliver(greedy, "workflow_run", github("requested"))
        served = await world.deliver(other, "workflow_run", github("requested"))
        more.set()
        assert (refused.status, refused.body["reason"], served.status) == (429, "Busy", 202)
        assert (await holding).status == 401


async def test_jobs_and_their_run_meet_whatever_comes_first(world, hook, tenant, github):
    job = {
        "action": "completed",
        "workflow_job": {
            "id": 1, "run_id": 7, "run_attempt": 1, "name": "unit", "head_branch": "main",
            "head_sha": "a" * 40, "conclusion": "failure",
            "created_at": "2026-03-01T12:00:00Z", "started_at": "2026-03-01T12:01:00Z",
            "completed_at": "2026-03-01T12:02:00Z", "runner_name": "r", "labels": ["linux"],
        },
        "repository": {"full_name": "acme/shop"},
    }  # fmt: skip
    assert (await world.deliver(hook, "workflow_job", job)).status == 202
    assert (await world.deliver(hook, "workflow_run", github("in_progress"))).status == 202
    assert await tenant.rows("SELECT jobs, failed_jobs FROM pipewright.runs") == [(1, ["unit"])]


async def test_a_hundred_deliveries_in_disorder_are_all_there(world, hook, tenant, github):
    deliveries = [
        github(action, run=run, conclusion="failure" if action == "completed" else None, actor=f"p{run % 5}")
        for run in range(34)
        for action in ("completed", "requested", "in_progress")
    ]
    answers = await asyncio.gather(
        *(world.deliver(hook, "workflow_run", payload, id=str(uuid4())) for payload in deliveries)
    )
    wrong = [(a.status, a.body) for a in answers if a.status != 202]
    assert not [each for each in wrong if each[1]["reason"] != "Busy"]
    kept = await tenant.rows("SELECT count(*) FROM pipewright.deliveries")
    assert kept == [(len(deliveries) - len(wrong),)]


async def test_a_rotation_of_the_gateways_login_interrupts_no_delivery(world, hook, tenant, github):
    """Before PostgreSQL is told, then after: each time by a new session."""
    payload = github("in_progress")
    assert (await world.deliver(hook, "workflow_run", payload, id="r-1")).status == 202
    await world.seal(tenant, password="of-tomorrow", previousPassword="password-of-ingest")
    assert (await world.deliver(hook, "workflow_run", payload, id="r-2")).status == 202
    await tenant.logins.set(tenant.id, passwords={"ingest": Secret("of-tomorrow")}, version=2)
    await world.seal(tenant, password="of-tomorrow", previousPassword="forgotten")
    assert (await world.deliver(hook, "workflow_run", payload, id="r-3")).status == 202
    await tenant.logins.set(tenant.id, passwords={"ingest": Secret("password-of-ingest")}, version=3)
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(3,)]
