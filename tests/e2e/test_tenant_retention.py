"""Retention on the real servers: what is old goes once a day, and trouble leaves the tenant Ready."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from dev import web
from dev.stack import Stack
from tests.e2e.conftest import condition_of

COUNT = itertools.count()
KEEP = {"events": "7d", "runs": "30d", "audit": "30d"}


class Kept:
    """A tenant whose history a test fills as time would."""

    def __init__(self, tenants: Any, stack: Stack) -> None:
        self.tenants, self._stack = tenants, stack
        made = tenants.ready(retention=KEEP)
        self.name, self.id = made["metadata"]["name"], made["status"]["id"]

    def admin(self, database: str | None = None) -> psycopg.Connection[Any]:
        """A superuser's session in the tenant's database, or another."""
        dsn = self._stack.parts.database().admin_dsn
        return psycopg.connect(dsn, dbname=database or f"pw_{self.id}", autocommit=True)

    def ages(self, days: int) -> None:
        """A raw event, a run and a line of the audit trail that are so old."""
        at = datetime.now(UTC) - timedelta(days=days)
        with self.admin() as conn:
            conn.execute("SELECT pipewright.ensure_events_partition(%s)", [at.date()])
            conn.execute(
                "INSERT INTO pipewright.events (integration, delivery_id, received_at, event_name, body)"
                " VALUES (%s, 'd', %s, 'e', '')",
                [uuid4(), at],
            )
            conn.execute(
                "INSERT INTO pipewright.runs (integration, provider_id, attempt, project, pipeline, phase,"
                " finished_at, seen_at) VALUES (%s, 'x', 1, 'p', 'p', 'finished', %s, %s)",
                [uuid4(), at, at],
            )
        with self.admin("pipewright") as conn:
            conn.execute(
                "INSERT INTO pipewright.audit (tenant_id, at, action, phase) VALUES (%s, %s, 'Old', 'done')",
                [self.id, at],
            )

    def left(self) -> tuple[int, int, int]:
        """Rows of events, runs and old audit lines."""
        with self.admin() as own, self.admin("pipewright") as platform:
            found = (
                own.execute("SELECT count(*) FROM pipewright.events").fetchone(),
                own.execute("SELECT count(*) FROM pipewright.runs").fetchone(),
                platform.execute(
                    "SELECT count(*) FROM pipewright.audit WHERE tenant_id = %s AND action = 'Old'", [self.id]
                ).fetchone(),
            )
        events, runs, audit = (row[0] if row else -1 for row in found)
        return events, runs, audit

    def a_day_passes(self) -> None:
        """As the platform database sees it; then somebody looks."""
        with self.admin("pipewright") as conn:
            conn.execute(
                "UPDATE pipewright.registry SET created_at = created_at - interval '1 day' WHERE id = %s",
                [self.id],
            )
            conn.execute(
                "UPDATE pipewright.upkeep SET swept_at = swept_at - interval '1 day' WHERE tenant_id = %s",
                [self.id],
            )
        text = f"pipewright.dev/check-requested-at=day-{next(COUNT)}"
        self.tenants.kubectl.run("annotate", "tenant", self.name, "--overwrite", text)

    def events(self) -> str:
        """Kubernetes Events about the Tenant."""
        chosen = f"--field-selector=involvedObject.name={self.name}"
        return json.dumps(self.tenants.kubectl.get("events", "-A", chosen))

    def deleted(self, table: str) -> float:
        """The metric of what went."""
        answer = web.ask(f"http://127.0.0.1:{self._stack.layout.ports['provisioner']}/metrics")
        assert answer is not None
        sign = f'pipewright_tenant_expired_total{{table="{table}"}} '
        lines = [line for line in answer.body.decode().splitlines() if line.startswith(sign)]
        return float(lines[0].removeprefix(sign)) if lines else 0.0


def test_what_is_older_than_the_spec_keeps_goes_once_a_day(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    kept = Kept(tenants, stack)
    for days in (3, 20, 60):
        kept.ages(days)
    assert kept.left() == (3, 3, 3)
    kept.a_day_passes()
    eventually(lambda: kept.left() == (1, 2, 2), says="events of 7 days, runs and audit of 30 are left")
    for table in ("events", "runs", "audit"):
        eventually(lambda table=table: kept.deleted(table) >= 1, says=f"the metric tells of {table}")
    with kept.admin("pipewright") as conn:
        told = conn.execute(
            "SELECT detail FROM pipewright.audit WHERE tenant_id = %s AND action = 'ExpireHistory'", [kept.id]
        ).fetchall()
    assert told == [("audit 1, events 2, runs 1",)]
    assert condition_of(tenants.get(kept.name), "Ready")["status"] == "True"  # type: ignore[index]


def test_a_day_that_somebody_reads_is_told_and_goes_when_it_is_free(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    kept = Kept(tenants, stack)
    kept.ages(20)
    with kept.admin() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM pipewright.events")
        kept.a_day_passes()
        eventually(lambda: "delete history" in kept.events(), says="an Event tells of it")
        for aspect in ("Ready", "DatabaseReady"):
            assert condition_of(tenants.get(kept.name), aspect)["status"] == "True"  # type: ignore[index]
        assert kept.left()[0] == 1
    eventually(lambda: kept.left()[0] == 0, within=60, says="the day goes")
