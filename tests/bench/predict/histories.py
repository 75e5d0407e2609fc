"""Public GitHub Actions histories as a table for the evaluation (not part of the project)."""

import csv
import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE = Path(__file__).parents[4] / "shared" / "data" / "gha-runs" / "gha_mit.csv.gz"
COLUMNS: Mapping[str, str] = {
    "project": "project",
    "workflow": "key",
    "branch": "c_branch",
    "event": "c_event",
    "actor": "c_actor",
    "commit": "c_sha",
    "started_at": "started_at",
    "finished_at": "finished_at",
    "outcome": "failed",
}
"""The evaluation's columns, and what the file calls them."""


def rows() -> Iterator[dict[str, str]]:
    """The runs, oldest first."""
    with gzip.open(FILE, "rt") as text:
        found = [{name: row[theirs] for name, theirs in COLUMNS.items()} for row in csv.DictReader(text)]
    yield from sorted(found, key=lambda row: row["started_at"])


def write(path: Path) -> None:
    """The table as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows())
