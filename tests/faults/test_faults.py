"""A sample of all faults on real servers: the operator as a real process, each fault judged by the oracles.

`make faults` runs all of them. Which are in the sample is a rule without chance: crashes evenly over the
sweep of all stories, and the other faults that are marked as sampled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dev.faults.__main__ import attempt, sample, slice_of
from dev.faults.judge import Judge
from dev.faults.rig import rig
from dev.faults.stories import CREATE, STORIES
from dev.problem import Problem

CRASHES = 6


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """Servers of its own: some of these faults kill servers, and others would meet the stack's operator."""
    with rig() as made:
        made.start()
        yield Judge(made)


@pytest.mark.timeout(1200)
def test_every_story_writes_the_same_in_two_undisturbed_runs(judge: Judge) -> None:
    for story in STORIES:
        learned = judge.learn(story)
        assert len(learned.writes) >= 8, f"{story.name} has few writes: are the proxies bypassed?"
    systems = {write.system for write in judge.learn(CREATE).writes}
    assert systems == {"kubernetes", "vault", "postgres"}


@pytest.mark.timeout(1200)
def test_a_sample_of_all_faults_breaks_no_oracle(judge: Judge) -> None:
    begun, broken, tried = time.monotonic(), {}, 0
    for case in sample(judge, crashes=CRASHES):
        started = time.monotonic()
        found = attempt(case, judge)
        tried += 1
        print(f"{time.monotonic() - started:5.1f} s  {case.id}")
        if found:
            broken[case.id] = found
    print(f"faults: {tried} tried, {len(broken)} broke an oracle, {time.monotonic() - begun:.0f} s")
    assert not broken


@pytest.mark.timeout(120)
def test_the_oracles_notice_what_an_operator_left_behind(judge: Judge) -> None:
    rig_ = judge.rig
    rig_.sql.execute("CREATE ROLE pw_zzzzzzzzzzzz_app")
    rig_.vault.send(
        "PUT",
        "sys/policies/acl/pipewright-tenant-zzzzzzzzzzzz",
        {"policy": 'path "none" { capabilities = ["deny"] }'},
    )
    try:
        found = {it.how for it in judge.play(CREATE, None) if it.oracle == "O3"}
    finally:
        rig_.sql.execute("DROP ROLE pw_zzzzzzzzzzzz_app")
        rig_.vault.send("DELETE", "sys/policies/acl/pipewright-tenant-zzzzzzzzzzzz")
    assert found == {
        "roles have zzzzzzzzzzzz, which no tenant is",
        "policies have zzzzzzzzzzzz, which no tenant is",
    }


def test_slices_are_disjoint_and_make_up_the_whole(judge: Judge) -> None:
    cases = sample(judge, crashes=CRASHES)
    parts = [slice_of(cases, f"{part}/3") for part in (1, 2, 3)]
    assert sorted(case.id for part in parts for case in part) == sorted(case.id for case in cases)
    assert [case.key for case in cases] == [case.key for case in sample(judge, crashes=CRASHES)]
    with pytest.raises(Problem, match="--slice 4/3"):
        slice_of(cases, "4/3")
