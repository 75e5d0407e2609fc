"""`make bench-query` counts a filled history as the product does from a note for each run and job."""

from __future__ import annotations

import psycopg

from dev import parts
from pipewright.store import roles, rollups
from tests.bench.query import fill, recount
from tests.bench.query.__main__ import ROLLUPS
from tests.contract.conftest import Place

UNTIL = "2026-03-02T00:00:00+00:00"


def counted(conn: psycopg.Connection) -> dict[str, list[str]]:
    return {
        table: [row for [row] in conn.execute(f"SELECT t::text FROM pipewright.{table} t ORDER BY 1")]
        for table in ROLLUPS
    }


async def test_the_rollups_are_those_of_the_products_refresh(
    fresh_place: Place, postgres_server: parts.Database
) -> None:
    admin = psycopg.conninfo.make_conninfo(postgres_server.admin_dsn, dbname=roles.database(fresh_place.id))
    fill.people_and_prices(admin)
    for first, last, days in ((1, 600, 40.0), (601, 800, 40.0), (801, 900, 3.0)):
        gone = fill.indexes(admin)
        fill.drop(admin, gone)
        fill.rows(admin, first=first, last=last, until=UNTIL, days=days)
        fill.vacuum(admin, how="VACUUM")
        fill.make(admin, gone)
        assert {index.name: index for index in fill.indexes(admin)} == {index.name: index for index in gone}
        recount.tell(admin, first=first, last=last)
        for part in recount.parts(admin):
            fill.side_by_side(admin, part)
    with psycopg.connect(admin, autocommit=True) as conn:
        ours = counted(conn)
        conn.execute(f"TRUNCATE {', '.join(f'pipewright.{table}' for table in ROLLUPS)}")
        fill.note(admin, first=1, last=900)
        assert conn.execute("SELECT count(*) FROM pipewright.changes").fetchone() == (3 * 900,)
        async with fresh_place.connect("ingest") as gateway:
            while await rollups.refresh(gateway):
                pass
        theirs = counted(conn)
    assert ours == theirs
    assert all(ours.values())
