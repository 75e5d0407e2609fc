"""Erasure of a person, end to end: nothing in the tenant's database leads to them, and the figures stay."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway import bodies, parts
from gateway.searches import Search
from pipewright.ports import SystemClock
from pipewright.store import arrivals, history
from pipewright.store.records import Delivery

SOON = parts.Limits(rollup_pause=0.05)


def url(tenant: Any, name: str = "github") -> str:
    return f"/v1/namespaces/{tenant.namespace}/integrations/{name}/erasures"


async def person(tenant: Any, login: str) -> list[str]:
    found = await tenant.rows("SELECT surrogate FROM pipewright.actors WHERE login = %s", login)
    return [surrogate for (surrogate,) in found]


async def mentions(tenant: Any, text: str) -> list[str]:
    """Where in the tenant's database the text is: in a row of any table, or in a raw body."""
    tables = await tenant.rows(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'pipewright'::regnamespace"
        " AND relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')"
    )
    found = []
    for (table,) in tables:
        rows = await tenant.rows(f"SELECT 1 FROM {table} AS t WHERE strpos(t::text, %s) > 0 LIMIT 1", text)
        found += [table] * len(rows)
    stored = await tenant.rows("SELECT integration::text, delivery_id, body FROM pipewright.events")
    for integration, delivery, body in stored:
        opened = bodies.unseal(
            bytes(body), key=tenant.data_key, integration=integration, delivery_id=delivery
        )
        found += ["a raw body"] * (text.encode() in opened)
    return sorted(set(found))


@pytest.mark.parametrize("by", ["login", "surrogate"])
async def test_nothing_leads_to_who_was_erased_and_runs_stay_one_persons(serve, github, eventually, by):
    async with serve(limits=SOON) as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        for run, actor in ((1, "octocat"), (2, "octocat"), (3, "octocat-fork")):
            answer = await world.deliver(
                hook, "workflow_run", github("completed", run=run, actor=actor, conclusion="failure")
            )
            assert answer.status == 202
        [before] = await person(tenant, "octocat")
        assert await mentions(tenant, '"octocat"') == ["a raw body"]
        assert "pipewright.actors" in await mentions(tenant, "octocat")

        asked = {"login": "octocat"} if by == "login" else {"surrogate": before}
        answer = await world.rest("POST", url(tenant), json=asked)
        assert (answer.status, answer.body["known"], answer.body["requestedBy"]) == (202, True, "ada")
        assert await person(tenant, "octocat") == []

        async def searched():
            listed = await world.rest("GET", url(tenant))
            return listed.body["items"][0]["finishedAt"] and listed.body["items"][0]

        done = await eventually(searched)
        assert (done["searched"], done["deleted"], done["unreadable"]) == (3, 2, 0)
        assert "octocat" not in json.dumps(done)
        assert await mentions(tenant, '"octocat"') == []
        assert await mentions(tenant, f"{before}") == []
        assert len(await person(tenant, "octocat-fork")) == 1
        assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(1,)]
        assert await tenant.rows("SELECT count(*) FROM pipewright.deliveries") == [(3,)]
        runs = (await world.rest("GET", url(tenant).replace("erasures", "runs"), params=ALL)).body["items"]
        actors = {each["run"]: each["actor"] for each in runs}
        assert actors["1"] == actors["2"] != ""
        assert actors["1"] not in (before, actors["3"])


ALL = {"since": "2026-02-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}


async def test_who_comes_back_is_somebody_new(world, hook, tenant, github):
    await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))
    await world.rest("POST", url(tenant), json={"login": "OctoCat"})
    [(erased,)] = await tenant.rows("SELECT surrogate FROM pipewright.actors")
    await world.deliver(hook, "workflow_run", github("completed", run=2, conclusion="failure"))
    [new] = await person(tenant, "octocat")
    assert new != erased
    assert (await world.rest("POST", url(tenant), json={"surrogate": erased})).status == 404


async def test_the_same_login_at_another_provider_is_somebody_else(world, hook, tenant, github):
    await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))
    other = await world.hook(tenant, name="gitlab", connector="gitlab")
    async with tenant.connect() as conn, conn.transaction():
        await history.surrogates(conn, provider="gitlab", logins=["octocat"])
        await _keep(conn, tenant, other.uid, "theirs", b'{"login":"octocat"}', datetime.now(UTC))
    await world.rest("POST", url(tenant), json={"login": "octocat"})
    search = Search(
        databases=world.parts.databases, view=lambda: world.parts.directory.view, clock=SystemClock()
    )
    assert await search.go_on(tenant.id) is False
    assert await tenant.rows("SELECT provider, login FROM pipewright.actors ORDER BY 1") == [
        ("github", None), ("gitlab", "octocat"),
    ]  # fmt: skip
    assert await tenant.rows("SELECT delivery_id FROM pipewright.events") == [("theirs",)]


async def _keep(conn: Any, tenant: Any, integration: str, name: str, body: bytes, at: datetime) -> None:
    delivery = Delivery(integration=integration, delivery_id=name, event="push", received_at=at)
    sealed = bodies.seal(body, key=tenant.data_key, integration=integration, delivery_id=name)
    await arrivals.ensure_partition(conn, at.date())
    await arrivals.take(conn, [arrivals.Arrival(delivery=delivery, body=sealed)])


async def test_a_search_goes_on_where_it_was_over_days_and_closed_bodies(world, hook, tenant):
    now = datetime.now(UTC)
    async with tenant.connect() as conn, conn.transaction():
        for number in range(230):
            body = b'{"login":"octocat"}' if number % 2 else b'{"login":"hubot"}'
            at = now - timedelta(days=number % 3)
            await _keep(conn, tenant, hook.uid, f"d-{number:03}", body, at)
        await conn.execute(
            "UPDATE pipewright.events SET body = '\\x01' WHERE delivery_id = ANY(%s)", [["d-000", "d-001"]]
        )
    answer = await world.rest("POST", url(tenant), json={"login": "octocat"})
    assert (answer.status, answer.body["known"]) == (202, False)
    steps = 0
    while True:  # each time as a process of its own that has time for one step
        search = Search(
            databases=world.parts.databases, view=lambda: world.parts.directory.view, clock=SystemClock(),
            seconds=0,
        )  # fmt: skip
        steps += 1
        if not await search.go_on(tenant.id):
            break
    assert steps > 3
    [done] = (await world.rest("GET", url(tenant))).body["items"]
    assert (done["searched"], done["deleted"], done["unreadable"]) == (230, 114, 2)
    assert done["finishedAt"] is not None
    assert await tenant.rows("SELECT login FROM pipewright.erasures") == [(None,)]
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(116,)]


async def test_dead_letters_that_mention_who_was_erased_go_too(world, hook, tenant, github):
    for name, actor in (("theirs", "octocat"), ("another", "hubot")):
        said = github("completed", actor=actor, conclusion="failure")
        said["workflow_run"]["run_attempt"] = "once"
        answer = await world.deliver(hook, "workflow_run", said, id=name)
        assert (answer.status, list(answer.body)) == (202, ["refused"])
    await world.rest("POST", url(tenant), json={"login": "octocat"})
    search = Search(
        databases=world.parts.databases, view=lambda: world.parts.directory.view, clock=SystemClock()
    )
    assert await search.go_on(tenant.id) is False
    assert await tenant.rows("SELECT delivery_id FROM pipewright.dead_letters") == [("another",)]
    [done] = (await world.rest("GET", url(tenant))).body["items"]
    assert (done["searched"], done["deleted"], done["finishedAt"] is not None) == (2, 1, True)


WRONG = [{}, {"login": ""}, {"login": "a", "surrogate": "0" * 16}, {"surrogate": "secret-value"}, {"x": "y"},
         {"login": "a\0"}, {"login": "a" * 129}]  # fmt: skip


@pytest.mark.parametrize("body", WRONG)
async def test_a_wrong_request_is_422_and_repeats_nothing(world, hook, tenant, body):
    answer = await world.rest("POST", url(tenant), json=body)
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert "secret-value" not in json.dumps(answer.body)


async def test_erasure_is_a_right_of_its_own(world, hook, tenant, state):
    for method, verb in (("POST", "create"), ("GET", "get")):
        body = {"json": {"login": "octocat"}} if method == "POST" else {}
        assert (await world.ask(method, url(tenant), **body)).status == 401
        stranger = await world.rest(method, url(tenant), token="eve:elsewhere", **body)
        assert stranger.status == 403
        assert f"may not {verb} integrations/erasures" in stranger.body["detail"]
    unknown = await world.rest("POST", url(tenant), json={"surrogate": "0" * 16})
    assert unknown.status == 404
    assert await tenant.rows("SELECT count(*) FROM pipewright.erasures") == [(0,)]
    await state(tenant, "Suspended")
    assert (await world.rest("POST", url(tenant), json={"login": "octocat"})).status == 409
