"""The SQL of the Grafana dashboards in charts/, with Grafana's macros and variables filled in.

For the tests, that run each query against a tenant's database, and for `make bench-query`, that times them.
Macros as Grafana's PostgreSQL data source documents them; `:sqlstring` is its format for quoted lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dev import places

FOLDER = places.ROOT / "charts" / "pipewright" / "files" / "dashboards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of a dashboard."""

    dashboard: str
    title: str
    """Of the panel; a variable's name with `$`."""
    sql: str

    @property
    def slug(self) -> str:
        """The title as one word."""
        return re.sub(r"[^a-z0-9]+", "_", self.title.lower()).strip("_")

    def filled(self, *, since: datetime, until: datetime, projects: Sequence[str]) -> str:
        """As Grafana would send it for this range and these projects."""
        chosen = ",".join("'" + name.replace("'", "''") + "'" for name in projects)
        filled = (
            self.sql.replace("$__timeFrom()", f"'{since.isoformat()}'")
            .replace("$__timeTo()", f"'{until.isoformat()}'")
            .replace("${project:sqlstring}", chosen)
        )
        if "$" in filled:
            raise ValueError(f"{self.dashboard}, {self.title}: a macro or variable that is not known here")
        return filled


def documents() -> dict[str, dict[str, Any]]:
    """The dashboards by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def queries() -> Iterator[Query]:
    """Every query of every dashboard: panels, then variables."""
    for name, document in documents().items():
        for panel in document["panels"]:
            for target in panel["targets"]:
                yield Query(dashboard=name, title=panel["title"], sql=target["rawSql"])
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                yield Query(dashboard=name, title=f"${variable['name']}", sql=variable["query"])
