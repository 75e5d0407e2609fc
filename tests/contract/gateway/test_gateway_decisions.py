"""Predictions and decisions in a delivery's transaction, and exactly one WorkflowRun for each that fired."""

import asyncio
from itertools import count, islice
from uuid import uuid4

import pytest

from gateway import decide
from gateway.control import Control
from gateway.dispatch import Dispatcher
from ml import artifact
from pipewright import errors
from pipewright.ports import SystemClock

RETRY = "event.outcome == 'failure' && prediction.retry.probability >= 0.0"


async def decisions_of(tenant, workflow_uid):
    return await tenant.rows(
        "SELECT fired, reason, prediction, run_name FROM pipewright.decisions"
        " WHERE workflow_uid = %s ORDER BY id",
        workflow_uid,
    )


async def test_a_run_is_scored_when_it_starts_and_its_next_attempt_when_it_fails(
    world, hook, tenant, github, model_file
):
    pointer = await world.promote(tenant, model_file)
    await world.deliver(hook, "workflow_run", github("requested"))
    await world.deliver(hook, "workflow_run", github("in_progress"))
    kinds = "SELECT kind, attempt, model_version, probability FROM pipewright.predictions ORDER BY kind"
    [(kind, attempt, version, probability)] = await tenant.rows(kinds)
    assert (kind, attempt, version) == ("run", 1, pointer.version)
    assert 0 < probability < 1
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    assert [row[:2] for row in await tenant.rows(kinds)] == [("retry", 1), ("run", 1)]


async def test_a_run_that_passes_gets_no_prediction_of_another_attempt(
    world, hook, tenant, github, model_file
):
    await world.promote(tenant, model_file)
    await world.deliver(hook, "workflow_run", github("completed", conclusion="success"))
    assert await tenant.rows("SELECT kind FROM pipewright.predictions") == [("run",)]


async def test_finished_outcomes_enter_their_lines_once_in_order_of_time(world, hook, tenant, github):
    runs = [(3, 30, "success"), (1, 10, "failure"), (2, 20, "failure"), (4, 40, "cancelled")]
    for run, minute, conclusion in [*runs, *runs]:
        await world.deliver(
            hook, "workflow_run", github("completed", run=run, minute=minute, conclusion=conclusion)
        )
    [(line,)] = await tenant.rows("SELECT outcomes FROM pipewright.lines WHERE scope = 'branch'")
    assert [(each[0], each[5]) for each in line] == [("1", 1), ("2", 1), ("3", 0)]


async def test_a_condition_that_holds_fires_and_the_workflow_run_is_created(
    world, hook, tenant, github, model_file, eventually
):
    await world.promote(tenant, model_file)
    workflow = await world.trigger(tenant, condition=RETRY)
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"), id="d-1")
    [(fired, reason, prediction, run_name)] = await decisions_of(tenant, workflow)
    assert (fired, reason) == (True, "fired")
    assert 0 <= prediction["retry"]["probability"] <= 1

    async def created():
        return world.cluster.created.get((tenant.namespace, run_name))

    manifest = await eventually(created)
    assert manifest["spec"] == {
        "workflow": {"name": "heal", "revision": "heal-0123456789"},
        "event": {
            "integration": "github",
            "deliveryId": "d-1",
            "type": "pipelinerun.finished",
            "project": "acme/shop",
            "runId": "7",
            "attempt": 1,
        },
    }

    async def marked():
        return await tenant.rows(
            "SELECT attempts FROM pipewright.outbox WHERE dispatched_at IS NOT NULL"
        ) == [(1,)]

    await eventually(marked)


async def test_nothing_is_done_by_the_predictions_of_the_control_group(
    world, hook, tenant, github, model_file
):
    pointer = await world.promote(tenant, model_file, control_share=0.5)
    control = Control.of(pointer)
    assert control is not None
    acts = await world.trigger(tenant, condition=RETRY)
    held = set(islice((run for run in count(1) if control.has((hook.uid, str(run), 1))), 2))
    runs = held | set(islice((run for run in count(1) if not control.has((hook.uid, str(run), 1))), 3))
    for minute, run in enumerate(sorted(runs)):
        await world.deliver(hook, "workflow_run", github("requested", run=run, minute=minute))
        failed = github("completed", run=run, minute=minute, conclusion="failure")
        await world.deliver(hook, "workflow_run", failed, id=f"d-{run}")
    found = await tenant.rows(
        "SELECT delivery_id, fired, reason, prediction IS NULL FROM pipewright.decisions"
        " WHERE workflow_uid = %s",
        acts,
    )
    assert {(int(id_.removeprefix("d-")), *rest) for id_, *rest in found} == {
        (run, run not in held, decide.HELD if run in held else "fired", run in held) for run in runs
    }
    # each is predicted all the same, and the report tells them apart by the same formula
    assert await tenant.rows("SELECT count(*) FROM pipewright.predictions WHERE kind = 'run'") == [(5,)]
    report = (await world.rest("GET", f"/v1/namespaces/{tenant.namespace}/models/run-failure/report")).body
    assert report["live"]["predictions"] == 5
    assert (report["control"]["predictions"], report["control"]["failures"]) == (2, 2)


NOT_FIRED = {
    "a condition that is false": ({"condition": "event.outcome == 'success'"}, "condition is false"),
    "another integration": ({"integration": "gitlab"}, "other integration: the trigger waits for gitlab"),
    "a prediction that is not there": (
        {"condition": "prediction.probability > 0.5"},
        "evaluation failed: a value is absent",
    ),
    "a condition that no longer compiles": (
        {"condition": "event.outcom == 'x'"},
        "the condition does not compile: pipelinerun.finished has no field 'outcom'",
    ),
}


@pytest.mark.parametrize(("trigger", "why"), NOT_FIRED.values(), ids=NOT_FIRED)
async def test_not_fired_is_a_row_with_its_reason(world, hook, tenant, github, trigger, why):
    workflow = await world.trigger(tenant, **trigger)
    answer = await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    assert answer.status == 202
    [(fired, reason, _, run_name)] = await decisions_of(tenant, workflow)
    assert (fired, run_name) == (False, None)
    assert reason.startswith(why)
    assert await tenant.rows("SELECT count(*) FROM pipewright.outbox") == [(0,)]


async def test_a_trigger_for_another_type_of_event_makes_no_row(world, hook, tenant, github):
    workflow = await world.trigger(tenant, event="pipelinerun.started")
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    assert await decisions_of(tenant, workflow) == []


async def test_another_namespaces_triggers_see_nothing(world, hook, tenant, github):
    stranger = await world.tenant()
    workflow = await world.trigger(stranger)
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    assert await decisions_of(tenant, workflow) == await decisions_of(stranger, workflow) == []


class Slow:
    """A cluster that answers when it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.go = asyncio.Event()

    async def create(self, manifest):
        await self.go.wait()
        self.names.append(manifest["metadata"]["name"])
        return manifest


async def test_two_dispatchers_at_once_create_each_run_once(world, hook, tenant, github):
    world.cluster.up = False
    try:
        await world.trigger(tenant)
        for run in range(12):
            await world.deliver(hook, "workflow_run", github("completed", run=run, conclusion="failure"))
        async with tenant.connect() as conn:
            await conn.execute("UPDATE pipewright.outbox SET due_at = now() - interval '1 hour'")
        cluster = Slow()
        pair = [
            Dispatcher(
                outboxes=world.parts.databases,
                cluster=cluster,
                clock=SystemClock(),
                metrics=world.parts.metrics,
            )
            for _ in range(2)
        ]
        looks = [asyncio.create_task(each.dispatch(tenant.id)) for each in pair]
        await asyncio.sleep(0)
        cluster.go.set()
        done = await asyncio.gather(*looks)
        assert sum(each.created for each in done) == 12
        assert len(cluster.names) == len(set(cluster.names)) == 12
    finally:
        world.cluster.up = True


async def test_runs_wait_in_the_outbox_while_the_api_server_is_down(serve, github, eventually):
    async with serve() as world:
        tenant = await world.tenant()
        hook = await world.hook(tenant)
        await world.trigger(tenant)
        world.cluster.up = False
        answer = await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
        assert answer.status == 202

        async def kept():
            return await tenant.rows("SELECT last_error FROM pipewright.outbox WHERE last_error IS NOT NULL")

        [(error,)] = await eventually(kept)
        assert error == "the API server did not answer"
        world.cluster.up = True

        async def created():
            return len(world.cluster.created) == 1

        await eventually(created, within=30)


async def test_what_the_api_server_refuses_stays_with_its_error_and_does_not_hold_up_others(
    world, hook, tenant, github, eventually
):
    await world.trigger(tenant)
    world.cluster.refuses = errors.Stalled("Refused", "create: the API server refused the object: no")
    try:
        await world.deliver(hook, "workflow_run", github("completed", run=1, conclusion="failure"))

        async def kept():
            return await tenant.rows("SELECT last_error FROM pipewright.outbox WHERE last_error IS NOT NULL")

        [(error,)] = await eventually(kept)
        assert error.endswith("refused the object: no")
    finally:
        world.cluster.refuses = None
    await world.deliver(hook, "workflow_run", github("completed", run=2, conclusion="failure"))

    async def created():
        return [name for namespace, name in world.cluster.created if namespace == tenant.namespace]

    assert len(await eventually(created)) == 1


def _created_in(world, tenant):
    return [name for namespace, name in world.cluster.created if namespace == tenant.namespace]


async def test_a_run_that_was_created_before_a_crash_counts_as_dispatched(
    world, hook, tenant, github, eventually
):
    await world.trigger(tenant)
    await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))

    async def dispatched():
        return await tenant.rows("SELECT id FROM pipewright.outbox WHERE dispatched_at IS NOT NULL")

    await eventually(dispatched)
    async with tenant.connect() as conn:
        await conn.execute("UPDATE pipewright.outbox SET dispatched_at = NULL")
    before = _created_in(world, tenant)
    world.parts.dispatcher.wake(tenant.id)
    await eventually(dispatched)
    assert _created_in(world, tenant) == before


async def test_a_gateway_that_starts_finds_what_another_left_in_the_outbox(serve, world, github, eventually):
    tenant = await world.tenant()
    hook = await world.hook(tenant)
    await world.trigger(tenant)
    world.cluster.up = False
    try:
        await world.deliver(hook, "workflow_run", github("completed", conclusion="failure"))
    finally:
        world.cluster.up = True
    async with serve() as second:

        async def created():
            both = {**world.cluster.created, **second.cluster.created}
            return [name for namespace, name in both if namespace == tenant.namespace]

        assert len(await eventually(created, within=30)) == 1


async def test_the_same_event_under_another_delivery_id_does_not_fire_again(
    world, hook, tenant, github, eventually
):
    workflow = await world.trigger(tenant)
    payload = github("completed", conclusion="failure")
    answers = [await world.deliver(hook, "workflow_run", payload, id=f"d-{number}") for number in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    [first, second] = await decisions_of(tenant, workflow)
    assert (first[0], second[0], second[1]) == (True, False, "already fired for this attempt")
    assert await tenant.rows("SELECT count(*) FROM pipewright.outbox") == [(1,)]
    await world.deliver(hook, "workflow_run", github("completed", attempt=2, conclusion="failure"))
    assert [row[0] for row in await decisions_of(tenant, workflow)] == [True, False, True]


async def test_a_model_whose_file_is_wrong_leaves_the_old_version_in_place(world, tenant, model_file):
    pointer = await world.promote(tenant, model_file)
    await world.runner.execute(
        "UPDATE pipewright.model_pointers SET version = 'zzz', artifact_sha256 = %s, generation = 2"
        " WHERE model_uid = %s",
        [artifact.digest(b"something else"), pointer.model_uid],
    )
    await world.parts.directory.load(["model_pointers"])
    await world.parts.models.settle()
    current = world.parts.directory.view.models[tenant.id, tenant.namespace]["run-failure"]
    predictor = await world.parts.models.get(current)
    assert predictor is not None
    assert predictor.version == pointer.version


async def test_an_artifact_outside_the_store_is_never_read(world, tenant, model_file, tmp_path):
    outside = tmp_path / "model"
    outside.write_bytes(model_file)
    pointer = await world.promote(tenant, model_file, name="evil")
    uri = f"{world.artifacts.as_uri()}/../../../../../..{outside}"
    await world.runner.execute(
        "UPDATE pipewright.model_pointers SET model_uid = %s, artifact_uri = %s WHERE model_uid = %s",
        [str(uuid4()), uri, pointer.model_uid],
    )
    await world.parts.directory.load(["model_pointers"])
    await world.parts.models.settle()
    current = world.parts.directory.view.models[tenant.id, tenant.namespace]["evil"]
    assert await world.parts.models.get(current) is None
