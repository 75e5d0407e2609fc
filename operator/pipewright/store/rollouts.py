"""Roll-outs of the tenants' schema: who goes first on a server, and what stopped the others."""

from __future__ import annotations

import psycopg

LATEST = """
LEFT JOIN LATERAL (
    SELECT jsonb_build_object('state', o.state, 'holder', o.holder, 'name', h.name, 'reason', o.reason,
        'at', extract(epoch FROM o.changed_at)) AS rollout
    FROM pipewright.rollouts o JOIN pipewright.registry h ON h.id = o.holder
    WHERE o.server = r.server AND o.revision = %(revision)s
        AND (o.state = 'Rolling' OR h.state NOT IN ('Deleting', 'Retained', 'Deleted'))
) latest ON true
"""
"""Joins a registry row `r` with its server's roll-out; one whose holder is gone counts as not begun."""


async def begin(conn: psycopg.AsyncConnection, *, tenant_id: str, revision: str) -> bool:
    """Whether this tenant may be upgraded now: it is the first, or the first was successful."""
    cursor = await conn.execute(_BEGIN, {"tenant": tenant_id, "revision": revision})
    return await cursor.fetchone() is not None


async def finish(conn: psycopg.AsyncConnection, *, tenant_id: str, revision: str) -> None:
    """The tenant whose turn it was is upgraded: the others follow."""
    await conn.execute(
        "UPDATE pipewright.rollouts SET state = 'Rolling', reason = '', changed_at = now()"
        " WHERE holder = %(tenant)s AND revision = %(revision)s AND state <> 'Rolling'",
        {"tenant": tenant_id, "revision": revision},
    )


async def fail(conn: psycopg.AsyncConnection, *, tenant_id: str, revision: str, reason: str) -> None:
    """This tenant could not be upgraded: nobody else is, until it was tried again or the release changes.

    The first failure is the one that is told.
    """
    await conn.execute(
        "UPDATE pipewright.rollouts SET state = 'Failed', holder = %(tenant)s, reason = %(reason)s,"
        " changed_at = now() WHERE revision = %(revision)s"
        " AND server = (SELECT server FROM pipewright.registry WHERE id = %(tenant)s)"
        " AND (state <> 'Failed' OR holder = %(tenant)s)",
        {"tenant": tenant_id, "revision": revision, "reason": reason[:500]},
    )


_BEGIN = """
WITH begun AS (
    INSERT INTO pipewright.rollouts AS o (server, revision, state, holder)
    SELECT r.server, %(revision)s, 'Canary', r.id FROM pipewright.registry r WHERE r.id = %(tenant)s
    ON CONFLICT (server, revision) DO UPDATE SET
        state = CASE o.state WHEN 'Rolling' THEN 'Rolling' ELSE 'Canary' END,
        holder = CASE o.state WHEN 'Rolling' THEN o.holder ELSE excluded.holder END,
        reason = '',
        changed_at = CASE o.state WHEN 'Rolling' THEN o.changed_at ELSE now() END
    WHERE o.state = 'Rolling' OR o.holder = excluded.holder
        OR EXISTS (SELECT FROM pipewright.registry h
                   WHERE h.id = o.holder AND h.state IN ('Deleting', 'Retained', 'Deleted'))
    RETURNING 1
)
SELECT 1 FROM begun
"""
