"""The platform database's memory of proofs of isolation, and the choice of whose doors are tried."""

from __future__ import annotations

from pipewright import errors, names
from pipewright.facts import Proof, Target
from pipewright.ports import Secret
from pipewright.store import audit, pools, roles, upkeep


class PostgresProofs:
    """`pipewright.ports.Proofs`, as the provisioner's login."""

    def __init__(self, connections: pools.Pools, *, dsn: Secret) -> None:
        self._connections = connections
        self._dsn = dsn

    async def target(self, tenant_id: str) -> Target:
        """The next Active tenant in the order of ids, of the same server first; alone, the platform."""
        async with self._connections.connection("platform", self._dsn) as conn:
            row = await (await conn.execute(_NEXT, {"tenant": tenant_id})).fetchone()
        if row is None:
            raise errors.Conflict(f"tenant {tenant_id} is not in the registry")
        own, found, server, namespace = row
        if found is None:
            return Target(
                id=None,
                server=own,
                database=roles.PLATFORM,
                namespace=names.SYSTEM_NAMESPACE,
                paths=(names.platform_path(tenant_id),),
            )
        return Target(
            id=found,
            server=server,
            database=roles.database(found),
            namespace=namespace,
            paths=(names.user_path(found), names.platform_path(found)),
        )

    async def record(self, tenant_id: str, proof: Proof) -> None:
        """Remember the last proof; a change of its verdict is a line of the audit trail."""
        async with self._connections.connection("platform", self._dsn) as conn, conn.transaction():
            before = await upkeep.record_proof(conn, tenant_id, proof)
            if before is None or before.opened != proof.opened:
                doors = " and ".join(proof.opened) or "no door"
                detail = f"{doors} of {proof.target or 'the platform'} opened"
                await audit.record(conn, tenant_id=tenant_id, action="ProveIsolation", detail=detail)


_NEXT = """
SELECT me.server, other.id, other.server, other.namespace FROM pipewright.registry me
LEFT JOIN LATERAL (
    SELECT r.id, r.server, min(n.name) AS namespace FROM pipewright.registry r
    JOIN pipewright.registry_namespaces n ON n.tenant_id = r.id
    WHERE r.id <> me.id AND r.state = 'Active' AND r.bundle_version IS NOT NULL
    GROUP BY r.id ORDER BY r.server <> me.server, r.id < me.id, r.id LIMIT 1
) other ON true
WHERE me.id = %(tenant)s
"""
