"""Measure, and print one JSON line a figure as soon as it is there: name, value, unit, limit, ratio.

    N=1000000 python -m tests.bench.query

N is the number of runs in the end; before it the same is measured at a tenth of it, to show the growth. SIZES
names other numbers to measure at, such as "1000000". Each query of the dashboards runs as the tenant's own
login, and each report of the REST API as the gateway's, over the last 30 days and over 365, REPEATS times one
after the other. A query's `limit` is 500 ms; the plan of one that is slower goes to standard error.

KEEP names a folder in which the server's data stays, and PARTS which of "fill recount refresh queries" are
done: so that it goes in pieces, and what is there grows. Filling and counting end after WITHIN seconds,
and go on when they are called again. Remove the folder in the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg

from dev import dashboards, throwaway
from dev.stack import Stack
from pipewright.backends.postgres import PostgresDatabases, PostgresLogins, Server
from pipewright.ports import LOGINS, Secret
from pipewright.store import connect, pages, reports, roles, rollups, schema
from tests.bench.query import fill, recount

N = int(os.environ.get("N") or "1000000")
SIZES = [int(size) for size in (os.environ.get("SIZES") or f"{N // 10} {N}").split()]
REPEATS = int(os.environ.get("REPEATS") or "100")
KEEP = os.environ.get("KEEP") or ""
WITHIN = float(os.environ.get("WITHIN") or "0")
BEGUN = time.perf_counter()
PARTS = (os.environ.get("PARTS") or "fill recount refresh queries").split()
LIMIT = 500.0
"""Milliseconds of a dashboard's query at p99."""
LONGEST = 10.0
"""Seconds for one query's repetitions; a slow one is repeated less often, ten times at least."""
RANGES = (30, 365)
BATCH = 200
STEP, AT_ONCE = 500_000, 2 * fill.WORKERS
"""Runs, each time over all days, and parts of the rollups, after which it may end."""
NOTED = 50_000
"""Runs of the newest days that the product's own refresh takes, a tenth of all at most."""
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


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far it is, written down where the data stays."""

    tenant: str
    until: str
    """What the history ends with."""
    runs: int = 0
    """That are there with their jobs."""
    counted: int = 0
    """Of them, in the rollups."""
    told: int = 0
    """Parts of the rollups that are done of those that are not `counted`."""
    indexes: list[Any] = field(default_factory=list)
    """That were dropped and are not made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant's database on a server of its own."""

    server: Server
    admin_dsn: str
    """Of the server's superuser, in the tenant's database."""
    progress: Progress
    connection: Any

    @property
    def id(self) -> str:
        """The tenant's."""
        return self.progress.tenant

    @property
    def until(self) -> datetime:
        """What the history ends with."""
        return datetime.fromisoformat(self.progress.until)

    def dsn(self, purpose: str) -> str:
        """One of the tenant's logins, with the settings that our processes have."""
        user, password = roles.login(self.id, purpose), Secret(f"password-of-{purpose}")
        return connect.conninfo(connect.tenant_dsn(self.connection, user=user, password=password))

    def owner(self) -> psycopg.Connection:
        """The migrator acting as the owner."""
        return psycopg.connect(
            schema.migrator(self.server.migrator_dsn, database=roles.database(self.id)), autocommit=True
        )

    def save(self) -> None:
        """Write down how far it is."""
        if KEEP:
            (Path(KEEP) / "progress.json").write_text(json.dumps(asdict(self.progress)))


@contextmanager
def tenant() -> Iterator[Tenant]:
    """A server with one tenant; fsync is off, as in tests."""
    with _stack() as stack:
        database, logins = stack.parts.database(), stack.parts.platform()
        server = Server(
            name="main",
            host=database.host,
            port=database.port,
            provisioner_dsn=Secret(logins[roles.PROVISIONER]),
            migrator_dsn=Secret(logins[roles.MIGRATOR]),
        )
        saved = Path(KEEP) / "progress.json"
        if KEEP and saved.exists():
            progress = Progress(**json.loads(saved.read_text()))
            connection = PostgresLogins(server).connection(progress.tenant)
        else:
            now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
            progress = Progress(tenant=roles.new_id(), until=now.isoformat())
            connection = asyncio.run(_made(server, progress.tenant))
        admin = psycopg.conninfo.make_conninfo(database.admin_dsn, dbname=roles.database(progress.tenant))
        place = Tenant(server=server, admin_dsn=admin, progress=progress, connection=connection)
        place.save()
        yield place


@contextmanager
def _stack() -> Iterator[Stack]:
    if not KEEP:
        with throwaway.stack() as stack:
            yield stack
        return
    stack = Stack(Path(KEEP) / "stack", durable=False)
    Path(KEEP).mkdir(parents=True, exist_ok=True)
    Path(KEEP).chmod(0o711)  # PostgreSQL's own user passes through
    try:
        yield stack
    finally:
        stack.stop("postgres")


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
    say(f"{total} notes in {seconds:.1f} s, the longest part {longest:.2f} s")
    figure("rollup_rate", total / seconds, f"changes/s of {total}, {runs} runs", None)
    figure("rollup_longest", 1000 * longest, f"ms, 1 transaction, {runs} runs", None)


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
            since, what = place.until - timedelta(days=days), f"{days} days of {runs} runs"
            for query in dashboards.queries():
                sql = query.filled(since=since, until=place.until, projects=projects)

                async def panel(sql: str = sql) -> None:
                    await (await reader.execute(sql)).fetchall()

                name = f"panel_{query.slug}_{days}d"
                found[name] = await timed(name, panel, what=what)
                if found[name] > LIMIT:
                    plan = await (await reader.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}")).fetchall()
                    say("\n".join([name, *(line for [line] in plan)]))
            for report, ask in _asked(gateway, since=since, until=place.until).items():
                name = f"rest_{report}_{days}d"
                found[name] = await timed(name, ask, what=what)
            slowest = max(found, key=lambda name: found[name])
            say(f"{what}: the slowest is {slowest}, {found[slowest]:.0f} ms")


def _asked(conn: psycopg.AsyncConnection, *, since: datetime, until: datetime) -> dict[str, Ask]:
    span = reports.Span(integration=fill.INTEGRATION, since=since.date(), until=until.date())
    wanted = pages.Wanted(integration=fill.INTEGRATION, since=since, until=until, limit=51)
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


async def measure(place: Tenant, *, size: int) -> None:
    """What is asked for of a history of `size` runs; what has too many already, or too few, is left out."""
    done = place.progress
    noted = min(NOTED, size // 10)
    if "fill" in PARTS and (done.runs < size - noted or done.indexes):
        with fill.quiet(place.admin_dsn):
            _fill(place, size=size - noted)
    if "recount" in PARTS and done.counted < done.runs and not done.indexes:
        with fill.quiet(place.admin_dsn):
            _recount(place)
        _vacuum(place)
    if "refresh" in PARTS and done.counted == done.runs <= size:
        await _refresh(place, size=size)
    if "queries" in PARTS and done.counted == done.runs == size:
        await queries(place, runs=size)


def _fill(place: Tenant, *, size: int) -> None:
    """Make the runs that are missing, and their jobs, then the indexes."""
    begun, done, dsn = time.perf_counter(), place.progress, place.admin_dsn
    fill.people_and_prices(dsn)
    if not done.indexes:
        done.indexes = [list(index) for index in fill.indexes(dsn)]
        place.save()
    fill.drop(dsn, [fill.Index(*index) for index in done.indexes])
    while done.runs < size:
        last = min(done.runs + STEP, size)
        fill.rows(dsn, first=done.runs + 1, last=last, until=done.until)
        done.runs = last
        place.save()
        _pause(f"{done.runs} runs and their jobs are there after {time.perf_counter() - begun:.1f} s")
    fill.vacuum(dsn, how="VACUUM")
    while done.indexes:
        fill.make(dsn, [fill.Index(*index) for index in done.indexes[: fill.WORKERS]])
        del done.indexes[: fill.WORKERS]
        place.save()
        _pause(f"{len(done.indexes)} indexes are missing after {time.perf_counter() - begun:.1f} s")
    fill.vacuum(dsn, how="ANALYZE")
    say(f"filled in {time.perf_counter() - begun:.1f} s")


def _recount(place: Tenant) -> None:
    """Bring the runs that are in no rollup there."""
    begun, done, dsn = time.perf_counter(), place.progress, place.admin_dsn
    if not done.told:
        recount.tell(dsn, first=done.counted + 1, last=done.runs)
    number = 0
    for part in recount.parts(dsn):
        for first in range(0, len(part), AT_ONCE):
            number += 1
            if number > done.told:
                fill.side_by_side(dsn, part[first : first + AT_ONCE])
                if number & (number - 1) == 0:  # with each doubling the planner is told of the rows
                    fill.side_by_side(dsn, ((f"ANALYZE pipewright.{table}", {}) for table in ROLLUPS))
                done.told = number
                place.save()
                _pause(f"{number} parts of the rollups after {time.perf_counter() - begun:.1f} s")
    say(f"counted {done.runs - done.counted} runs and their jobs in {time.perf_counter() - begun:.1f} s")
    done.counted, done.told = done.runs, 0
    place.save()


def _pause(text: str) -> None:
    """Say how far it is; end here when the time is over.

    Raises:
        SystemExit: the same call goes on, when KEEP names where the data is.
    """
    say(text)
    if WITHIN and time.perf_counter() - BEGUN > WITHIN:
        raise SystemExit("the time is over: call again to go on")


async def _refresh(place: Tenant, *, size: int) -> None:
    """The newest runs come, and the product's own refresh takes them."""
    done = place.progress
    first = done.runs + 1
    if first <= size:
        days = fill.DAYS * (size - done.runs) / size  # as dense as the others, among them
        fill.rows(place.admin_dsn, first=first, last=size, until=done.until, days=days)
        fill.note(place.admin_dsn, first=first, last=size)
        done.runs = size
        place.save()
    async with await psycopg.AsyncConnection.connect(place.dsn("ingest"), autocommit=True) as conn:
        await conn.execute("SET statement_timeout = 0")
        if first <= size:
            await refresh(conn, runs=size)
            done.counted = size
            place.save()
        await steady(conn, runs=size)
        with place.owner() as owner:
            await note(conn, owner)
    _vacuum(place)


def _vacuum(place: Tenant) -> None:
    """As autovacuum does within a minute."""
    with place.owner() as owner:
        [size] = owner.execute(SIZE).fetchone() or ("",)
        say(f"tables and indexes: {size}")
        for table in ("changes", *ROLLUPS):
            owner.execute(f"VACUUM (ANALYZE) pipewright.{table}")
            [count] = owner.execute(f"SELECT count(*) FROM pipewright.{table}").fetchone() or (0,)
            say(f"{table}: {count} rows")


def main() -> None:
    """Run on a server of its own and print the figures."""
    with tenant() as place:
        for size in SIZES:
            asyncio.run(measure(place, size=size))


if __name__ == "__main__":
    main()
