"""A prediction over REST, and a history's import, each beside what bounds it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dev.stack import Stack
from pipewright import events
from pipewright.store import history, merge

COUNT, TIMES = 300, 5
MODEL = "run-failure"


@pytest.mark.timeout(200)
async def test_predictions_are_answered(
    site: Any,
    model_file: bytes,
    records: list[dict[str, Any]],
    loop_of_clients: Any,
    report: Any,
    figure: Any,
    meter: Any,
    stack: Stack,
) -> None:
    here = site("bench-rest")
    await here.bring(records)
    await here.serve(model_file)
    names = {
        "project": "project",
        "pipeline": "pipeline",
        "branch": "branch",
        "trigger": "trigger",
        "sha": "sha",
    }
    runs = [record for record in records if record["type"] == "run"][-COUNT:]
    asked = [
        here.rest(
            "POST",
            f"/models/{MODEL}/predictions",
            json.dumps({field: run[name] for field, name in names.items()}).encode(),
        )
        for run in runs
    ]
    health = [b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"] * COUNT
    for clients in (1, 8):
        loops, limits, costs = [], [], []
        for _ in range(TIMES):
            with meter.of(stack.folder, "gateway") as cost:
                loops.append(await loop_of_clients(here.port, asked, clients=clients))
            assert loops[-1].statuses == {200: COUNT}
            costs.append(cost)
            limits.append(await loop_of_clients(here.port, health, clients=clients))
            assert limits[-1].statuses == {200: COUNT}
        name = f"{clients} client{'s' if clients > 1 else ''}"
        cpu = 1000 * sum(cost.cpu for cost in costs) / COUNT / TIMES
        report.add(
            f"Prediction over REST: {COUNT} in each repetition, closed loop",
            figure(
                what=f"{name}: answered",
                unit="per second",
                values=[it.rate for it in loops],
                limit=[it.rate for it in limits],
                limit_is="GET /healthz",
                notes=f"gateway CPU {cpu:.2f} ms a prediction, RSS {max(it.rss for it in costs):.0f} MiB",
            ),
            *(
                figure(
                    what=f"{name}: p{100 * share:.0f}",
                    unit="ms",
                    values=[it.at(share) for it in loops],
                    limit=[it.at(share) for it in limits],
                    limit_is="GET /healthz",
                )
                for share in (0.5, 0.99)
            ),
        )


@pytest.mark.timeout(200)
async def test_a_history_is_imported(
    site: Any,
    histories: Any,
    report: Any,
    figure: Any,
    meter: Any,
    stack: Stack,
) -> None:
    here = site("bench-import")
    ours, raw, costs, count = [], [], [], 0
    for _ in range(TIMES):
        some = next(histories)
        before = here.count("runs") + here.count("jobs")
        with meter.of(stack.folder, "gateway") as cost:
            answers = await here.bring(some)
        ours.append(len(some) / answers.seconds)
        costs.append(cost.cpu / len(some))
        count = len(some)
        assert here.count("runs") + here.count("jobs") == before + len(some)
        raw.append(len(some) / _copy(here, some, meter))
    report.add(
        f"Import of a history: about {count:,} rows in a request, each repetition with new rows",
        figure(
            what="runs and jobs",
            unit="rows per second",
            values=ours,
            limit=raw,
            limit_is="COPY of the same rows",
            notes=f"gateway RSS {cost.rss:.0f} MiB",
        ),
        figure(what="gateway CPU of a row", unit="µs", values=[1e6 * it for it in costs]),
    )


def _copy(here: Any, some: list[dict[str, Any]], meter: Any) -> float:
    """Seconds in which psycopg copies the same rows, prepared beforehand, into tables without an index."""
    now, uid = datetime.now(UTC), "0a0a0a0a-0000-4000-8000-000000000001"
    rows: dict[str, list[list[Any]]] = {"runs": [], "jobs": []}
    for record in map(events.parse_record, some):
        if isinstance(record, events.RunRecord):
            row = history.run_row(record, integration=uid, seen_at=now, actors={})
            rows["runs"].append([row[name] for name in merge.RUN_COLUMNS])
        else:
            row = history.job_row(record, integration=uid, seen_at=now)
            rows["jobs"].append([row[name] for name in merge.JOB_COLUMNS])
    with here.connect() as conn:
        conn.execute("CREATE SCHEMA IF NOT EXISTS bench")
        for table, columns in (("runs", merge.RUN_COLUMNS), ("jobs", merge.JOB_COLUMNS)):
            shape = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            conn.execute(f"CREATE TABLE IF NOT EXISTS bench.{table} ({shape})")
        with meter.of() as cost, conn.transaction(), conn.cursor() as cursor:
            for table, prepared in rows.items():
                with cursor.copy(f"COPY bench.{table} FROM STDIN") as copy:
                    for values in prepared:
                        copy.write_row(values)
    return float(cost.seconds)
