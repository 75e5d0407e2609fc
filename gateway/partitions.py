"""Tomorrow's partitions of a database that is written to today: made beside deliveries, not by the first one.

Whoever writes makes a partition that is missing, so nothing depends on this; a database that was not used in
the evening has its first delivery of the day make one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC
from typing import Protocol

import psycopg

from pipewright.ports import Clock
from pipewright.store import details


class Tenants(Protocol):
    """Where the partitions are."""

    def upkeep(self, tenant_id: str) -> AbstractAsyncContextManager[psycopg.AsyncConnection]:
        """A connection to the tenant's database within a transaction."""
        ...


class Ahead:
    """Makes partitions a day ahead."""

    def __init__(self, *, databases: Tenants, clock: Clock) -> None:
        self._databases, self._clock = databases, clock

    async def make(self, tenant_id: str) -> None:
        """Make what is missing for tomorrow (UTC).

        Raises:
            Problem, BackendError: the database did not answer.
        """
        today = self._clock.now().astimezone(UTC).date()
        async with self._databases.upkeep(tenant_id) as conn:
            await details.partitions_ahead(conn, today=today)
