"""What a Tenant costs in writes, counted by the servers: so that both sides are seen to do the same.

The API server and Vault have audit logs; PostgreSQL counts the rows that were inserted, updated and deleted,
those of its catalogs included. Reads are the provisioner's own affair: its metrics count them.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.tenants.servers import PROVISIONER, Servers

_LOOKS = re.compile(r'^pipewright_reconcile_total{.*result="(\w+)"} (\S+)$', re.MULTILINE)
_CALLS = re.compile(
    r'^pipewright_port_call_seconds_(count|sum){.*method="(\w+)",port="(\w+)".*} (\S+)$', re.MULTILINE
)

FLUSH_SECONDS = 12.0
"""An idle session of PostgreSQL tells its counters after ten."""

_ROWS = "SELECT sum(tup_inserted + tup_updated + tup_deleted) FROM pg_stat_database"
_WRITES = ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Writes so far; two of them make the writes between."""

    api: Counter[str]
    """Verb and resource → how many."""
    vault: Counter[str]
    """Operation and the path's first words → how many."""
    rows: int

    def since(self, before: Counts) -> Counts:
        """What was written between the two."""
        return Counts(
            api=self.api - before.api, vault=self.vault - before.vault, rows=self.rows - before.rows
        )

    def each(self, count: int) -> str:
        """For one tenant, in words."""
        parts = (self.api.total() / count, self.rows / count, self.vault.total() / count)
        return "{:.1f} API requests, {:.0f} rows of PostgreSQL, {:.1f} Vault requests".format(*parts)


async def count(servers: Servers) -> Counts:
    """As the servers have it now."""
    async with await psycopg.AsyncConnection.connect(servers.admin_dsn, autocommit=True) as conn:
        row = await (await conn.execute(_ROWS)).fetchone()
    assert row is not None
    return Counts(
        api=Counter(_api(entry) for entry in _lines(servers.audit) if _is_a_sides(entry)),
        vault=Counter(_vault(entry) for entry in _lines(servers.vault_audit) if _is_a_secret(entry)),
        rows=int(row[0]),
    )


def looks(metrics: str) -> Counter[str]:
    """The provisioner's looks by how they ended, and its calls by port and method, as its metrics say."""
    found = Counter({f"look: {result}": int(float(value)) for result, value in _LOOKS.findall(metrics)})
    for what, method, port, value in _CALLS.findall(metrics):
        if what == "count":
            found[f"{port}.{method}"] += int(float(value))
    return found


def seconds(metrics: str) -> dict[str, float]:
    """How long its calls took in all, by port and method; many wait at the same time."""
    found = defaultdict[str, float](float)
    for what, method, port, value in _CALLS.findall(metrics):
        if what == "sum":
            found[f"{port}.{method}"] += float(value)
    return found


def _lines(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _is_a_sides(entry: Any) -> bool:
    user, groups = entry["user"]["username"], entry["user"].get("groups", ())
    ours = user == PROVISIONER or "system:masters" in groups
    return ours and entry.get("objectRef", {}).get("resource") != "leases"


def _api(entry: Any) -> str:
    target = entry.get("objectRef", {})
    return " ".join(filter(None, (entry["verb"], target.get("resource"), target.get("subresource"))))


def _is_a_secret(entry: Any) -> bool:
    request = entry["request"]
    writes = entry["type"] == "response" and request["operation"] in _WRITES
    return writes and not request["path"].endswith("/login")


def _vault(entry: Any) -> str:
    request = entry["request"]
    words = [word for word in request["path"].split("/") if len(word) != 12]
    return f"{request['operation']} {'/'.join(words[:3])}"
