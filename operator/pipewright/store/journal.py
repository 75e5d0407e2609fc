"""The runner's journal: workflow runs, their steps' intents and outcomes, trainings.

An intent is written before its effect and an outcome after it, each once: what is written is never undone by
a process that lost its lease, and a reader after a crash sees which effects may have happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Step, Training, WorkflowRun

# --- workflow runs --------------------------------------------------------------------------------------


async def start_run(conn: psycopg.AsyncConnection, run: WorkflowRun) -> bool:
    """Open a run's line; False when it is open already."""
    statement = rows.insert("workflow_runs", WorkflowRun) + " ON CONFLICT DO NOTHING"
    return (await conn.execute(statement, rows.values(run))).rowcount == 1


async def finish_run(
    conn: psycopg.AsyncConnection, run_uid: str, *, phase: str, reason: str, finished_at: datetime
) -> bool:
    """Close a run's line; False when it is closed already, and stays as it is."""
    cursor = await conn.execute(
        "UPDATE pipewright.workflow_runs SET phase = %s, reason = %s, finished_at = %s"
        " WHERE run_uid = %s AND finished_at IS NULL",
        [phase, reason, finished_at, run_uid],
    )
    return cursor.rowcount == 1


async def find_run(conn: psycopg.AsyncConnection, run_uid: str) -> WorkflowRun | None:
    """A run's line."""
    query = f"SELECT {rows.columns(WorkflowRun)} FROM pipewright.workflow_runs WHERE run_uid = %s"  # noqa: S608
    async with conn.cursor(row_factory=class_row(WorkflowRun)) as cursor:
        await cursor.execute(query, [run_uid])
        return await cursor.fetchone()


async def count_runs_since(conn: psycopg.AsyncConnection, *, workflow_uid: str, since: datetime) -> int:
    """How many runs of a workflow started since then: for its budget."""
    cursor = await conn.execute(
        "SELECT count(*) FROM pipewright.workflow_runs WHERE workflow_uid = %s AND started_at >= %s",
        [workflow_uid, since],
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


# --- steps ----------------------------------------------------------------------------------------------


def idempotency_key(run_uid: str, step: str, attempt: int) -> str:
    """What an effect carries, so that repeating the attempt is the same effect."""
    return f"{run_uid}/{step}/{attempt}"


async def intend_step(conn: psycopg.AsyncConnection, step: Step) -> bool:
    """Write the intent (phase Running) before the effect; False when this attempt has one: read it first."""
    statement = rows.insert("run_steps", Step) + " ON CONFLICT DO NOTHING"
    return (await conn.execute(statement, rows.values(step))).rowcount == 1


async def conclude_step(conn: psycopg.AsyncConnection, step: Step) -> bool:
    """Write the outcome after the effect, or with its intent at once; False: one is there and stands."""
    statement = (
        f"{rows.insert('run_steps', Step)} ON CONFLICT (run_uid, step, attempt) DO UPDATE"
        " SET phase = excluded.phase, finished_at = excluded.finished_at, message = excluded.message,"
        " outputs = excluded.outputs, not_before = excluded.not_before WHERE run_steps.finished_at IS NULL"
    )
    return (await conn.execute(statement, rows.values(step))).rowcount == 1


async def steps(conn: psycopg.AsyncConnection, run_uid: str) -> list[Step]:
    """All attempts of all steps of a run, in the order of their start."""
    query = (
        f"SELECT {rows.columns(Step)} FROM pipewright.run_steps"  # noqa: S608 - names are ours
        " WHERE run_uid = %s ORDER BY started_at, step, attempt"
    )
    async with conn.cursor(row_factory=class_row(Step)) as cursor:
        await cursor.execute(query, [run_uid])
        return await cursor.fetchall()


# --- trainings ------------------------------------------------------------------------------------------


async def begin_training(conn: psycopg.AsyncConnection, training: Training) -> bool:
    """Write an attempt before its job is submitted; False when this attempt, or this submission, is there."""
    statement = rows.insert("trainings", Training) + " ON CONFLICT DO NOTHING"
    return (await conn.execute(statement, rows.values(training))).rowcount == 1


async def move_training(conn: psycopg.AsyncConnection, submission_id: str, *, phase: str) -> bool:
    """Note how far an unfinished attempt is; False when it is finished or not there."""
    cursor = await conn.execute(
        "UPDATE pipewright.trainings SET phase = %s WHERE submission_id = %s AND finished_at IS NULL",
        [phase, submission_id],
    )
    return cursor.rowcount == 1


async def finish_training(
    conn: psycopg.AsyncConnection,
    submission_id: str,
    *,
    phase: str,
    outcome: str,
    reason: str,
    finished_at: datetime,
    report: Mapping[str, Any] | None = None,
) -> bool:
    """Write how an attempt ended; False when that is written, and stands."""
    cursor = await conn.execute(
        "UPDATE pipewright.trainings SET phase = %s, outcome = %s, reason = %s, finished_at = %s, report = %s"
        " WHERE submission_id = %s AND finished_at IS NULL",
        [phase, outcome, reason, finished_at, None if report is None else Jsonb(dict(report)), submission_id],
    )
    return cursor.rowcount == 1


async def trainings(conn: psycopg.AsyncConnection, model_uid: str, *, limit: int = 10) -> list[Training]:
    """A model's attempts, the newest first."""
    query = (
        f"SELECT {rows.columns(Training)} FROM pipewright.trainings"  # noqa: S608 - names are ours
        " WHERE model_uid = %s ORDER BY attempt DESC LIMIT %s"
    )
    async with conn.cursor(row_factory=class_row(Training)) as cursor:
        await cursor.execute(query, [model_uid, limit])
        return await cursor.fetchall()
