"""What the provisioner remembers of its periodic work for each tenant, beside the registry.

A table of its own: listeners are told of every change of the registry, and this is none of their business.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from pipewright.facts import Proof, Sweep

JOIN: LiteralString = " LEFT JOIN pipewright.upkeep ON upkeep.tenant_id = r.id"
"""For a query of the registry `r`."""


async def record_proof(conn: psycopg.AsyncConnection, tenant_id: str, proof: Proof) -> Proof | None:
    """Remember the last proof; the one before it. Call it in a transaction."""
    row = await (await conn.execute(_LOCK, [tenant_id])).fetchone()
    noted = {
        "at": proof.at.isoformat(),
        "target": proof.target,
        "opened": proof.opened,
        "unknown": proof.unknown,
        "asked": proof.asked,
    }
    await conn.execute(
        "INSERT INTO pipewright.upkeep (tenant_id, proof) VALUES (%s, %s)"
        " ON CONFLICT (tenant_id) DO UPDATE SET proof = excluded.proof",
        [tenant_id, Jsonb(noted)],
    )
    return read_proof(row[0]) if row else None


def read_proof(noted: dict[str, Any] | None) -> Proof | None:
    """A proof as it was remembered."""
    if noted is None:
        return None
    return Proof(
        at=datetime.fromisoformat(noted["at"]),
        target=noted["target"],
        opened=tuple(noted["opened"]),
        unknown=tuple(noted["unknown"]),
        asked=noted["asked"],
    )


async def record_sweep(conn: psycopg.AsyncConnection, tenant_id: str, sweep: Sweep) -> None:
    """Remember the last sweep."""
    await conn.execute(
        "INSERT INTO pipewright.upkeep (tenant_id, swept_at, sweep_finished) VALUES (%s, %s, %s)"
        " ON CONFLICT (tenant_id) DO UPDATE SET swept_at = excluded.swept_at,"
        " sweep_finished = excluded.sweep_finished",
        [tenant_id, sweep.at, sweep.finished],
    )


async def expire_audit(conn: psycopg.AsyncConnection, tenant_id: str, before: datetime) -> tuple[int, bool]:
    """Delete a batch of the tenant's older lines; how many, and whether that was all."""
    cursor = await conn.execute(
        "SELECT pipewright.expire_audit(%s, %s, %s)", [tenant_id, before, AUDIT_BATCH]
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[0] < AUDIT_BATCH


AUDIT_BATCH = 5_000
_LOCK = "SELECT proof FROM pipewright.upkeep WHERE tenant_id = %s FOR UPDATE"
