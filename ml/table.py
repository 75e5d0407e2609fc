"""Reads a table of anybody's runs, CSV or Parquet, for the evaluation: columns as docs/model.md has them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ml.history import Run
from ml.replay import Attempt

T = TypeVar("T")

NEEDED = ("project", "started_at", "outcome")
TEXTS = ("project", "workflow", "branch", "job", "event", "actor", "commit", "parent_commit")
KNOWN = (*TEXTS, "started_at", "finished_at", "outcome", "attempt", "duration")
LAG = 1800.0
"""Seconds after which an outcome counts as known where nothing tells when the run finished."""
LATER = ("id", "number", "index", "finish", "end", "duration", "elapsed", "time", "conclusion", "status",
         "result", "outcome", "fail", "error", "pass", "success", "label", "retr", "rerun")  # fmt: skip
"""A number whose name has one of these at the start of a word names a run or is known only after it."""
_MILLISECONDS = 1e11


class TableRefused(ValueError):
    """The table cannot be evaluated; the message says where and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The runs in the order in which they started."""

    attempts: Sequence[Attempt]
    change: Sequence[str]
    """The columns that are taken as sizes of the change."""
    ignored: Sequence[str]
    """The columns that are not used."""


def read(path: Path, *, change: Sequence[str] | None = None) -> Table:
    """The table in this file; `change` names the numeric columns to use instead. Raises TableRefused."""
    table = _load(path)
    names = table.column_names
    if missing := [name for name in NEEDED if name not in names]:
        raise TableRefused(
            f"{path.name} has no column {', '.join(missing)}; it has {', '.join(names)}."
            f" Needed are {', '.join(NEEDED)} (docs/model.md)"
        )
    if table.num_rows == 0:
        raise TableRefused(f"{path.name} has no rows")
    others = [name for name in names if name not in KNOWN]
    sizes = _sizes(table, others, change=change)
    return Table(
        attempts=_attempts(table, sizes),
        change=sizes,
        ignored=[name for name in others if name not in sizes],
    )


def _load(path: Path) -> pa.Table:
    # Read as text what must not be guessed: a branch 007, a commit 5e10.
    text = dict.fromkeys((*TEXTS, "started_at", "finished_at", "outcome"), pa.string())
    try:
        if path.suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        return pacsv.read_csv(path, convert_options=pacsv.ConvertOptions(column_types=text))
    except (pa.ArrowException, OSError) as error:
        raise TableRefused(f"{path} cannot be read as {path.suffix or 'CSV'}: {error}") from None


def _sizes(table: pa.Table, others: Sequence[str], *, change: Sequence[str] | None) -> list[str]:
    numeric = [name for name in others if _is_number(table.schema.field(name).type)]
    if change is None:
        return [name for name in numeric if not _later(name)]
    if wrong := [name for name in change if name not in numeric]:
        raise TableRefused(
            f"{', '.join(wrong)}: no such numeric column; there are {', '.join(numeric) or 'none'}"
        )
    return list(change)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _later(name: str) -> bool:
    words = name.lower().replace("-", "_").split("_")
    return any(word.startswith(later) for word in words for later in LATER) or words[-1] == "at"


def _attempts(table: pa.Table, sizes: Sequence[str]) -> list[Attempt]:
    texts = {name: _texts(table, name) for name in TEXTS}
    started = [
        _must(value, "started_at", row) for row, value in enumerate(_numbers(table, "started_at", _moment))
    ]
    outcomes = [
        _must(value, "outcome", row) for row, value in enumerate(_numbers(table, "outcome", _outcome))
    ]
    finished = _numbers(table, "finished_at", _moment)
    duration = _numbers(table, "duration", float)
    number = _numbers(table, "attempt", float)
    change = {name: _numbers(table, name, float) for name in sizes}
    runs: dict[tuple[str, ...], str] = {}
    found = []
    for row in sorted(range(table.num_rows), key=lambda at: (started[at], at)):
        run = Run(
            integration="",
            project=texts["project"][row],
            # Without a workflow all runs of the project are one line of work.
            pipeline=texts["workflow"][row] or "runs",
            job=texts["job"][row],
            event=texts["event"][row],
            branch=texts["branch"][row],
            actor=texts["actor"][row],
            sha=texts["commit"][row],
            parent=texts["parent_commit"][row],
            run_id=str(row),
            attempt=max(1, int(number[row] or 1)),
            started_at=started[row],
            change={
                name: math.nan if (size := values[row]) is None else size for name, values in change.items()
            },
        )
        # A later attempt is one of the run of the same work on the same commit that came last.
        same = (run.project, run.work, run.branch, run.event, run.sha)
        if run.attempt > 1 and run.sha and same in runs:
            run = dataclasses.replace(run, run_id=runs[same])
        runs[same] = run.run_id
        ended = finished[row]
        if ended is None:
            took = duration[row]
            ended = run.started_at + (LAG if took is None else took)
        outcome = "failure" if outcomes[row] else "success"
        found.append(Attempt(run=run, outcome=outcome, finished_at=max(ended, run.started_at)))
    return found


def _texts(table: pa.Table, name: str) -> list[str]:
    if name not in table.column_names:
        return [""] * table.num_rows
    return [str(value or "") for value in pc.cast(table[name], pa.string()).to_pylist()]


def _numbers(table: pa.Table, name: str, read: Callable[[Any], float]) -> list[float | None]:
    """The column's values, None where it is absent or empty. Raises TableRefused."""
    if name not in table.column_names:
        return [None] * table.num_rows
    column = table[name]
    if pa.types.is_timestamp(column.type):
        whole = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
        return [None if value is None else value / 1e6 for value in whole.to_pylist()]
    found: list[float | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            number = None if value in (None, "") else read(value)
        except ValueError as error:
            raise TableRefused(f"row {row + 1}: {name} is {value!r}, {error}") from None
        found.append(None if number is None or math.isnan(number) else number)
    return found


def _moment(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError("which is neither ISO 8601 nor seconds since 1970") from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if abs(seconds) > _MILLISECONDS:
        raise ValueError("which would be after the year 5000: give seconds, not milliseconds")
    return seconds


def _outcome(value: Any) -> float:
    known = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError("it must be 0 (passed) or 1 (failed); leave out runs that ended otherwise") from None


def _must(value: T | None, name: str, row: int) -> T:
    if value is None:
        raise TableRefused(f"row {row + 1}: {name} is empty")
    return value
