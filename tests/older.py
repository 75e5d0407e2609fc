"""A tenant's schema as an older release left it: for tests of upgrades, whatever the newest revision is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pipewright import store
from pipewright.store import schema

_VERSIONS = Path(next(iter(store.__path__))) / "tenant" / "versions"
_OBJECTS = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('pipewright', 'history') AND c.relkind IN ('v', 'r', 'p')
    AND c.relname <> 'schema_version'
UNION ALL
SELECT 'FUNCTION', p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pipewright'
"""


def set_back(conn: psycopg.Connection[Any], revision: str) -> None:
    """Empty the schema and build it up to this revision; `conn` acts as the owner."""
    drops = conn.execute(_OBJECTS).fetchall()
    # views first: with CASCADE everything else may be gone already
    for kind, name in sorted(drops, key=lambda each: ("VIEW", "TABLE", "FUNCTION").index(each[0])):
        conn.execute(sql.SQL(f"DROP {kind} IF EXISTS {name} CASCADE"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "run", conn.execute)
        for path in sorted(_VERSIONS.glob("t[0-9]*.py")):
            _upgrade(path)
            if path.name.partition("_")[0] == revision:
                break
    conn.execute("UPDATE pipewright.schema_version SET version_num = %s", [revision])


def _upgrade(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.upgrade()
