"""Replays a data window in time order: what was known when each attempt was judged, as the gateway saw it.

Attempts become visible when they finish: a heap by time of finish holds those under way, and before a row is
computed all that finished by its moment (`Run.judged_at`) are inserted into their lines. The features are
those of the gateway, literally: `features.features` over lines kept by `history.insert`.
"""

import array
import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import features, history, window
from ml.arrays import Flags, Floats
from ml.history import Outcome, Run


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A row of the window: the attempt as it started, and how and when it ended."""

    run: Run
    outcome: str
    finished_at: float | None

    @property
    def failed(self) -> bool | None:
        """Whether it failed; None if it is no label or has not finished."""
        return window.LABELS.get(self.outcome) if self.finished_at is not None else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The labelled attempts as they were judged, one after another. Times are seconds since the epoch."""

    x: Floats
    failed: Flags
    judged_at: Floats
    started_at: Floats
    finished_at: Floats
    red_before: Flags
    """Whether the newest known outcome of the same line of work (branch, else pipeline) was a failure."""
    has_history: Flags
    """Whether anything was known of the pipeline."""
    projects: Sequence[str]

    def __len__(self) -> int:
        return len(self.failed)

    def take(self, chosen: Flags) -> "Dataset":
        """The chosen rows."""
        return Dataset(
            x=self.x[chosen],
            failed=self.failed[chosen],
            judged_at=self.judged_at[chosen],
            started_at=self.started_at[chosen],
            finished_at=self.finished_at[chosen],
            red_before=self.red_before[chosen],
            has_history=self.has_history[chosen],
            projects=[self.projects[int(index)] for index in np.flatnonzero(chosen)],
        )


def attempts(table: pa.Table) -> list[Attempt]:
    """The window's rows in the order in which they were judged."""
    columns = [
        "integration", "project", "pipeline", "event", "branch", "actor", "sha", "run_id", "attempt",
        "started_at", "queued_at", "outcome", "finished_at",
    ]  # fmt: skip
    usable = table.filter(pc.is_valid(table["started_at"]))
    data = [_values(usable[name]) for name in columns]
    found = [_attempt(*row) for row in zip(*data, strict=True)]
    return sorted(found, key=lambda a: (a.run.judged_at, a.run.integration, a.run.run_id, a.run.attempt))


def replay(rows: Iterable[Attempt]) -> Iterator[tuple[Attempt, dict[str, Sequence[Outcome]]]]:
    """Each attempt, of some that come in the order of `attempts`, with its lines as they were known then."""
    # The scope is part of the key here: two scopes may use the same names.
    lines: dict[tuple[str, ...], tuple[Outcome, ...]] = {}
    under_way: list[tuple[float, int, Outcome, list[tuple[str, ...]]]] = []
    for number, row in enumerate(rows):
        while under_way and under_way[0][0] <= row.run.judged_at:
            _, _, outcome, keys = heapq.heappop(under_way)
            for key in keys:
                lines[key] = history.insert(lines.get(key, ()), outcome)
        keys_of_run = {scope: (scope, *names) for scope, names in history.names(row.run).items()}
        seen: dict[str, Sequence[Outcome]] = {scope: lines.get(key, ()) for scope, key in keys_of_run.items()}
        if row.run.parent:
            seen["parent"] = lines.get(("commit", row.run.integration, row.run.project, row.run.parent), ())
        yield row, seen
        if row.failed is not None and row.finished_at is not None:
            outcome = outcome_of(row.run, failed=row.failed, finished_at=row.finished_at)
            heapq.heappush(under_way, (row.finished_at, number, outcome, list(keys_of_run.values())))


def outcome_of(run: Run, *, failed: bool, finished_at: float) -> Outcome:
    """What is remembered of the attempt once it finished."""
    return Outcome(
        run=run.run_id,
        attempt=run.attempt,
        sha=run.sha,
        started_at=run.started_at,
        finished_at=finished_at,
        failed=failed,
        project=run.project,
        pipeline=run.work,
    )


def dataset(table: pa.Table) -> Dataset:
    """The labelled attempts of the window with their features."""
    return judged(attempts(table))


def judged(rows: Iterable[Attempt], *, change: Sequence[str] = ()) -> Dataset:
    """The labelled ones among these attempts with their features; `change` names sizes to add to these."""
    labelled: list[Attempt] = []
    x = array.array("d")
    red: list[bool] = []
    known: list[bool] = []
    for row, lines in replay(rows):
        if row.failed is None:
            continue
        labelled.append(row)
        x.extend(features.features(row.run, lines, change=change))
        line = lines.get("branch") or lines.get("pipeline") or ()
        red.append(bool(line) and line[-1].failed)
        known.append(bool(lines.get("pipeline")))
    return Dataset(
        x=np.frombuffer(x, dtype=np.float64).reshape(len(labelled), len(features.NAMES) + len(change)),
        failed=np.array([row.failed for row in labelled], dtype=np.bool_),
        judged_at=np.array([row.run.judged_at for row in labelled], dtype=np.float64),
        started_at=np.array([row.run.started_at for row in labelled], dtype=np.float64),
        finished_at=np.array([row.finished_at for row in labelled], dtype=np.float64),
        red_before=np.array(red, dtype=np.bool_),
        has_history=np.array(known, dtype=np.bool_),
        projects=[row.run.project for row in labelled],
    )


def rfc3339(seconds: float) -> str:
    """The time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _values(column: "pa.ChunkedArray[Any]") -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    return [None if us is None else us / 1e6 for us in column.cast(pa.int64()).to_pylist()]


def _attempt(*row: Any) -> Attempt:
    (
        integration, project, pipeline, event, branch, actor, sha, run_id, attempt, started, queued, outcome,
        finished,
    ) = row  # fmt: skip
    run = Run(
        integration=integration or "", project=project or "", pipeline=pipeline or "", event=event or "",
        branch=branch or "", actor=actor or "", sha=sha or "", run_id=run_id, attempt=attempt or 1,
        started_at=started, queued_at=queued,
    )  # fmt: skip
    return Attempt(run=run, outcome=outcome or "", finished_at=finished)
