"""Dataclasses of `records` as rows: the column lists and parameters that every query would repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import orjson
from psycopg.types.json import Jsonb

_UIDS = frozenset({"integration"})
"""Further fields that are UIDs in some tables, and text in the others, which the cast leaves alone."""


def columns(kind: type) -> str:
    """The fields as a select list. UIDs are of type uuid in the tables and text in our values."""
    names = [field.name for field in dataclasses.fields(kind)]
    return ", ".join(f"{name}::text" if name.endswith("_uid") or name in _UIDS else name for name in names)


def insert(table: str, kind: type, *, without: Collection[str] = ()) -> str:
    """INSERT INTO … VALUES … of one value, its parameters named as its fields."""
    names = [field.name for field in dataclasses.fields(kind) if field.name not in without]
    marks = ", ".join(f"%({name})s" for name in names)
    return f"INSERT INTO pipewright.{table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names are ours


def packed(value: Any) -> Jsonb:
    """A parameter of type jsonb, for what many rows are: texts, numbers, times, lists and mappings."""
    return Jsonb(value, dumps=orjson.dumps)


def values(row: Any) -> dict[str, Any]:
    """The fields as parameters: mappings as jsonb, tuples as arrays."""
    return {field.name: _parameter(getattr(row, field.name)) for field in dataclasses.fields(row)}


def _parameter(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Jsonb(dict(value))
    return list(value) if isinstance(value, tuple) else value
