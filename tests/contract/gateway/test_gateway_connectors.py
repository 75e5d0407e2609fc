"""Webhooks of other shapes than GitHub's on the real database: forms, lists, digests, CloudEvents."""

import copy
import dataclasses
import hashlib
import hmac
import importlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from connectors import catalogue
from connectors.verify.unsigned import Unsigned
from tests.contract.gateway.conftest import gone

ACME = Path(__file__).parents[3] / "examples" / "connector-acme"
MAPPING: dict[str, Any] = {
    "verify": {"kind": "token", "header": "X-Acme-Token"},
    "delivery": {"expression": "body.id"},
    "lookup": {"outcome": {"ok": "success", "broken": "failure"}},
    "events": [
        {
            "name": "build",
            "each": "body.jobs",
            "when": "item.state in lookup.outcome",
            "record": "job",
            "map": {
                "project": "'acme/shop'", "run": "body.build", "attempt": "1", "id": "item.id",
                "name": "item.id", "phase": "'finished'", "outcome": "lookup.outcome[item.state]",
                "startedAt": "item.at", "finishedAt": "item.at",
            },
        }
    ],
}  # fmt: skip
BUILD = {
    "id": "d-1",
    "build": "7",
    "jobs": [
        {"id": "unit", "state": "ok", "at": 1769848200},
        {"id": "lint", "state": "waits"},
        {"id": "e2e", "state": "broken", "at": 1769848200000},
    ],
}


def mapping(**changes):
    return {"webhook": {**copy.deepcopy(MAPPING), **changes}}


async def generic(world, tenant, **changes):
    return await world.hook(tenant, name="acme", connector="generic", config=mapping(**changes))


async def send(world, hook, payload, *, raw=None, kind="application/json", **headers):
    return await world.ask(
        "POST",
        f"/hooks/{hook.id}",
        data=json.dumps(payload).encode() if raw is None else raw,
        headers={"Content-Type": kind, "X-Acme-Token": hook.secret, **headers},
    )


async def jobs(tenant):
    return await tenant.rows("SELECT provider_id, outcome FROM pipewright.jobs ORDER BY provider_id")


async def test_a_users_mapping_stores_a_record_for_each_element_once(world, tenant):
    hook = await generic(world, tenant)
    first, again = await send(world, hook, BUILD), await send(world, hook, BUILD)
    assert (first.status, again.body) == (202, {"duplicate": True})
    assert await jobs(tenant) == [("e2e", "failure"), ("unit", "success")]
    assert await tenant.rows("SELECT delivery_id, event FROM pipewright.deliveries") == [("d-1", "build")]


async def test_without_an_id_two_equal_bodies_count_once(world, tenant):
    hook = await generic(world, tenant, delivery={"digest": "body"})
    assert [(await send(world, hook, BUILD)).status for _ in range(2)] == [202, 200]
    assert (await send(world, hook, {**BUILD, "more": 1})).status == 202
    raw = json.dumps(BUILD).encode()
    found = await tenant.rows("SELECT delivery_id FROM pipewright.deliveries ORDER BY received_at")
    assert found[0] == (f"sha256:{hashlib.sha256(raw).hexdigest()}",)
    assert len(found) == 2


@pytest.mark.parametrize("delivery", [{"expression": "body.id"}, {"digest": "body"}, {"header": "X-Id"}])
async def test_a_suspended_tenants_delivery_comes_back_by_the_same_id(
    world, tenant, state, kept, eventually, delivery
):
    hook = await generic(world, tenant, delivery=delivery)
    await state(tenant, "Suspended")
    parked = await send(world, hook, BUILD, **{"X-Id": "d-9"})
    assert parked.status == 202
    assert (await send(world, hook, BUILD, **{"X-Id": "d-9"})).body == {"duplicate": True}
    [name] = await kept(tenant)
    await state(tenant, "Active")
    await eventually(lambda: jobs(tenant))
    assert await tenant.rows("SELECT delivery_id FROM pipewright.deliveries") == [(name,)]
    assert (await send(world, hook, BUILD, **{"X-Id": "d-9"})).body == {"duplicate": True}


REFUSED = {
    "no token": ({}, None, {"X-Acme-Token": ""}, 401, "SignatureRefused"),
    "no id": ({"jobs": []}, None, {}, 400, "BadRequest"),
    "an id that is a list": ({"id": []}, None, {}, 400, "BadRequest"),
    "a number out of range": (None, b'{"id": 1e400}', {}, 400, "BadRequest"),
    "another type": (BUILD, None, {"Content-Type": "text/plain"}, 415, "WrongType"),
}


@pytest.mark.parametrize(("payload", "raw", "headers", "status", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_users_mapping_refuses(world, tenant, payload, raw, headers, status, reason):
    hook = await generic(world, tenant)
    answer = await send(world, hook, payload, raw=raw, **headers)
    assert (answer.status, answer.body["reason"]) == (status, reason)
    assert hook.secret not in json.dumps(answer.body)
    assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(0,)]


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        (5, "build: each: must be a list, got a number"),
        ([{"state": "x"}] * 201, "build: each: has 201 elements, at most 200 are mapped"),
        ([{"id": "1", "state": "ok", "at": "soon"}], "build: finishedAt: is no time that is known here"),
    ],
)
async def test_what_a_users_mapping_does_not_understand_is_kept(world, tenant, jobs, reason):
    hook = await generic(world, tenant)
    answer = await send(world, hook, {"id": "1", "build": "7", "jobs": jobs})
    assert (answer.status, answer.body) == (202, {"refused": reason})
    assert await tenant.rows("SELECT outcome, reason FROM pipewright.deliveries") == [("refused", reason)]


async def test_a_mapping_that_is_not_understood_is_503_and_harms_nobody(world, tenant):
    broken = await generic(world, tenant, delivery={"expression": "body."})
    answer = await send(world, broken, BUILD)
    assert (answer.status, answer.body["reason"]) == (503, "ConnectorBroken")
    assert (await send(world, await generic(world, await world.tenant()), BUILD)).status == 202


async def test_what_is_parked_when_a_mapping_breaks_stays_and_the_rest_goes_on(
    world, tenant, state, kept, eventually
):
    broken = await generic(world, tenant)
    other = await world.hook(tenant, name="other", connector="generic", config=mapping())
    await state(tenant, "Suspended")
    await send(world, broken, BUILD)
    await send(world, other, {**BUILD, "id": "d-2"})
    await world.runner.execute(
        "UPDATE pipewright.routes SET config = '{\"webhook\": {}}' WHERE hook_id = %s", [broken.id]
    )
    await state(tenant, "Active")
    await eventually(lambda: jobs(tenant))
    await eventually(lambda: gone(kept, tenant, but=["d-1"]))


async def test_githubs_other_content_type_is_taken_and_signed_as_it_came(world, hook, tenant, github):
    raw = urlencode({"payload": json.dumps(github("completed", conclusion="failure"))}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.deliver(hook, "workflow_run", None, body=raw, headers=form)
    assert answer.status == 202
    assert await tenant.rows("SELECT outcome FROM pipewright.runs") == [("failure",)]


EVENT = {
    "context": {
        "specversion": "0.5.0", "id": "e-1", "source": "/tekton", "timestamp": "2026-01-31T08:30:00Z",
        "type": "dev.cdevents.pipelinerun.finished.0.3.0",
    },
    "subject": {
        "id": "r-7", "type": "pipelineRun", "content": {"pipelineName": "release", "outcome": "failure"},
    },
}  # fmt: skip


async def test_a_cdevent_in_both_modes_is_one_delivery(world, tenant):
    hook = await world.hook(tenant, connector="cdevents", config={"project": "acme/shop"})
    told = {name: EVENT["context"][name] for name in ("id", "source", "type")}
    raw = json.dumps({"specversion": "1.0", **told, "data": EVENT}).encode()
    signature = hmac.new(hook.secret.encode(), raw, hashlib.sha256).hexdigest()
    structured = await send(
        world, hook, None, raw=raw, kind="application/cloudevents+json",
        **{"X-Signature-256": f"sha256={signature}"},
    )  # fmt: skip
    binary = {f"ce-{name}": value for name, value in {"specversion": "1.0", **told}.items()}
    again = await send(world, hook, EVENT, **binary, Authorization=f"Bearer {hook.secret}")
    assert (structured.status, again.status, again.body) == (202, 200, {"duplicate": True})
    assert await tenant.rows("SELECT pipeline, outcome, started_at FROM pipewright.runs") == [
        ("release", "failure", None)
    ]
    wrong = await send(world, hook, EVENT, **binary, Authorization="Bearer wrong")
    assert (wrong.status, wrong.body["reason"]) == (401, "SignatureRefused")


async def test_a_route_whose_connector_cannot_be_used_is_503_so_that_nothing_is_lost(world, tenant):
    hook = await world.hook(tenant, name="acme", connector="acme")
    answer = await send(world, hook, BUILD)
    assert (answer.status, answer.body["reason"]) == (503, "ConnectorBroken")
    assert answer.headers["Retry-After"] == "60"


async def test_a_connector_with_code_proves_and_maps_as_ours_do(serve, monkeypatch):
    monkeypatch.syspath_prepend(str(ACME / "src"))
    acme = importlib.import_module("acme_connector")
    async with serve(connectors={**catalogue.load(), "acme": acme.CONNECTOR.load()}) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant, name="acme", connector="acme")
        payload = json.loads((ACME / "fixtures" / "acme" / "build-failed.json").read_text())["body"]
        raw = json.dumps(payload).encode()
        proof = acme.Signer().sign(body=raw, secret=hook.secret, now=datetime.now(UTC))
        assert (await send(world, hook, None, raw=raw, **proof)).body == {"accepted": True}
        assert await jobs(tenant) == [("812-compile", "success"), ("812-unit", "failure")]
        changed = await send(world, hook, None, raw=raw + b" ", **proof)
        assert (changed.status, changed.body["reason"]) == (401, "SignatureRefused")


async def test_what_nobody_signed_is_taken_only_where_the_route_allows_it(serve, github):
    known = catalogue.load()
    hub = dataclasses.replace(
        known["github"], webhook=dataclasses.replace(known["github"].webhook, verify=Unsigned())
    )
    async with serve(connectors={**known, "github": hub}) as world:
        tenant = await world.tenant()
        strict, lax = await world.hook(tenant), await world.hook(tenant, name="lax", allow_unsigned=True)
        unsigned = {"X-Hub-Signature-256": ""}
        refused = await world.deliver(strict, "workflow_run", github("requested"), headers=unsigned)
        assert (refused.status, refused.body["reason"]) == (401, "SignatureRefused")
        taken = await world.deliver(lax, "workflow_run", github("requested"), headers=unsigned)
        assert taken.status == 202
