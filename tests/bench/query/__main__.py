"""Measure, and print one JSON line a figure as soon as it is there: name, value, unit, limit, ratio.

    N=1000000 python -m tests.bench.query

N is the number of runs in the end; before it the same is measured at a tenth of it, to show the growth. SIZES
names other numbers to measure at, such as "1000000". Each query of the dashboards runs as the tenant's own
login, and each report of the REST API as the gateway's, over the last 30 days and over 365, REPEATS times one
after the other. A query's `limit` is 500 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psutil
import psycopg

from dev import dashboards, throwaway
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.ports import LOGINS, Secret
from pipewright.store import connect, pages, reports, roles, rollups, schema
from tests.bench.query import fill

N = int(os.environ.get("N") or "1000000")
SIZES = [int(size) for size in (os.environ.get("SIZES") or f"{N // 10} {N}").split()]
REPEATS = int(os.environ.get("REPEATS") or "100")
LIMIT = 500.0
"""Milliseconds of a dashboard's query at p99."""
LONGEST = 10.0
"""Seconds for one query's repetitions; a slow one is repeated less often, ten times at least."""
RANGES = (30, 365)
UNTIL = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
BATCH = 200
SIZE = (
    "SELECT pg_size_pretty(sum(pg_relation_size(oid))) FROM pg_class"
    " WHERE relnamespace = 'pipewright'::regnamespace AND relkind IN ('r', 'i')"
)
ROLLUPS = (
    "hourly_runs", "daily_runs", "hourly_jobs", "daily_jobs", "daily_runners", "daily_projects",
    "red_spells", "red_commits", "flaky_jobs",
)  # fmt: skip


def say(text: str) -> None:
    """Progress, beside the figures."""
    now, load = time.strftime("%H:%M:%S"), psutil.getloadavg()[0]
    print(f"{now} load {load:.1f}: {text}", file=sys.stderr, flush=True)


def figure(name: str, value: float, unit: str, limit: float | None) -> float:
    """Print one line of the result; its value."""
    ratio = None if limit is None else round(value / limit, 4)
    line = {"name": name, "value": round(value, 4), "unit": unit, "limit": limit, "ratio": ratio}
    print(json.dumps(line), flush=True)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant's database on a server of its own."""

    server: Server
    id: str
    connection: Any

    def dsn(self, purpose: str) -> str:
        """One of the tenant's logins, with the settings that our processes have."""
        user, password = roles.login(self.id, purpose), Secret(f"password-of-{purpose}")
        return connect.conninfo(connect.tenant_dsn(self.connection, user=user, password=password))

    def owner(self) -> psycopg.Connection:
        """The migrator acting as the owner."""
        return psycopg.connect(
            schema.migrator(self.server.migrator_dsn, database=roles.database(self.id)), autocommit=True
        )


@contextmanager
def tenant() -> Iterator[Tenant]:
    """A server with one tenant; fsync is off, as in tests."""
    with throwaway.stack() as stack:
        database, logins = stack.parts.database(), stack.parts.platform()
        server = Server(
            name="main",
            host=database.host,
            port=database.port,
            provisioner_dsn=Secret(logins[roles.PROVISIONER]),
            migrator_dsn=Secret(logins[roles.MIGRATOR]),
        )
        tenant_id = roles.new_id()
        connection = asyncio.run(_made(server, tenant_id))
        yield Tenant(server=server, id=tenant_id, connection=connection)


async def _made(server: Server, tenant_id: str) -> Any:
    await PostgresDatabases(server).create(tenant_id, uid=str(uuid4()), connection_limit=20)
    logins = PostgresLogins(server)
    passwords = {purpose: Secret(f"password-of-{purpose}") for purpose in LOGINS}
    await logins.set(tenant_id, passwords=passwords, version=1)
    return logins.connection(tenant_id)


# --- what is measured -------------------------------------------------------------------------------------


async def refresh(conn: psycopg.AsyncConnection, *, runs: int) -> None:
    """Take all notes: how fast, and how long the longest transaction was."""
    begun, longest, total = time.perf_counter(), 0.0, 0
    while True:
        at = time.perf_counter()
        async with conn.transaction():
            taken = await rollups.refresh(conn)
        longest = max(longest, time.perf_counter() - at)
        if not taken:
            break
        total += taken
    seconds = time.perf_counter() - begun
    say(f"{total} notes of {runs} runs and their jobs in {seconds:.1f} s, the longest part {longest:.2f} s")
    figure("rollup_rate", total / seconds, f"changes/s, {runs} runs new", None)
    figure("rollup_longest", 1000 * longest, f"ms, 1 transaction, {runs} runs new", None)


async def steady(conn: psycopg.AsyncConnection, *, runs: int) -> None:
    """A refresh as it is every 15 s: after some runs have finished just now."""
    times = []
    for number in range(20):
        await conn.execute(
            "UPDATE pipewright.runs SET finished_at = finished_at + interval '1 millisecond'"
            " WHERE (integration, provider_id, attempt) IN (SELECT integration, provider_id, attempt"
            " FROM pipewright.runs WHERE phase = 'finished' ORDER BY finished_at DESC LIMIT 20 OFFSET %s)",
            [20 * number],
        )
        at = time.perf_counter()
        while await rollups.refresh(conn):
            pass
        times.append(time.perf_counter() - at)
    figure("rollup_steady", 1000 * sorted(times)[len(times) // 2], f"ms for 20 runs, {runs} runs", None)


async def note(conn: psycopg.AsyncConnection, owner: psycopg.Connection) -> None:
    """What the notes cost a writer: the same batch of new runs with and without the triggers, by turns."""
    insert = (
        "INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, branch, sha,"
        " phase, outcome, started_at, finished_at, seen_at) SELECT %s, 'bench-' || n, 1, 'acme/bench', 'ci',"
        " 'main', md5(n::text), 'finished', 'success', now(), now(), now()"
        f" FROM generate_series(1, {BATCH}) AS n"
    )
    taken: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    for _ in range(30):
        for word, times in taken.items():
            owner.execute(f"ALTER TABLE pipewright.runs {word} TRIGGER USER")
            async with conn.transaction(force_rollback=True):
                at = time.perf_counter()
                await conn.execute(insert, [str(uuid4())])
                times.append(time.perf_counter() - at)
    owner.execute("ALTER TABLE pipewright.runs ENABLE TRIGGER USER")
    noted, bare = (sorted(taken[word])[15] * 1000 for word in ("ENABLE", "DISABLE"))
    figure("note", noted, f"ms, {BATCH} new runs in a statement; limit: without triggers", round(bare, 4))


Ask = Callable[[], Awaitable[Any]]


async def timed(name: str, ask: Ask, *, what: str) -> float:
    """The p99 of the repetitions."""
    times: list[float] = []
    until = time.perf_counter() + LONGEST
    await ask()
    while len(times) < REPEATS and (time.perf_counter() < until or len(times) < 10):
        at = time.perf_counter()
        await ask()
        times.append(1000 * (time.perf_counter() - at))
    times.sort()
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    return figure(name, p99, f"ms p99 of {len(times)}, {what}; median {times[len(times) // 2]:.1f}", LIMIT)


async def queries(place: Tenant, *, runs: int) -> None:
    """The dashboards' queries, then the reports and lists of the REST API."""
    async with (
        await psycopg.AsyncConnection.connect(place.dsn("readonly"), autocommit=True) as reader,
        await psycopg.AsyncConnection.connect(place.dsn("ingest"), autocommit=True) as gateway,
    ):
        projects = [f"acme/project-{number}" for number in range(fill.PROJECTS + 1)]
        for days in RANGES:
            found: dict[str, float] = {}
            since, what = UNTIL - timedelta(days=days), f"{days} days of {runs} runs"
            for query in dashboards.queries():
                sql = query.filled(since=since, until=UNTIL, projects=projects)

                async def panel(sql: str = sql) -> None:
                    await (await reader.execute(sql)).fetchall()

                name = f"panel_{query.slug}_{days}d"
                found[name] = await timed(name, panel, what=what)
            for report, ask in _asked(gateway, since).items():
                name = f"rest_{report}_{days}d"
                found[name] = await timed(name, ask, what=what)
            slowest = max(found, key=lambda name: found[name])
            say(f"{what}: the slowest is {slowest}, {found[slowest]:.0f} ms")


def _asked(conn: psycopg.AsyncConnection, since: datetime) -> dict[str, Ask]:
    span = reports.Span(integration=fill.INTEGRATION, since=since.date(), until=UNTIL.date())
    wanted = pages.Wanted(integration=fill.INTEGRATION, since=since, until=UNTIL, limit=51)
    return {
        "runs": lambda: pages.runs(conn, wanted),
        "jobs": lambda: pages.jobs(conn, wanted),
        "failure_trend": lambda: reports.failure_trend(conn, span, by="day"),
        "failing_jobs": lambda: reports.failing_jobs(conn, span),
        "productivity": lambda: reports.productivity(conn, span),
        "mttr": lambda: reports.repairs(conn, span),
        "time_to_green": lambda: reports.time_to_green(conn, span),
        "flaky_jobs": lambda: reports.flaky_jobs(conn, span),
        "cost": lambda: reports.cost(conn, span, by="runner"),
    }


async def measure(place: Tenant, *, first: int, last: int) -> None:
    """Fill up to `last` runs and measure."""
    begun = time.perf_counter()
    with place.owner() as owner:
        fill.fill(owner, first=first, last=last, until=UNTIL.isoformat())
        [size] = owner.execute(SIZE).fetchone() or ("",)
        say(f"filled up to {last} runs in {time.perf_counter() - begun:.1f} s: {size}")
        async with await psycopg.AsyncConnection.connect(place.dsn("ingest"), autocommit=True) as conn:
            await conn.execute("SET statement_timeout = 0")
            await refresh(conn, runs=last - first + 1)
            await steady(conn, runs=last)
            await note(conn, owner)
        for table in ("changes", *ROLLUPS):
            owner.execute(f"VACUUM (ANALYZE) pipewright.{table}")  # as autovacuum does within a minute
            [count] = owner.execute(f"SELECT count(*) FROM pipewright.{table}").fetchone() or (0,)
            say(f"{table}: {count} rows")
    await queries(place, runs=last)


def main() -> None:
    """Run on a server of its own and print the figures."""
    with tenant() as place:
        for before, size in zip([0, *SIZES], SIZES, strict=False):
            asyncio.run(measure(place, first=before + 1, last=size))


if __name__ == "__main__":
    main()
