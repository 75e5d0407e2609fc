"""The simulated company: its history looks like real ones, and is the same each time."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dev import simulator

UNTIL = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PAYLOADS = Path(__file__).parents[4] / "shared" / "data" / "webhook-payloads" / "github-octokit"

Record = dict[str, Any]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(simulator.history(until=UNTIL, seed=7))


@pytest.fixture(scope="module")
def runs(records: list[Record]) -> list[Record]:
    return [record for record in records if record["type"] == "run"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_same_seed_gives_the_same_history(records: list[Record]) -> None:
    assert list(simulator.history(until=UNTIL, seed=7)) == records
    assert list(simulator.history(until=UNTIL, seed=8)) != records


def test_it_ends_at_the_given_moment_and_every_line_is_json(records: list[Record]) -> None:
    assert all(at(record["finishedAt"]) <= UNTIL for record in records)
    assert json.loads(json.dumps(records)) == records


def test_attempts_are_unique_and_in_order_of_their_start(runs: list[Record]) -> None:
    assert len({(run["id"], run["attempt"]) for run in runs}) == len(runs)
    assert [run["startedAt"] for run in runs] == sorted(run["startedAt"] for run in runs)
    assert all(at(r["queuedAt"]) <= at(r["startedAt"]) < at(r["finishedAt"]) for r in runs)


@pytest.mark.parametrize("seed", [1, 7, 42])
def test_its_rates_are_those_of_real_histories(seed: int) -> None:
    runs = [each for each in simulator.history(until=UNTIL, seed=seed) if each["type"] == "run"]
    outcomes = Counter(run["outcome"] for run in runs)
    failure_rate = outcomes["failure"] / (outcomes["failure"] + outcomes["success"])
    assert 5000 < len(runs) < 7000
    assert 0.12 < failure_rate < 0.21
    assert 0.09 < outcomes["cancel"] / len(runs) < 0.13
    again = Counter(run["outcome"] for run in runs if run["attempt"] > 1)
    assert again["success"] > again["failure"]


def test_several_pipelines_run_for_one_commit(runs: list[Record]) -> None:
    assert max(Counter(run["sha"] for run in runs if run["attempt"] == 1).values()) == 3


def test_failures_come_in_streaks(runs: list[Record]) -> None:
    last: dict[tuple[str, str, str], bool] = {}
    after: dict[bool, list[bool]] = {True: [], False: []}
    for run in runs:
        if run["attempt"] == 1 and run["outcome"] in ("success", "failure"):
            key, failed = (run["project"], run["pipeline"], run["branch"]), run["outcome"] == "failure"
            if key in last:
                after[last[key]].append(failed)
            last[key] = failed
    assert sum(after[True]) / len(after[True]) > 3 * sum(after[False]) / len(after[False])


def test_nights_and_weekends_are_quiet(runs: list[Record]) -> None:
    hours = Counter(at(run["startedAt"]).hour for run in runs)
    days = Counter(at(run["startedAt"]).weekday() for run in runs)
    assert hours[14] > 5 * hours[3]
    assert days[1] > 3 * days[6]


def test_an_outage_fails_several_projects_within_the_hour(runs: list[Record]) -> None:
    hours: dict[str, list[Record]] = {}
    for run in runs:
        hours.setdefault(run["startedAt"][:13], []).append(run)
    worst = 0
    for hour in hours.values():
        failed = [run for run in hour if run["outcome"] == "failure"]
        if len(failed) > len(hour) / 2:
            worst = max(worst, len({run["project"] for run in failed}))
    assert worst >= 3


def test_jobs_follow_their_run_and_explain_it(records: list[Record]) -> None:
    run: Record = {}
    for record in records:
        if record["type"] == "run":
            run, found = record, []
            continue
        assert (record["run"], record["attempt"], record["project"]) == (
            run["id"],
            run["attempt"],
            run["project"],
        )
        assert (
            at(run["startedAt"])
            <= at(record["startedAt"])
            < at(record["finishedAt"])
            <= at(run["finishedAt"])
        )
        found.append(record["outcome"])
        if record["outcome"] == "failure":
            assert run["outcome"] == "failure"
        if run["outcome"] == "success":
            assert record["outcome"] == "success"


def test_the_story_fails_in_the_flaky_job_and_passes_when_run_again(runs: list[Record]) -> None:
    story = simulator.story(at=UNTIL)
    first, second = story.first[0], story.second[0]
    assert (first["project"], first["pipeline"], first["branch"]) == ("acme/shop", "e2e", "main")
    assert (first["attempt"], first["outcome"], second["attempt"], second["outcome"]) == (
        1,
        "failure",
        2,
        "success",
    )
    assert [job["name"] for job in story.first[1:] if job["outcome"] == "failure"] == ["checkout flow"]
    assert (first["id"], first["sha"]) == (second["id"], second["sha"])
    assert first["id"] not in {run["id"] for run in runs}
    assert at(first["finishedAt"]) < at(second["queuedAt"])


def test_a_run_gives_three_webhooks_and_each_job_three() -> None:
    story = simulator.story(at=UNTIL)
    run, job = story.first[0], story.first[1]
    assert [(name, payload["action"]) for name, payload in simulator.github_events(run)] == [
        ("workflow_run", "requested"),
        ("workflow_run", "in_progress"),
        ("workflow_run", "completed"),
    ]
    assert [(name, payload["action"]) for name, payload in simulator.github_events(job, run=run)] == [
        ("workflow_job", "queued"),
        ("workflow_job", "in_progress"),
        ("workflow_job", "completed"),
    ]
    with pytest.raises(ValueError, match="needs the record of its run"):
        simulator.github_events(job)


def test_webhooks_tell_what_the_record_says() -> None:
    run = simulator.story(at=UNTIL).first[0]
    requested, _, completed = (payload["workflow_run"] for _, payload in simulator.github_events(run))
    assert (requested["status"], requested["conclusion"]) == ("queued", None)
    assert (completed["status"], completed["conclusion"], completed["run_attempt"]) == (
        "completed",
        "failure",
        1,
    )
    assert completed["id"] == int(run["id"])
    assert completed["run_started_at"] == run["startedAt"]
    assert completed["updated_at"] == run["finishedAt"]
    assert completed["repository"]["full_name"] == "acme/shop"


def test_deliveries_come_in_order_of_time() -> None:
    story = simulator.story(at=UNTIL)
    deliveries = list(simulator.github_deliveries([*story.first, *story.second]))
    times = [when for when, _, _ in deliveries]
    assert times == sorted(times)
    assert len(deliveries) == 24
    assert deliveries[0][2]["action"] == "requested"


@pytest.mark.skipif(
    not PAYLOADS.exists(), reason="the real payloads are not in ../shared/data/webhook-payloads"
)
@pytest.mark.parametrize(
    ("file", "index"),
    [
        ("workflow_run/completed.payload.json", 0),
        ("workflow_job/completed.failure.with-organization.payload.json", 1),
    ],
)
def test_every_field_is_one_that_github_sends_with_the_same_type(file: str, index: int) -> None:
    real = json.loads((PAYLOADS / file).read_text())
    story = simulator.story(at=UNTIL)
    ours = simulator.github_events(story.first[index], run=story.first[0])[-1][1]
    assert differences(ours, real, where="") == []


def differences(ours: Any, real: Any, *, where: str) -> list[str]:
    if isinstance(ours, dict) and isinstance(real, dict):
        return [
            each
            for key, value in ours.items()
            for each in (
                differences(value, real[key], where=f"{where}.{key}") if key in real else [f"{where}.{key}"]
            )
        ]
    if isinstance(ours, list) and isinstance(real, list) and ours and real:
        return differences(ours[0], real[0], where=f"{where}[]")
    return (
        [] if type(ours) is type(real) else [f"{where}: {type(ours).__name__} is not {type(real).__name__}"]
    )


def test_a_recent_history_is_the_same_at_each_hour() -> None:
    until = datetime(2026, 11, 27, 21, 8, tzinfo=UTC)
    evening = list(simulator.recent(until=until))
    night = list(simulator.recent(until=until + timedelta(hours=2)))
    assert night == evening
    ends = [datetime.fromisoformat(each["finishedAt"]) for each in evening]
    assert until - timedelta(days=2) < max(ends) <= until
    later = list(simulator.recent(until=until + timedelta(days=9)))
    assert [each["outcome"] for each in later] == [each["outcome"] for each in evening]
    assert later[0]["startedAt"] > evening[0]["startedAt"]
