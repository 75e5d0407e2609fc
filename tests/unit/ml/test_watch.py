"""What ran otherwise than usual, told once: outliers, shifts and incidents of jobs and runners."""

import random
from collections.abc import Iterable

import pytest

from ml.watch import Anomaly, Job, find


def jobs(
    seconds: Iterable[float],
    *,
    queue: float | list[float] = 5.0,
    failed: Iterable[bool] = (),
    name: str = "test",
) -> list[Job]:
    """One job each ten minutes."""
    outcomes = list(failed)
    found = []
    for number, took in enumerate(seconds):
        waited = queue[number] if isinstance(queue, list) else queue
        began = 600.0 * number + waited
        found.append(
            Job(
                id=f"{name}-{number}",
                run=str(number),
                project="acme/shop",
                pipeline="ci",
                name=name,
                runner="linux, large",
                failed=outcomes[number] if outcomes else False,
                queued_at=600.0 * number,
                started_at=began,
                finished_at=began + took,
            )
        )  # fmt: skip
    return found


def steady(count: int, *, around: float = 100.0, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [around * chance.uniform(0.9, 1.1) for _ in range(count)]


def told(found: Iterable[Anomaly]) -> list[tuple[str, str, str]]:
    return [(each.of, each.measure, each.shape) for each in found]


def test_what_is_as_usual_is_not_told() -> None:
    assert find(jobs(steady(500)), since=0) == []
    chance = random.Random(5)
    flaky = [chance.random() < 0.1 for _ in range(500)]
    assert find(jobs(steady(500), failed=flaky), since=0) == []


def test_one_job_that_takes_far_longer_is_an_outlier_and_a_little_longer_is_none() -> None:
    (one,) = find(jobs([*steady(50), 400.0, *steady(20)]), since=0)
    assert told([one]) == [("job", "duration", "outlier")]
    assert (one.key, one.job, one.found) == (("acme/shop", "ci", "test"), "test-50", 400.0)
    assert one.usual == pytest.approx(100, rel=0.05)
    assert find(jobs([*steady(50), 150.0, *steady(20)]), since=0) == []
    # far in proportion, and not worth a word
    assert find(jobs([*steady(50, around=1), 8.0, *steady(20, around=1)]), since=0) == []


@pytest.mark.parametrize("after", [180.0, 50.0])
def test_times_that_change_for_good_are_told_once(after: float) -> None:
    found = find(jobs([*steady(100), *steady(100, around=after, seed=2)]), since=0)
    shifts = [each for each in found if each.shape == "shift"]
    assert len(shifts) == 1
    (shift,) = shifts
    assert (shift.measure, shift.found) == ("duration", pytest.approx(after, rel=0.1))
    assert 100 * 600 <= shift.at <= 120 * 600


def test_a_queue_that_grows_is_told_of_the_job_and_of_its_runner() -> None:
    waits = [10.0] * 60 + [120.0] * 40
    found = find(jobs(steady(100), queue=waits), since=0)
    assert {(of, measure) for of, measure, _ in told(found)} == {("job", "queue"), ("runner", "queue")}
    assert ("runner", "queue", "shift") in told(found)
    (of_runner,) = [each for each in found if (each.of, each.shape) == ("runner", "shift")]
    assert of_runner.key == ("linux, large",)
    assert (of_runner.usual, of_runner.found) == (pytest.approx(10.0), 120.0)


def test_failures_that_pile_up_are_an_incident_that_ends() -> None:
    failed = [number % 12 == 0 for number in range(100)] + [True] * 15 + [False] * 60
    found = [each for each in find(jobs(steady(175), failed=failed), since=0) if each.of == "job"]
    assert told(found) == [("job", "failureRate", "incident")]
    (incident,) = found
    assert incident.usual == pytest.approx(0.09, abs=0.03)
    assert incident.found > 0.7
    assert 96 * 600 <= incident.since <= incident.at < 115 * 600
    assert incident.until is not None
    assert 115 * 600 < incident.until < 140 * 600
    lasting = find(jobs(steady(115), failed=failed[:115]), since=0)
    assert {each.until for each in lasting} == {None}


def test_only_what_is_new_is_told_by_what_came_before() -> None:
    made = jobs([*steady(50), 400.0, *steady(20), 500.0])
    assert [each.found for each in find(made, since=0)] == [500.0, 400.0]
    assert [each.found for each in find(made, since=60 * 600)] == [500.0]


def test_a_job_that_told_no_times_is_no_time() -> None:
    few = jobs(steady(30))
    bare = [
        Job(**{**{name: getattr(each, name) for name in Job.__slots__}, "started_at": None}) for each in few
    ]
    assert find(bare, since=0) == []
