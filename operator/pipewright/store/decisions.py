"""Decisions, and the outbox of WorkflowRuns that they want created.

A decision and its outbox row are one statement in the delivery's transaction, so neither is without the
other. Whoever dispatches claims rows within a transaction of its own: others skip them meanwhile, and a
crash gives them back. The run's name is a hash of the decision's key, so a run created twice is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pipewright.store import rows
from pipewright.store.records import Decision, Waiting

ALREADY_FIRED = "already fired for this attempt"


async def record(
    conn: psycopg.AsyncConnection, decision: Decision, *, manifest: Mapping[str, Any] | None = None
) -> bool:
    """Keep a decision; False when it was known, or its workflow has fired for the same attempt (see `fire`).

    `manifest` is the WorkflowRun named `decision.run_name`, for the outbox.
    """
    cursor = await conn.execute(_RECORD, _parameters(decision, manifest))
    return await cursor.fetchone() == (1,)


async def fire(conn: psycopg.AsyncConnection, decision: Decision, *, manifest: Mapping[str, Any]) -> bool:
    """Keep a decision that fires, as `record` does, unless its workflow has fired for the same event before.

    The same event: of the same type, about the same attempt of the same run and the same job, whatever the
    delivery's id says. Then it is kept as one that did not fire. A concurrent one waits until this
    transaction ends. False: it did not fire, or it was known.
    """
    return await keep(conn, [Wanted(decision=decision, manifest=manifest)]) == [True]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A decision to be kept, and if it fires the WorkflowRun for the outbox."""

    decision: Decision
    manifest: Mapping[str, Any] | None = field(default=None, hash=False)


async def keep(conn: psycopg.AsyncConnection, wanted: Sequence[Wanted]) -> list[bool]:
    """Keep decisions of different deliveries, as `record` and `fire` keep one; which of them fire."""
    sent = [await conn.execute(_RECORD, _parameters(each.decision, each.manifest)) for each in wanted]
    kept = [await cursor.fetchone() == (1,) for cursor in sent]
    for new, each in zip(kept, wanted, strict=True):
        if not new and each.manifest is not None:
            await record(conn, replace(each.decision, fired=False, reason=ALREADY_FIRED, run_name=None))
    return [new and each.manifest is not None for new, each in zip(kept, wanted, strict=True)]


async def page(
    conn: psycopg.AsyncConnection,
    *,
    namespace: str,
    workflow: str,
    limit: int = 50,
    before: int | None = None,
) -> list[Decision]:
    """A workflow's decisions, newest first; `before` is the id of the last one on the page before."""
    async with conn.cursor(row_factory=class_row(Decision)) as cursor:
        await cursor.execute(_PAGE, [namespace, workflow, before, limit])
        return await cursor.fetchall()


async def find(
    conn: psycopg.AsyncConnection,
    *,
    namespace: str,
    workflow: str,
    revision: str,
    integration: str,
    delivery_id: str,
) -> Decision | None:
    """The newest decision of this key. `integration` is its UID, or its name as the event has it."""
    async with conn.cursor(row_factory=class_row(Decision)) as cursor:
        await cursor.execute(_FIND, [namespace, workflow, revision, delivery_id, integration, integration])
        return await cursor.fetchone()


async def claim_outbox(conn: psycopg.AsyncConnection, *, now: datetime, limit: int = 20) -> list[Waiting]:
    """Rows that are due, oldest first, locked until the caller's transaction ends; others skip them."""
    async with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        await cursor.execute(_CLAIM, [now, limit])
        return await cursor.fetchall()


async def mark_dispatched(conn: psycopg.AsyncConnection, outbox_id: int, *, at: datetime) -> None:
    """The run is there."""
    await conn.execute(
        "UPDATE pipewright.outbox SET dispatched_at = %s, attempts = attempts + 1, last_error = NULL"
        " WHERE id = %s",
        [at, outbox_id],
    )


async def mark_failed(conn: psycopg.AsyncConnection, outbox_id: int, *, error: str, due_at: datetime) -> None:
    """The run could not be created: `error` is safe to show, and it is due again later."""
    await conn.execute(
        "UPDATE pipewright.outbox SET attempts = attempts + 1, last_error = %s, due_at = %s WHERE id = %s",
        [error, due_at, outbox_id],
    )


async def next_due(conn: psycopg.AsyncConnection) -> datetime | None:
    """When the next row of the outbox is due; None when all is dispatched."""
    cursor = await conn.execute("SELECT min(due_at) FROM pipewright.outbox WHERE dispatched_at IS NULL")
    row = await cursor.fetchone()
    return row[0] if row else None


def _parameters(decision: Decision, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    return rows.values(decision) | {"manifest": None if manifest is None else Jsonb(dict(manifest))}


_RECORD = f"""
WITH decided AS (
    {rows.insert("decisions", Decision, without=["id"])} ON CONFLICT DO NOTHING RETURNING *
), waiting AS (
    INSERT INTO pipewright.outbox (workflow_uid, integration, delivery_id, revision, namespace, run_name,
        manifest, created_at, due_at)
    SELECT workflow_uid, integration, delivery_id, revision, namespace, run_name, %(manifest)s::jsonb,
        decided_at, decided_at
    FROM decided WHERE %(manifest)s::jsonb IS NOT NULL
)
SELECT count(*)::integer FROM decided
"""  # noqa: S608 - names are ours
_PAGE = f"""
SELECT {rows.columns(Decision)} FROM pipewright.decisions
WHERE namespace = %s AND workflow = %s AND id < coalesce(%s, 9223372036854775807)
ORDER BY id DESC LIMIT %s
"""  # noqa: S608 - names are ours
_FIND = f"""
SELECT {rows.columns(Decision)} FROM pipewright.decisions
WHERE namespace = %s AND workflow = %s AND revision = %s AND delivery_id = %s
    AND (integration::text = %s OR event ->> 'integration' = %s)
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - names are ours
_CLAIM = f"""
SELECT {rows.columns(Waiting)} FROM pipewright.outbox WHERE dispatched_at IS NULL AND due_at <= %s
ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - names are ours
