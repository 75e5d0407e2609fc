"""What was tried is remembered whatever a learning saw, and forgotten when the sources are others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dev.faults import record, writes
from dev.faults.__main__ import report
from dev.faults.crash import Crash
from dev.faults.oracles import Broken
from dev.faults.record import SOURCES, Record
from dev.faults.stories import CREATE
from dev.faults.writes import Write

STATUS, SECRET, ROLE = "PATCH tenants/<name>/status", "POST tenants/data/<id>/user", "postgres: CREATE ROLE"


def learned(*labels: str) -> list[Crash]:
    """The sweep of a learning that wrote this, in this order."""
    made = [
        Write(number=at + 1, system="kubernetes", label=label, occurrence=labels[: at + 1].count(label))
        for at, label in enumerate(labels)
    ]
    return [Crash(story=CREATE, write=it, before=before) for it in made for before in (True, False)]


FIRST = learned(STATUS, SECRET, ROLE, STATUS)


@pytest.fixture
def kept(tmp_path: Path) -> Record:
    """All of the first learning was tried, and one of it broke an oracle."""
    made = Record.load(tmp_path / "faults" / "here.json", "a", resume=False)
    for case in FIRST:
        made.note(case.key, [Broken("O2", "twice")] if case is FIRST[2] else [])
    return made


def left(kept: Record, cases: Sequence[Crash], *, sources: str = "a", resume: bool = True) -> list[str]:
    """What is still to be tried, by a process that comes later."""
    again = Record.load(kept.path, sources, resume=resume)
    return [case.id for case in cases if case.key not in again.done]


def test_a_fault_is_known_by_story_variant_label_and_occurrence() -> None:
    assert [case.key for case in FIRST[:2]] == [
        "crash create before PATCH tenants/<name>/status, 1",
        "crash create after PATCH tenants/<name>/status, 1",
    ]
    assert FIRST[0].id == "crash create before #1 PATCH tenants/<name>/status"
    assert len({case.key for case in FIRST}) == len(FIRST) == 8


def test_nothing_is_tried_twice_when_writes_changed_places(kept: Record) -> None:
    assert not left(kept, learned(SECRET, STATUS, ROLE, STATUS))


def test_a_write_less_is_no_matter_and_one_more_is_tried(kept: Record) -> None:
    assert not left(kept, learned(STATUS, SECRET, ROLE))
    assert left(kept, learned(STATUS, STATUS, SECRET, STATUS, ROLE)) == [
        "crash create before #4 PATCH tenants/<name>/status",
        "crash create after #4 PATCH tenants/<name>/status",
    ]


def test_other_sources_or_a_run_that_is_not_resumed_begin_anew(kept: Record) -> None:
    assert len(left(kept, FIRST, sources="b")) == len(FIRST)
    assert len(left(kept, FIRST, resume=False)) == len(FIRST)


def test_what_was_broken_is_read_back(kept: Record) -> None:
    again = Record.load(kept.path, "a", resume=True)
    assert again.done[FIRST[2].key] == [{"oracle": "O2", "how": "twice"}]


def test_the_report_counts_what_is_chosen_now(kept: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(kept, FIRST, FIRST) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "faults: 8 tried, 1 oracles broken"
    assert f"crash create before #2 {SECRET}" in told
    assert "  O2: twice" in told
    assert not any("not in this learning" in line for line in told)


def test_the_report_tells_of_what_this_learning_has_not(
    kept: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    now = learned(STATUS, ROLE)
    assert report(kept, now, now) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "faults: 4 tried, 0 oracles broken"
    assert "earlier, and not in this learning: 4 tried, 1 broke an oracle" in told
    assert f"crash create before {SECRET}, 1 (not in this learning)" in told


def test_a_slice_leaves_the_rest_of_this_learning_unmentioned(
    kept: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(kept, FIRST[4:6], FIRST) == 0
    assert capsys.readouterr().out == "\nfaults: 2 tried, 0 oracles broken\n"


def test_something_chosen_that_was_not_tried_fails_the_run(kept: Record) -> None:
    assert report(kept, learned(STATUS, ROLE, ROLE), learned(STATUS, ROLE, ROLE)) == 1


def test_the_fingerprint_is_of_names_and_content_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "operator" / "__pycache__").mkdir(parents=True)
    (tmp_path / "requirements").mkdir()
    code, packages = tmp_path / "operator" / "main.py", tmp_path / "requirements" / "runtime.txt"
    code.write_text("pass")
    packages.write_text("kopf")
    seen = [record.fingerprint(tmp_path)]
    (tmp_path / "operator" / "__pycache__" / "main.pyc").write_text("compiled")
    (tmp_path / "README.md").write_text("words")
    assert record.fingerprint(tmp_path) == seen[0]
    packages.write_text("kopf, newer")
    seen.append(record.fingerprint(tmp_path))
    code.write_text("print()")
    seen.append(record.fingerprint(tmp_path))
    code.rename(code.with_name("other.py"))
    seen.append(record.fingerprint(tmp_path))
    assert len(set(seen)) == 4


def test_every_source_is_there() -> None:
    root = Path(__file__).parents[3]
    assert [name for name in SOURCES if not (root / name).exists()] == []


def test_a_transaction_is_one_crash_however_others_come_between() -> None:
    inside = (0, 7, 0, 7, 8, 7, 8, 0, 0)
    made = [
        Write(number=at, system="postgres", label=str(at), occurrence=1, transaction=it)
        for at, it in enumerate(inside, start=1)
    ]
    assert [it.number for it in writes.distinct(made)] == [1, 2, 3, 5, 8, 9]
