"""Export of history to Parquet by the tenant's own login: whole days, written again, people as surrogates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from pipewright.records import JobRecord, RunRecord
from pipewright.store import export, history
from tests.contract.buckets import BUCKET, REGION, Buckets
from tests.contract.conftest import Place

INTEGRATION = "00000000-0000-0000-0000-000000000001"
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
FIRST, SECOND, THIRD = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)


async def tell(place: Place, *ids: str, at: datetime) -> None:
    """Finished runs, each with a job."""
    began = at - timedelta(minutes=5)
    runs = [
        RunRecord(
            project="acme/shop", pipeline="ci", id=name, attempt=1, branch="main", sha="a", actor="octocat",
            phase="finished", outcome="failure", started_at=began, finished_at=at,
        )
        for name in ids
    ]  # fmt: skip
    jobs = [
        JobRecord(
            project="acme/shop", run=name, attempt=1, id=name, name="unit", phase="finished",
            outcome="failure", labels=("x64", "linux"), started_at=began, finished_at=at,
        )
        for name in ids
    ]  # fmt: skip
    async with place.connect("ingest") as conn, conn.transaction():
        known = await history.surrogates(conn, provider="github", logins=["octocat"])
        await history.upsert_runs(conn, runs, integration=INTEGRATION, seen_at=at, actors=known)
        await history.upsert_jobs(conn, jobs, integration=INTEGRATION, seen_at=at)


def run(place: Place, folder: Path, *, since: date, until: date) -> int:
    dsn = folder / "uri"
    dsn.write_text(place.dsn("readonly").reveal() + "\n")
    return export.main(
        [
            "--dsn-file",
            str(dsn),
            "--url",
            (folder / "out").as_uri(),
            "--since",
            str(since),
            "--until",
            str(until),
        ]
    )


def rows(folder: Path, table: str, day: date) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "out" / table / f"day={day}" / export.NAME).to_pylist())


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*.parquet"))


async def test_a_day_is_what_finished_on_it_and_people_are_surrogates(
    fresh_place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await tell(fresh_place, "1", "2", at=MIDNIGHT - timedelta(microseconds=1))
    await tell(fresh_place, "3", at=MIDNIGHT)
    assert run(fresh_place, tmp_path, since=FIRST, until=THIRD) == 0
    assert capsys.readouterr().out.splitlines() == [
        "runs 2026-03-01: 2 rows", "jobs 2026-03-01: 2 rows", "runs 2026-03-02: 1 rows",
        "jobs 2026-03-02: 1 rows",
    ]  # fmt: skip
    first = rows(tmp_path, "runs", FIRST)
    assert [each["provider_id"] for each in first] == ["1", "2"]
    assert len(first[0]["actor"]) == 16
    assert first[0]["failed_jobs"] == ["unit"]
    assert first[0]["finished_at"] == MIDNIGHT - timedelta(microseconds=1)
    [job] = rows(tmp_path, "jobs", SECOND)
    assert (job["run_id"], job["name"], job["labels"]) == ("3", "unit", ["x64", "linux"])
    assert b"octocat" not in written(tmp_path)
    table = ds.dataset(tmp_path / "out" / "runs", partitioning="hive").to_table()
    assert sorted(table.column("day").to_pylist()) == ["2026-03-01", "2026-03-01", "2026-03-02"]


async def test_a_day_is_written_again_with_what_came_late_or_went(fresh_place: Place, tmp_path: Path) -> None:
    await tell(fresh_place, "1", at=MIDNIGHT)
    run(fresh_place, tmp_path, since=SECOND, until=SECOND)
    await tell(fresh_place, "2", at=MIDNIGHT + timedelta(hours=1))
    run(fresh_place, tmp_path, since=SECOND, until=SECOND)
    assert [each["provider_id"] for each in rows(tmp_path, "runs", SECOND)] == ["1", "2"]
    await tell(fresh_place, "1", "2", at=MIDNIGHT + timedelta(days=1))
    run(fresh_place, tmp_path, since=SECOND, until=THIRD)
    assert not (tmp_path / "out" / "runs" / "day=2026-03-02" / export.NAME).exists()
    assert len(rows(tmp_path, "runs", THIRD)) == 2


async def test_what_breaks_midway_leaves_the_file_of_before(
    fresh_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(fresh_place, "1", "2", "3", at=MIDNIGHT)
    run(fresh_place, tmp_path, since=SECOND, until=SECOND)
    before = (tmp_path / "out" / "runs" / "day=2026-03-02" / export.NAME).read_bytes()
    monkeypatch.setattr(export, "BATCH", 2)
    batch, calls = export._batch, []

    def breaks(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("the disk is full")
        return batch(*arguments)

    monkeypatch.setattr(export, "_batch", breaks)
    place = fs.LocalFileSystem()
    with psycopg.connect(fresh_place.dsn("readonly").reveal()) as conn, pytest.raises(OSError, match="full"):
        list(export.export(conn, place, str(tmp_path / "out"), since=SECOND, until=SECOND))
    assert (tmp_path / "out" / "runs" / "day=2026-03-02" / export.NAME).read_bytes() == before
    monkeypatch.setattr(export, "_batch", batch)
    run(fresh_place, tmp_path, since=SECOND, until=SECOND)
    assert len(rows(tmp_path, "runs", SECOND)) == 3
    assert [path.name for path in (tmp_path / "out" / "runs").rglob("*") if path.is_file()] == [export.NAME]


async def test_a_bucket_has_what_a_folder_has(fresh_place: Place, buckets: Buckets, tmp_path: Path) -> None:
    await tell(fresh_place, "1", "2", at=MIDNIGHT)
    dsn = tmp_path / "uri"
    dsn.write_text(fresh_place.dsn("readonly").reveal())
    folder = f"{BUCKET}/history/{fresh_place.id}"
    url = (
        f"s3://{buckets.key}:{quote(buckets.secret)}@{folder}"
        f"?scheme=http&region={REGION}&endpoint_override={quote(buckets.host)}"
    )
    days = ["--since", str(SECOND), "--until", str(SECOND)]
    for _ in range(2):  # a day is written again when it is asked for again
        assert export.main(["--dsn-file", str(dsn), "--url", url, *days]) == 0
    place, _ = fs.FileSystem.from_uri(url)
    runs = pq.read_table(f"{folder}/runs/day={SECOND}/{export.NAME}", filesystem=place).to_pylist()
    assert sorted(row["provider_id"] for row in runs) == ["1", "2"]
    found = place.get_file_info(fs.FileSelector(f"{folder}/runs", recursive=True))
    assert [each.base_name for each in found if each.type == fs.FileType.File] == [export.NAME]


def test_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        export.main(
            ["--dsn-file", "x", "--url", "file:///x", "--since", "2026-01-02", "--until", "2026-01-01"]
        )
