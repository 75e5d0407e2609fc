"""Signed deliveries into the gateway, beside inserts of one row by pgbench and beside refusals (401).

A stored delivery is one transaction with the raw body, people, runs or jobs, lines of work and, with a model,
the prediction; the limit is one row of the same size. The loop is closed: each client waits for its answer.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from dev.stack import Stack

COUNT, TIMES = 300, 5
TABLE = f"Ingest: {COUNT} signed deliveries in each repetition, closed loop"


@pytest.fixture(scope="module")
async def sites(site: Any, model_file: bytes) -> dict[str, Any]:
    """A tenant without and one with a model."""
    made = {"no model": site("bench-plain"), "scored": site("bench-scored")}
    await made["scored"].serve(model_file)
    return made


CASES = [
    ("off", "no model", 1),
    ("off", "no model", 8),
    ("off", "no model", 32),
    ("off", "scored", 8),
    ("on", "no model", 1),
    ("on", "no model", 8),
    ("on", "scored", 8),
]
"""fsync of PostgreSQL (tests have it off, production on), whether each run is scored, clients."""


@pytest.fixture
def fsync(request: pytest.FixtureRequest, stack: Stack) -> Iterator[str]:
    """PostgreSQL's fsync, and off again afterwards."""
    admin = stack.parts.database().admin_dsn
    _set(admin, request.param)
    yield request.param
    _set(admin, "off")


def _set(admin: str, value: str) -> None:
    with psycopg.connect(admin, autocommit=True) as conn:
        for name in ("fsync", "full_page_writes"):
            conn.execute(f"ALTER SYSTEM SET {name} = {value}")  # type: ignore[arg-type]
        conn.execute("SELECT pg_reload_conf()")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fsync", "model", "clients"), CASES, indirect=["fsync"])
async def test_signed_deliveries_are_stored(
    fsync: str,
    model: str,
    clients: int,
    sites: Any,
    deliveries: Any,
    loop_of_clients: Any,
    report: Any,
    figure: Any,
    meter: Any,
    stack: Stack,
    tmp_path: Path,
) -> None:
    here = sites[model]
    loops, costs, raw, refusals = [], [], [], []
    with here.connect() as conn:
        conn.execute("CREATE SCHEMA IF NOT EXISTS bench")
        conn.execute(
            "CREATE TABLE IF NOT EXISTS bench.raw"
            " (id uuid PRIMARY KEY, at timestamptz, body bytea STORAGE EXTERNAL)"
        )
    for _ in range(TIMES):
        some = list(itertools.islice(deliveries, COUNT))
        before = here.count("deliveries")
        messages = [here.delivery(event, body) for event, body in some]
        with meter.of(stack.folder, "gateway") as cost:
            loops.append(await loop_of_clients(here.port, messages, clients=clients))
        costs.append(cost)
        assert loops[-1].statuses == {202: COUNT}
        assert here.count("deliveries") == before + COUNT
        unsigned = [here.delivery(event, body, signed=False) for event, body in some]
        refusals.append(await loop_of_clients(here.port, unsigned, clients=clients))
        assert refusals[-1].statuses == {401: COUNT}
        raw.append(pgbench(stack, here, clients=clients, folder=tmp_path))
    name = f"{clients} client{'s' if clients > 1 else ''}, {model}, fsync {fsync}"
    generator = sum(cost.generator for cost in costs) / sum(cost.seconds for cost in costs)
    notes = (
        f"gateway CPU {1000 * sum(it.cpu for it in costs) / COUNT / TIMES:.2f} ms a delivery,"
        f" RSS {max(it.rss for it in costs):.0f} MiB, generator {100 * generator:.0f} % of a core"
    )
    report.add(
        TABLE,
        figure(
            what=f"{name}: stored",
            unit="per second",
            values=[it.rate for it in loops],
            limit=raw,
            limit_is="one-row transactions, pgbench",
            notes=notes,
        ),
        figure(
            what=f"{name}: p50",
            unit="ms",
            values=[it.at(0.5) for it in loops],
            limit=[it.at(0.5) for it in refusals],
            limit_is="401",
        ),
        figure(
            what=f"{name}: p99",
            unit="ms",
            values=[it.at(0.99) for it in loops],
            limit=[it.at(0.99) for it in refusals],
            limit_is="401",
        ),
    )


def pgbench(stack: Stack, here: Any, *, clients: int, folder: Path) -> float:
    """One-row inserts per second in the tenant's own database, each as long as the average stored body."""
    with here.connect() as conn:
        (size,) = conn.execute("SELECT avg(octet_length(body))::integer FROM pipewright.events").fetchone()
    database = stack.parts.database()
    layout = stack.layout
    server = Postgres(folder=stack.folder, home=Path(layout.postgres_home), port=layout.ports["postgres"])
    script = folder / "insert.sql"
    script.write_text(
        f"INSERT INTO bench.raw VALUES (gen_random_uuid(), now(), decode(repeat('5a', {size}), 'hex'));\n"
    )
    parts = psycopg.conninfo.conninfo_to_dict(database.admin_dsn)
    done = subprocess.run(
        [
            *(str(server.bin / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
            *(f"--client={clients}", f"--transactions={max(100, 3000 // clients)}"),
            *(f"--host={database.host}", f"--port={database.port}", f"--username={parts['user']}"),
            f"pw_{here.tenant_id}",
        ],
        env={**server.environment, "PGPASSWORD": str(parts["password"])},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("tps = ")]
    assert found, done.stderr
    return float(found[0].split()[2])
