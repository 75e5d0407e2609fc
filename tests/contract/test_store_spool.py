"""The spool in the platform database: once, in order, bounded, held by one replica at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from pipewright.backends.postgres import Pools, PostgresRegistry
from pipewright.facts import Server
from pipewright.ports import Secret
from pipewright.store import spool
from pipewright.store.spool import Parked, Room

MAIN = (Server(name="main", region="local", database_class="standard"),)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOM = Room(deliveries=3, bytes=1000)
Connections = Mapping[str, psycopg.AsyncConnection]


@pytest.fixture
def registry(platform_logins: Mapping[str, str], pools: Pools) -> PostgresRegistry:
    return PostgresRegistry(pools, dsn=Secret(platform_logins["pipewright_provisioner"]))


@pytest.fixture
async def parked(registry: PostgresRegistry) -> Parked:
    made = await registry.register(uid=str(uuid4()), name="acme", servers=MAIN)
    return Parked(
        tenant_id=made.id, integration=str(uuid4()), delivery_id="d-1", received_at=AT, sealed=b"\x01sealed"
    )


async def taken(conn: psycopg.AsyncConnection, tenant_id: str) -> list[str]:
    """Everything that is due, in the order in which it leaves."""
    found = []
    while True:
        async with conn.transaction():
            row = await spool.claim(conn, tenant_id)
            if row is None:
                return found
            assert isinstance(row, Parked)
            found.append(row.delivery_id)
            await spool.remove(conn, row.id)


async def ended(conn: psycopg.AsyncConnection, pid: int) -> None:
    """The server notices a connection that is gone a moment later, and only then lets go of its locks."""
    alive = "SELECT FROM pg_stat_activity WHERE pid = %s"
    async with asyncio.timeout(10):
        while (await conn.execute(alive, [pid])).rowcount:  # noqa: ASYNC110 - the fact is in the server
            await asyncio.sleep(0.02)


async def test_deliveries_leave_in_the_order_in_which_they_came(
    platform: Connections, parked: Parked
) -> None:
    gateway = platform["gateway"]
    for name in ("d-2", "d-1", "d-3"):
        assert await spool.park(gateway, replace(parked, delivery_id=name), ROOM) == "parked"
    async with gateway.transaction():
        first = await spool.claim(gateway, parked.tenant_id)
    assert isinstance(first, Parked)
    assert replace(first, id=0) == replace(parked, delivery_id="d-2")
    assert await taken(gateway, parked.tenant_id) == ["d-2", "d-1", "d-3"]


async def test_twice_is_once_however_many_come_at_the_same_moment(
    platform: Connections, platform_logins: Mapping[str, str], parked: Parked
) -> None:
    dsn = platform_logins["pipewright_gateway"]
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
            for _ in range(6)
        ]
        done = await asyncio.gather(*(spool.park(each, parked, ROOM) for each in replicas))
    assert sorted(done) == ["duplicate"] * 5 + ["parked"]
    assert await taken(platform["gateway"], parked.tenant_id) == ["d-1"]


@pytest.mark.parametrize("room", [Room(deliveries=2, bytes=1000), Room(deliveries=9, bytes=16)])
async def test_a_tenant_has_so_much_room_and_takes_none_from_others(
    platform: Connections, registry: PostgresRegistry, parked: Parked, room: Room
) -> None:
    gateway = platform["gateway"]
    done = [await spool.park(gateway, replace(parked, delivery_id=f"d-{at}"), room) for at in range(3)]
    assert done == ["parked", "parked", "full"]
    assert await spool.park(gateway, replace(parked, delivery_id="d-0"), room) == "duplicate"
    other = await registry.register(uid=str(uuid4()), name="bolt", servers=MAIN)
    neighbour = replace(parked, tenant_id=other.id, integration=str(uuid4()))
    assert await spool.park(gateway, neighbour, room) == "parked"
    await taken(gateway, parked.tenant_id)
    assert await spool.park(gateway, parked, room) == "parked"


async def test_one_replica_at_a_time_has_a_tenants_deliveries(
    platform: Connections, platform_logins: Mapping[str, str], parked: Parked
) -> None:
    gateway = platform["gateway"]
    for name in ("d-1", "d-2"):
        await spool.park(gateway, replace(parked, delivery_id=name), ROOM)
    other = await psycopg.AsyncConnection.connect(platform_logins["pipewright_gateway"], autocommit=True)
    async with other:
        async with gateway.transaction():
            assert isinstance(await spool.claim(gateway, parked.tenant_id), Parked)
            async with other.transaction():
                assert await spool.claim(other, parked.tenant_id) == "busy"
        assert await taken(other, parked.tenant_id) == ["d-1", "d-2"]


async def test_a_replica_that_dies_leaves_what_it_held(
    platform: Connections, platform_logins: Mapping[str, str], parked: Parked
) -> None:
    gateway = platform["gateway"]
    await spool.park(gateway, parked, ROOM)
    doomed = await psycopg.AsyncConnection.connect(platform_logins["pipewright_gateway"])
    row = await spool.claim(doomed, parked.tenant_id)
    assert isinstance(row, Parked)
    await spool.remove(doomed, row.id)
    pid = doomed.info.backend_pid
    await doomed.close()
    await ended(gateway, pid)
    assert await taken(gateway, parked.tenant_id) == ["d-1"]


async def test_one_that_is_at_fault_steps_aside_and_is_counted(platform: Connections, parked: Parked) -> None:
    gateway = platform["gateway"]
    for name in ("d-1", "d-2"):
        await spool.park(gateway, replace(parked, delivery_id=name), ROOM)
    async with gateway.transaction():
        row = await spool.claim(gateway, parked.tenant_id)
        assert isinstance(row, Parked)
        await spool.postpone(gateway, row.id, error="it does not open", after=timedelta(hours=1))
    assert await taken(gateway, parked.tenant_id) == ["d-2"]
    [left] = [it for it in await spool.waiting(gateway) if it.tenant_id == parked.tenant_id]
    assert (left.deliveries, left.oldest) == (1, AT)
    assert left.due_at > datetime.now(UTC) + timedelta(minutes=50)


async def test_with_the_tenant_goes_what_was_kept_for_it(
    platform: Connections, registry: PostgresRegistry, parked: Parked
) -> None:
    gateway = platform["gateway"]
    await spool.park(gateway, parked, ROOM)
    await registry.mark(parked.tenant_id, state="Suspended")
    await registry.mark(parked.tenant_id, state="Deleting")
    assert [it.tenant_id for it in await spool.waiting(gateway)].count(parked.tenant_id) == 1
    await registry.mark(parked.tenant_id, state="Deleted")
    assert parked.tenant_id not in [it.tenant_id for it in await spool.waiting(gateway)]


READS = "SELECT sealed FROM pipewright.spool"


@pytest.mark.parametrize("login", ["provisioner", "runner"])
async def test_nobody_but_the_gateway_reads_what_is_kept(platform: Connections, login: str) -> None:
    await platform["gateway"].execute(READS)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await platform[login].execute(READS)
