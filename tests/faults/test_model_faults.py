"""A sample of the faults of Models: a real runner, trainings on a real Ray, and the oracles."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dev.faults.__main__ import attempt
from dev.faults.model_kinds import sample
from dev.faults.model_rig import model_rig
from dev.faults.models import CREATE, ModelJudge

pytestmark = pytest.mark.ray

CRASHES = 2


@pytest.fixture(scope="module")
def judge() -> Iterator[ModelJudge]:
    """Servers of its own, with a tenant that has a history and stays."""
    with model_rig() as made:
        made.start()
        yield ModelJudge(made)


@pytest.mark.timeout(600)
def test_a_creation_writes_the_same_in_two_undisturbed_runs(judge: ModelJudge) -> None:
    labels = [write.label for write in judge.learn(CREATE).writes]
    print(labels)
    systems = {write.system for write in judge.learn(CREATE).writes}
    assert systems == {"kubernetes", "postgres", "ray"}, "are the proxies bypassed?"
    assert labels.count("ray: POST jobs/") == 1


@pytest.mark.timeout(600)
def test_a_sample_of_all_faults_breaks_no_oracle(judge: ModelJudge) -> None:
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
def test_the_oracles_notice_what_a_runner_left_behind(judge: ModelJudge) -> None:
    stray = "11111111-2222-3333-4444-555555555555"
    draft = judge.rig.home(stray) / "windows" / ".window.0"
    draft.parent.mkdir(parents=True)
    draft.touch()
    try:
        found = {it.how for it in judge.globally()}
    finally:
        draft.unlink()
        draft.parent.rmdir()
        draft.parent.parent.rmdir()
    assert found == {
        f"a folder in the artifact store is of {stray}, which no Model is",
        ".window.0 was begun and left",
    }
    assert judge.globally() == []
