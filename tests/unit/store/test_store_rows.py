"""Values as rows, batches as waves, long names as digests: the small arithmetic below the queries."""

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from pipewright.backends.postgres.server import mark, read_mark
from pipewright.records import RunRecord
from pipewright.store import history, lines, merge, rows


@dataclass(frozen=True)
class Thing:
    thing_uid: str
    names: tuple[str, ...]
    config: dict[str, int]
    integration: str = ""


def test_columns_are_the_fields_and_uids_come_as_text() -> None:
    assert rows.columns(Thing) == "thing_uid::text, names, config, integration::text"


def test_an_insert_names_its_parameters_as_the_fields() -> None:
    assert rows.insert("things", Thing, without=["config"]) == (
        "INSERT INTO pipewright.things (thing_uid, names, integration)"
        " VALUES (%(thing_uid)s, %(names)s, %(integration)s)"
    )


def test_tuples_become_arrays_and_mappings_jsonb() -> None:
    values = rows.values(Thing("u", ("a",), {"b": 1}))
    assert values["names"] == ["a"]
    assert isinstance(values["config"], Jsonb)
    assert values["config"].obj == {"b": 1}


def _run(name: str, attempt: int = 1) -> RunRecord:
    return RunRecord(project="p", pipeline="ci", id=name, attempt=attempt, phase="queued")


def test_a_wave_has_each_key_once_and_keeps_the_order() -> None:
    records = [_run("a"), _run("b"), _run("a"), _run("a", 2), _run("a")]
    waves = history.waves(records, key=lambda record: (record.id, record.attempt))
    assert [[(each.id, each.attempt) for each in wave] for wave in waves] == [
        [("a", 1), ("b", 1), ("a", 2)],
        [("a", 1)],
        [("a", 1)],
    ]


def test_a_runs_row_has_the_surrogate_and_every_column_of_the_merge() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    record = RunRecord(
        project="p", pipeline="ci", id="1", attempt=1, actor="ada", phase="queued", queued_at=moment
    )
    row = history.run_row(record, integration="i", seen_at=moment, actors={"ada": "s-1"})
    assert set(row) == set(merge.RUN_COLUMNS)
    assert row["actor"] == "s-1"
    assert "ada" not in row.values()
    assert history.run_row(record, integration="i", seen_at=moment, actors={})["actor"] is None


def test_a_long_line_is_known_by_its_digest_and_a_short_one_by_its_name() -> None:
    assert lines._stored(("branch", "x" * 1000)) == ("branch", "x" * 1000)
    scope, key = lines._stored(("branch", "x" * 1001))
    assert (scope, len(key), key.startswith("sha256:")) == ("branch", 71, True)
    assert lines._stored(("branch", "ä" * 501))[1].startswith("sha256:")


def test_a_mark_is_read_back_and_foreign_comments_are_none() -> None:
    assert read_mark(mark("uid-1", version=3)) == {"uid": "uid-1", "version": 3}
    for comment in (None, "", "somebody's note", "[1]", '"text"', "3"):
        assert read_mark(comment) == {}
