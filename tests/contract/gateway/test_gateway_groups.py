"""Deliveries that are stored together leave what they leave one after the other, on the real database."""

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from connectors import catalogue, mapping
from connectors.mapping import Ignored
from dev import simulator
from dev.github_payloads import github_deliveries
from gateway import bodies, ingest
from gateway.groups import Groups
from gateway.ingest import Received, Surroundings
from pipewright import errors
from pipewright.records import RunRecord
from pipewright.store.records import Delivery

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CONFIG = {"baseUrl": "http://localhost"}

WHAT = {
    "deliveries": "SELECT delivery_id, received_at, event, outcome FROM pipewright.deliveries ORDER BY 1",
    "events": "SELECT delivery_id, received_at, event_name, headers FROM pipewright.events ORDER BY 1",
    "runs": "SELECT r.provider_id, r.attempt, r.project, r.pipeline, r.trigger, r.branch, r.sha, a.login,"
    " r.phase, r.outcome, r.queued_at, r.started_at, r.finished_at, r.url, r.failed_jobs, r.jobs, r.seen_at"
    " FROM pipewright.runs r LEFT JOIN pipewright.actors a ON a.id = r.actor ORDER BY 1, 2",
    "jobs": "SELECT provider_id, run_id, attempt, name, phase, outcome, runner, labels, queued_at,"
    " started_at, finished_at, seen_at FROM pipewright.jobs ORDER BY 1",
    "lines": "SELECT scope, regexp_replace(key, '^..[0-9a-f-]{36}', ''), outcomes FROM pipewright.lines"
    " WHERE scope <> 'actor' ORDER BY 1, 2",
    "predictions": "SELECT provider_id, attempt, kind, scored_at FROM pipewright.predictions"
    " ORDER BY 1, 2, 3",
    "decisions": "SELECT delivery_id, workflow, fired, reason, event - 'actor', decided_at"
    " FROM pipewright.decisions ORDER BY 1, 2",
    "outbox": "SELECT delivery_id, manifest - 'metadata', created_at FROM pipewright.outbox ORDER BY 1",
}
"""What must be equal: all but what is drawn by lot (surrogates, and what depends on them; UIDs)."""


def told():
    """Webhooks of some busy hours, shuffled a little, some of them twice and some of them mixed up."""
    dice = random.Random(5)
    records = list(simulator.history(until=UNTIL, seed=11, runs=60, days=1))
    found = [(name, payload) for _, name, payload in github_deliveries(records)]
    found += dice.sample(found, 30)
    places = sorted(range(len(found)), key=lambda at: at + dice.uniform(0, 12))
    return [found[at] for at in places]


async def prepare(world, tenant, *, asked=True):
    """What is stored of each of them in a tenant with a model and workflows for runs and jobs, or none."""
    records = simulator.history(until=UNTIL, seed=11, runs=60, days=1)
    hook = await world.hook(tenant, projects=sorted({record["project"] for record in records}))
    await world.trigger(tenant, workflow="heal", condition="event.outcome == 'failure'")
    await world.trigger(
        tenant, workflow="tell", event="taskrun.finished", condition="prediction.probability > 0.0"
    )
    route = world.parts.directory.view.routes[hook.id]
    place = (route.tenant_id, route.namespace)
    predictor = await world.parts.models.get(world.parts.directory.view.default_model(place))
    around = Surroundings(triggers=world.parts.directory.view.triggers[place], predictor=predictor)
    around = around if asked else Surroundings()
    webhook, names = catalogue.load()["github"].webhook, {}
    for number, (event, payload) in enumerate(told()):
        opened = mapping.Opened(body=payload, headers={})
        said = mapping.map_delivery(webhook, opened, event=event, config=CONFIG)
        records = () if isinstance(said, Ignored) else [record for _, record in said]
        name = names.setdefault(str((event, payload)), f"d-{number:04}")
        yield Received(
            route=route,
            delivery=Delivery(
                integration=route.integration_uid, delivery_id=name, event=event,
                received_at=UNTIL + timedelta(seconds=number),
                outcome="stored" if records else "ignored",
            ),
            headers={"user-agent": "test"},
            body=bodies.seal(b"{}", key=tenant.data_key, integration=route.integration_uid, delivery_id=name),
            records=records, around=around,
        )  # fmt: skip


async def left(tenant):
    return {name: await tenant.rows(query) for name, query in WHAT.items()}


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("size", [7, 1000])
async def test_a_group_leaves_what_is_left_one_after_the_other(world, model_file, size, asked):
    one_by_one, together = await world.tenant(), await world.tenant()
    for tenant in (one_by_one, together):
        await world.promote(tenant, model_file)
        await world.parts.databases.ensure_days(tenant.id, [UNTIL.date()])
    ours = [each async for each in prepare(world, one_by_one, asked=asked)]
    answers = []
    async with one_by_one.connect() as conn:
        for each in ours:
            async with conn.transaction():
                answers += await ingest.store(conn, [each], world.parts.models)
    theirs, at = [each async for each in prepare(world, together, asked=asked)], 0
    grouped = []
    async with together.connect() as conn:
        for at in range(0, len(theirs), size):
            async with conn.transaction():
                grouped += await ingest.store(conn, theirs[at : at + size], world.parts.models)
    assert grouped == answers
    assert sum(each.duplicate for each in answers) > 10
    assert (sum(each.fired for each in answers) > 10) is asked
    expected, found = await left(one_by_one), await left(together)
    for name in WHAT:
        assert bool(found[name]) is (asked or name not in ("predictions", "decisions", "outbox")), name
        assert found[name] == expected[name], name


async def test_what_comes_at_once_over_http_is_few_transactions(world, hook, tenant, github):
    def groups():
        [metric] = world.parts.metrics.ingest_group.collect()
        found = {sample.name.rpartition("_")[2]: sample.value for sample in metric.samples}
        return found["count"], found["sum"]

    before = groups()
    answers = await asyncio.gather(
        *(
            world.deliver(hook, "workflow_run", github("completed", run=run, conclusion="failure"))
            for run in range(60)
        )
    )
    transactions, stored = (now - then for now, then in zip(groups(), before, strict=True))
    assert [answer.status for answer in answers] == [202] * 60
    assert (await tenant.rows("SELECT count(*) FROM pipewright.runs"), stored) == ([(60,)], 60)
    assert transactions < 30


async def test_one_that_the_database_refuses_costs_the_others_nothing(world, hook, tenant):
    route = world.parts.directory.view.routes[hook.id]

    def received(name, phase="queued"):
        run = RunRecord(project="acme/shop", pipeline="ci", id=name, attempt=1, phase=phase, queued_at=UNTIL)
        delivery = Delivery(integration=hook.uid, delivery_id=name, event="e", received_at=datetime.now(UTC))
        return Received(route=route, delivery=delivery, body=b"x", records=[run])

    parts = world.parts
    groups = Groups(databases=parts.databases, models=parts.models, metrics=parts.metrics)
    names = [str(number) for number in range(9)]
    given = [received(name, "dreaming" if name == "4" else "queued") for name in names]
    answers = await asyncio.gather(
        *(groups.store(tenant.id, [each]) for each in given), return_exceptions=True
    )
    assert [isinstance(answer, errors.BackendError) for answer in answers] == [name == "4" for name in names]
    found = await tenant.rows("SELECT delivery_id FROM pipewright.deliveries ORDER BY 1")
    assert [name for (name,) in found] == [name for name in names if name != "4"]


async def test_groups_of_two_replicas_about_the_same_runs_are_all_stored(world, serve, hook, tenant, github):
    async with serve() as other:
        answers = await asyncio.gather(
            *(
                place.deliver(hook, "workflow_run", github(action, run=run, **more), id=str(uuid4()))
                for run, (action, more) in itertools.product(
                    range(12),
                    (("requested", {}), ("in_progress", {}), ("completed", {"conclusion": "failure"})),
                )
                for place in (world, other)
            )
        )
    assert {answer.status for answer in answers} == {202}
    assert await tenant.rows("SELECT count(*) FROM pipewright.events") == [(72,)]
    assert await tenant.rows("SELECT DISTINCT phase, outcome FROM pipewright.runs") == [
        ("finished", "failure")
    ]
