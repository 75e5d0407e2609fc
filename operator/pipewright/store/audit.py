"""The platform's audit trail: what was done to which tenant, by which login. Rows are only ever added."""

from __future__ import annotations

import psycopg


async def record(
    conn: psycopg.AsyncConnection,
    *,
    tenant_id: str | None,
    action: str,
    phase: str = "done",
    detail: str = "",
) -> None:
    """Add a line. Time and login are the server's own; `detail` holds names and versions, never a secret.

    Call it in the transaction of what it tells. An effect outside this database has two lines: `phase`
    "intent" before it, "done" or "failed" after it.
    """
    await conn.execute(
        "INSERT INTO pipewright.audit (tenant_id, action, phase, detail) VALUES (%s, %s, %s, %s)",
        [tenant_id, action, phase, detail],
    )
