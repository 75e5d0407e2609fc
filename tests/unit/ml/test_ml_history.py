"""Lines of work: what is remembered of finished runs."""

import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import history
from ml.history import Outcome, Run

RUN = Run(
    integration="i", project="acme/shop", pipeline="ci", event="push", branch="main", actor="u1", sha="abc",
    run_id="9", attempt=1, started_at=1000.0, queued_at=990.0,
)  # fmt: skip


def outcome(run: str, *, at: float, failed: bool = False, attempt: int = 1) -> Outcome:
    return Outcome(run=run, attempt=attempt, sha="abc", started_at=at - 5, finished_at=at, failed=failed)


OUTCOMES = st.builds(
    outcome,
    st.sampled_from([str(n) for n in range(80)]),
    at=st.floats(0, 1e9),
    failed=st.booleans(),
    attempt=st.integers(1, 2),
)


def test_a_run_belongs_to_lines_from_its_branch_upwards() -> None:
    assert history.lines(RUN) == {
        "pipeline": '["i","acme/shop","ci"]',
        "branch": '["i","acme/shop","ci","main"]',
        "ref": '["i","acme/shop","ci","main","push"]',
        "event": '["i","acme/shop","ci","push"]',
        "actor": '["i","acme/shop","u1"]',
        "project": '["i","acme/shop"]',
        "integration": '["i"]',
        "commit": '["i","acme/shop","abc"]',
    }


def test_two_integrations_share_no_line() -> None:
    mine, theirs = history.lines(RUN), history.lines(dataclasses.replace(RUN, integration="j"))
    assert set(mine) == set(history.SCOPES)
    assert not set(mine.items()) & set(theirs.items())


@pytest.mark.parametrize(
    ("attempt", "queued", "moment"),
    [(1, 990.0, 990.0), (1, None, 1000.0), (1, 1003.0, 1000.0), (2, 10.0, 1000.0)],
    ids=["queued", "no word of a queue", "clocks disagree", "a later attempt"],
)
def test_a_run_is_judged_when_it_is_first_heard_of(attempt: int, queued: float | None, moment: float) -> None:
    assert dataclasses.replace(RUN, attempt=attempt, queued_at=queued).judged_at == moment


def test_what_finishes_while_a_run_waits_is_not_known() -> None:
    line = (outcome("a", at=990), outcome("b", at=995))
    assert [each.run for each in history.known(RUN, {"branch": line})["branch"]] == ["a"]


def test_a_line_whose_name_is_unknown_is_left_out() -> None:
    bare = Run(
        integration="i",
        project="p",
        pipeline="c",
        event="",
        branch="",
        actor="",
        sha="",
        run_id="1",
        attempt=1,
        started_at=0.0,
    )
    assert set(history.lines(bare)) == {"pipeline", "project", "integration"}


def test_a_job_has_lines_of_its_own_and_shares_the_wider_ones() -> None:
    mine, whole = history.lines(dataclasses.replace(RUN, job="lint")), history.lines(RUN)
    assert mine["branch"] == '["i","acme/shop","ci","lint","main"]'
    assert {scope for scope in whole if mine[scope] == whole[scope]} == {
        "actor", "project", "integration", "commit",
    }  # fmt: skip


def test_names_with_separators_do_not_share_a_key() -> None:
    one = Run(
        integration="i",
        project="a",
        pipeline='b","c',
        event="e",
        branch="d",
        actor="u",
        sha="s",
        run_id="1",
        attempt=1,
        started_at=0,
    )
    two = Run(
        integration="i",
        project="a",
        pipeline="b",
        event="e",
        branch='c","d',
        actor="u",
        sha="s",
        run_id="1",
        attempt=1,
        started_at=0,
    )
    assert history.lines(one)["branch"] != history.lines(two)["branch"]


def test_an_outcome_takes_its_place_by_time_of_finish() -> None:
    line = history.insert(history.insert((), outcome("b", at=20)), outcome("a", at=10))
    assert [known.run for known in line] == ["a", "b"]


def test_the_same_attempt_again_replaces_the_older_record() -> None:
    line = history.insert((), outcome("a", at=10, failed=True))
    assert history.insert(line, outcome("a", at=12, failed=False)) == (outcome("a", at=12, failed=False),)


def test_another_attempt_of_the_run_stands_beside_the_first() -> None:
    line = history.insert((), outcome("a", at=10, failed=True))
    assert len(history.insert(line, outcome("a", at=12, attempt=2))) == 2


def test_a_line_keeps_the_last_fifty() -> None:
    line: tuple[Outcome, ...] = ()
    for number in range(60):
        line = history.insert(line, outcome(str(number), at=float(number)))
    assert [known.run for known in line] == [str(number) for number in range(10, 60)]


@given(st.lists(OUTCOMES, max_size=90), OUTCOMES)
def test_inserting_twice_is_inserting_once(known: list[Outcome], new: Outcome) -> None:
    line: tuple[Outcome, ...] = ()
    for each in known:
        line = history.insert(line, each)
    once = history.insert(line, new)
    assert history.insert(once, new) == once
    assert list(once) == sorted(once, key=lambda o: (o.finished_at, o.run, o.attempt))
    assert len(once) <= 50


@given(st.lists(OUTCOMES, max_size=90, unique_by=lambda o: (o.run, o.attempt)), st.integers())
def test_the_order_of_arrival_does_not_matter(known: list[Outcome], seed: int) -> None:
    shuffled = list(known)
    random.Random(seed).shuffle(shuffled)
    first: tuple[Outcome, ...] = ()
    second: tuple[Outcome, ...] = ()
    for one, other in zip(known, shuffled, strict=True):
        first, second = history.insert(first, one), history.insert(second, other)
    assert first == second


@given(st.lists(OUTCOMES, max_size=60))
def test_a_line_survives_its_json(known: list[Outcome]) -> None:
    assert history.decode(history.encode(known)) == tuple(known)


def test_a_line_is_read_from_a_json_column_too() -> None:
    known = dataclasses.replace(outcome("a", at=10, failed=True), project="p", pipeline="ci")
    assert history.decode([["a", 1, "abc", 5.0, 10, 1, "p", "ci"]]) == (known,)


def test_a_line_of_an_older_release_is_read() -> None:
    assert history.decode([["a", 1, "abc", 5.0, 10, 1]]) == (outcome("a", at=10, failed=True),)


def test_a_broken_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is not \[run, attempt, sha"):
        history.decode('[["a",1]]')


@pytest.mark.parametrize(("at", "seen"), [(9.9, []), (10.0, ["a"]), (15.0, ["a"]), (20.0, ["a", "b"])])
def test_an_outcome_is_visible_from_its_finish_on(at: float, seen: list[str]) -> None:
    line = (outcome("a", at=10), outcome("b", at=20))
    assert [known.run for known in history.visible(line, at=at)] == seen


def test_the_next_attempt_starts_when_it_is_asked_for() -> None:
    again = history.next_attempt(RUN, at=2000.0)
    assert (again.attempt, again.started_at, again.queued_at, again.run_id) == (2, 2000.0, None, "9")


def test_earlier_attempts_of_a_run_stand_in_its_commit_line_only() -> None:
    mine, other = outcome("9", at=1100, failed=True), outcome("8", at=900)
    seen = history.known(
        history.next_attempt(RUN, at=2000.0), {"branch": (other, mine), "commit": (other, mine)}
    )
    assert list(seen["branch"]) == [other]
    assert list(seen["commit"]) == [other, mine]


@given(st.lists(OUTCOMES, max_size=120), OUTCOMES)
def test_a_line_as_it_is_kept_remembers_the_same(told: list[Outcome], last: Outcome) -> None:
    line: tuple[Outcome, ...] = ()
    for each in told:
        line = history.insert(line, each)
    rows = json.loads(history.encode(line))
    kept = history.insert_row(rows, history.row_of(last))
    assert history.encode_rows(kept) == history.encode(history.insert(line, last))
    assert history.insert_row(kept, history.row_of(last)) == kept
    assert rows == json.loads(history.encode(line)), "the line that it was made of stays"


def test_rows_of_an_older_release_stay_as_they_are() -> None:
    old = [["1", 1, "abc", 5.0, 10.0, 1]]
    kept = history.insert_row(old, history.row_of(outcome("2", at=20)))
    assert kept[0] == old[0]
    assert [each.run for each in history.decode(kept)] == ["1", "2"]
