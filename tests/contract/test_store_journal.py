"""The runner's journal on the real server: intents before effects, outcomes once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from pipewright.store import journal
from pipewright.store.records import Step, Training, WorkflowRun

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = AT + timedelta(minutes=1)


@pytest.fixture
def run() -> WorkflowRun:
    return WorkflowRun(
        run_uid=str(uuid4()), namespace="shop", name="heal-1", workflow_uid=str(uuid4()), started_at=AT
    )


@pytest.fixture
def step(run: WorkflowRun) -> Step:
    return Step(
        run_uid=run.run_uid,
        step="rerun",
        attempt=1,
        phase="Running",
        idempotency_key=journal.idempotency_key(run.run_uid, "rerun", 1),
        started_at=AT,
    )


@pytest.fixture
def training() -> Training:
    return Training(
        submission_id=f"pw-{uuid4()}",
        model_uid=str(uuid4()),
        attempt=1,
        phase="Submitted",
        window_sha256="a" * 64,
        window_uri="file:///w",
        rows=1000,
        artifact_uri="file:///a",
        report_uri="file:///r",
        started_at=AT,
    )


async def test_a_run_is_opened_once_and_closed_once(
    runner: psycopg.AsyncConnection, run: WorkflowRun
) -> None:
    assert await journal.find_run(runner, run.run_uid) is None
    assert await journal.start_run(runner, run)
    assert not await journal.start_run(runner, replace(run, reason="again"))
    assert await journal.find_run(runner, run.run_uid) == run
    closed = {"phase": "Succeeded", "reason": "Completed", "finished_at": LATER}
    assert await journal.finish_run(runner, run.run_uid, **closed)
    assert not await journal.finish_run(runner, run.run_uid, phase="Failed", reason="late", finished_at=LATER)
    assert await journal.find_run(runner, run.run_uid) == replace(run, **closed)


async def test_a_manual_run_may_have_no_workflow(runner: psycopg.AsyncConnection, run: WorkflowRun) -> None:
    alone = replace(run, workflow_uid=None)
    await journal.start_run(runner, alone)
    assert await journal.find_run(runner, run.run_uid) == alone


async def test_runs_are_counted_for_the_budget(runner: psycopg.AsyncConnection, run: WorkflowRun) -> None:
    assert run.workflow_uid
    await journal.start_run(runner, run)
    await journal.start_run(runner, replace(run, run_uid=str(uuid4()), started_at=AT - timedelta(hours=2)))
    since = AT - timedelta(hours=1)
    assert await journal.count_runs_since(runner, workflow_uid=run.workflow_uid, since=since) == 1


async def test_an_intent_is_written_once(
    runner: psycopg.AsyncConnection, run: WorkflowRun, step: Step
) -> None:
    await journal.start_run(runner, run)
    assert await journal.intend_step(runner, step)
    assert not await journal.intend_step(runner, replace(step, started_at=LATER))
    assert await journal.steps(runner, run.run_uid) == [step]


async def test_an_outcome_stands_once_it_is_written(
    runner: psycopg.AsyncConnection, run: WorkflowRun, step: Step
) -> None:
    await journal.start_run(runner, run)
    await journal.intend_step(runner, step)
    done = replace(step, phase="Succeeded", finished_at=LATER, message="ran again", outputs={"url": "x"})
    assert await journal.conclude_step(runner, done)
    assert not await journal.conclude_step(runner, replace(done, phase="Failed"))
    assert not await journal.intend_step(runner, step)
    assert await journal.steps(runner, run.run_uid) == [done]


async def test_an_outcome_without_an_intent_brings_it_along(
    runner: psycopg.AsyncConnection, run: WorkflowRun, step: Step
) -> None:
    await journal.start_run(runner, run)
    skipped = replace(step, phase="Skipped", finished_at=AT, message="if: false")
    assert await journal.conclude_step(runner, skipped)
    assert await journal.steps(runner, run.run_uid) == [skipped]


async def test_steps_come_in_the_order_of_their_start(
    runner: psycopg.AsyncConnection, run: WorkflowRun, step: Step
) -> None:
    await journal.start_run(runner, run)
    second = replace(step, attempt=2, idempotency_key=f"{step.idempotency_key}-2", started_at=LATER)
    other = replace(step, step="comment", idempotency_key=f"{run.run_uid}/comment/1", started_at=LATER)
    for each in (second, other, step):
        await journal.intend_step(runner, each)
    assert [(found.step, found.attempt) for found in await journal.steps(runner, run.run_uid)] == [
        ("rerun", 1),
        ("comment", 1),
        ("rerun", 2),
    ]


async def test_a_training_is_begun_once_for_each_attempt_and_submission(
    runner: psycopg.AsyncConnection, training: Training
) -> None:
    assert await journal.begin_training(runner, training)
    assert not await journal.begin_training(runner, training)
    assert not await journal.begin_training(runner, replace(training, submission_id=f"pw-{uuid4()}"))
    assert not await journal.begin_training(runner, replace(training, attempt=2))
    assert await journal.trainings(runner, training.model_uid) == [training]


async def test_a_finished_training_stands(runner: psycopg.AsyncConnection, training: Training) -> None:
    await journal.begin_training(runner, training)
    assert await journal.move_training(runner, training.submission_id, phase="Running")
    end = {"phase": "Succeeded", "outcome": "Passed", "reason": "all gates passed", "finished_at": LATER}
    assert await journal.finish_training(runner, training.submission_id, **end, report={"rows": 3})
    assert not await journal.finish_training(runner, training.submission_id, **end)
    assert not await journal.move_training(runner, training.submission_id, phase="Running")
    assert await journal.trainings(runner, training.model_uid) == [
        replace(training, **end, report={"rows": 3})
    ]


async def test_trainings_come_newest_first(runner: psycopg.AsyncConnection, training: Training) -> None:
    for attempt in (1, 2, 3):
        await journal.begin_training(
            runner, replace(training, attempt=attempt, submission_id=f"pw-{uuid4()}")
        )
    found = await journal.trainings(runner, training.model_uid, limit=2)
    assert [each.attempt for each in found] == [3, 2]
