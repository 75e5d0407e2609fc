"""The data window: a tenant's attempts of runs as one Parquet file; the operator writes, training reads."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ml import contract

LABELS: Mapping[str, bool] = {"failure": True, "success": False}
"""Outcome → failed. Cancelled, skipped and broken-by-the-provider attempts are no labels: they say nothing
about the code, and a user who cancels or an outage of the CI system must not teach the model."""

ARROW: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
}


class WindowRefused(ValueError):
    """The data window is not what the job says or cannot be read; the message says what to do."""


def schema() -> pa.Schema:
    """The window's Arrow schema."""
    return pa.schema([(name, ARROW[kind]) for name, kind in contract.WINDOW_COLUMNS.items()])


def write(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The window as Parquet (zstd); the same rows give the same bytes with the same pyarrow."""
    return write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema()))


def write_table(table: pa.Table) -> bytes:
    """The table, ordered by start, as Parquet."""
    ordered = table.select(list(contract.WINDOW_COLUMNS)).sort_by(
        [("started_at", "ascending"), ("run_id", "ascending"), ("attempt", "ascending")]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(ordered, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def read(content: bytes, *, sha256: str) -> pa.Table:
    """The window's table after its digest was checked. Raises WindowRefused."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WindowRefused(
            f"the data window's digest is {found[:12]}…, the job expects {sha256[:12]}…:"
            " the file was changed or cut short; export it again"
        )
    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise WindowRefused(f"the data window is not a Parquet file: {error}") from None
    missing = [name for name in contract.WINDOW_COLUMNS if name not in table.column_names]
    if missing:
        raise WindowRefused(f"the data window lacks the columns {', '.join(missing)}; export it again")
    try:
        return table.select(list(contract.WINDOW_COLUMNS)).cast(schema())
    except pa.ArrowException as error:
        raise WindowRefused(f"the data window has a column of another type: {error}") from None
