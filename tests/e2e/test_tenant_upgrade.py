"""An upgrade of the schema that stops on the real servers: told in conditions and a metric, and mended."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from dev import web
from dev.stack import Stack
from tests import older
from tests.e2e.conftest import condition_of


class Upgrades:
    """What is done to tenants' schemas, and what is told of it."""

    def __init__(self, tenants: Any, stack: Stack) -> None:
        self._tenants, self._stack = tenants, stack

    def admin(self, tenant: dict[str, Any]) -> psycopg.Connection[Any]:
        dsn = self._stack.parts.database().admin_dsn
        return psycopg.connect(dsn, dbname=tenant["status"]["database"]["name"], autocommit=True)

    def set_back(self, tenant: dict[str, Any]) -> None:
        """The schema of an older release, and one view that is in the way of an upgrade."""
        with self.admin(tenant) as conn:
            conn.execute("SET ROLE pipewright_owner")
            older.set_back(conn, "t0003")
            conn.execute("CREATE VIEW history.run_steps AS SELECT 1 AS in_the_way")

    def annotate(self, tenant: dict[str, Any], word: str, value: str) -> None:
        name = tenant["metadata"]["name"]
        text = f"pipewright.dev/{word}-requested-at={value}"
        self._tenants.kubectl.run("annotate", "tenant", name, "--overwrite", text)

    def look(self, tenant: dict[str, Any]) -> None:
        self.annotate(tenant, "check", uuid.uuid4().hex)

    def reason(self, tenant: dict[str, Any]) -> str:
        found = condition_of(self._tenants.get(tenant["metadata"]["name"]), "DatabaseReady")
        return str(found["reason"]) if found else ""

    def state(self) -> list[str]:
        """The state that the provisioner's metrics tell of the server."""
        answer = web.ask(f"http://127.0.0.1:{self._stack.layout.ports['provisioner']}/metrics")
        assert answer is not None
        lines = [it for it in answer.body.decode().splitlines() if it.startswith("pipewright_schema_rollout")]
        assert {line.partition(",")[0] for line in lines} == {'pipewright_schema_rollout{server="main"'}
        return [line.split('"')[3] for line in lines if line.endswith(" 1.0")]


def test_an_upgrade_that_stops_is_alerted_on_and_goes_on_when_it_is_mended(
    tenants: Any, stack: Stack, eventually: Any
) -> None:
    upgrades = Upgrades(tenants, stack)
    first, second = tenants.ready(), tenants.ready()
    upgrades.set_back(first)
    upgrades.look(first)
    eventually(lambda: upgrades.reason(first) == "UpgradeFailed", says="the first one says that it failed")
    assert upgrades.state() == ["Failed"]
    upgrades.set_back(second)
    upgrades.look(second)
    eventually(lambda: upgrades.reason(second) == "UpgradeStopped", says="the second one says who did")
    told = condition_of(tenants.get(second["metadata"]["name"]), "DatabaseReady")
    assert told
    assert first["metadata"]["name"] in told["message"]

    for tenant in (first, second):
        with upgrades.admin(tenant) as conn:
            conn.execute("DROP VIEW history.run_steps")
    upgrades.annotate(first, "retry-upgrade", (datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    tenants.wait_ready(first["metadata"]["name"])
    upgrades.look(second)
    tenants.wait_ready(second["metadata"]["name"])
    eventually(lambda: upgrades.reason(second) == "DatabaseReady", says="the second one follows")
    assert upgrades.state() == ["Rolling"]
