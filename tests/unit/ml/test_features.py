"""What the model sees, online and offline."""

import dataclasses
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml import artifact, features, history, reasons, replay, window
from ml.history import Outcome, Run

NOON = datetime(2026, 3, 2, 12, 30, tzinfo=UTC).timestamp()  # a Monday
RUN = Run(
    integration="i", project="acme/shop", pipeline="ci", event="push", branch="main", actor="u1", sha="abc",
    run_id="9", attempt=1, started_at=NOON + 30, queued_at=NOON,
)  # fmt: skip


def line(results: str, *, every: float = 3600.0, sha: str | None = None) -> tuple[Outcome, ...]:
    """A line of outcomes, F failed and P passed, the newest last and an hour old."""
    return tuple(
        Outcome(
            run=f"r{index}",
            attempt=1,
            sha=sha or f"s{index}",
            started_at=NOON - every * (len(results) - index) - 60,
            finished_at=NOON - every * (len(results) - index),
            failed=letter == "F",
        )
        for index, letter in enumerate(results)
    )


def seen(run: Run, **lines: tuple[Outcome, ...]) -> dict[str, float]:
    return dict(zip(features.NAMES, features.features(run, lines), strict=True))


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("P", {"known": 1, "last1": 0, "last2": math.nan, "streak": -1, "rate5": 0, "ewma": 0}),
        ("F", {"last1": 1, "streak": 1, "rate50": 1, "ewma": 1, "mean_failure_streak": 1}),
        ("PPF", {"last1": 1, "last2": 0, "last3": 0, "streak": 1, "hours_since_result": 1}),
        ("FPPP", {"streak": -3, "hours_since_failure": 4, "flip_rate20": 1 / 3, "rate5": 0.25}),
        ("PFFPFP", {"mean_failure_streak": 1.5, "flip_rate20": 4 / 5}),
        ("FF", {"streak": 2, "last3": math.nan, "flip_rate20": 0}),
        ("PF", {"ewma": 0.2}),
        ("F" * 10 + "P" * 20, {"flip_rate20": 0, "rate20": 0, "rate50": 1 / 3, "known": 30}),
        ("F" * 10 + "P" * 19, {"flip_rate20": 1 / 19}),
    ],
)
def test_a_line_says(results: str, expected: dict[str, float]) -> None:
    found = seen(RUN, branch=line(results))
    assert {name: found[f"branch_{name}"] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_nothing_known_is_not_zero_failures() -> None:
    found = seen(RUN)
    assert found["branch_known"] == 0
    assert math.isnan(found["branch_last1"])
    assert math.isnan(found["branch_rate5"])
    assert math.isnan(found["pipeline_retry_pass_rate"])


def test_a_waiting_run_and_the_same_one_started_are_the_same_to_the_model() -> None:
    waiting = dataclasses.replace(RUN, started_at=NOON)
    lines = {scope: line("PFFPF") for scope in history.SCOPES}
    assert (seen(RUN)["hour"], seen(RUN)["weekday"]) == (12.5, 0.0)
    assert features.features(waiting, lines) == features.features(RUN, lines)
    weights = [1.0] * len(features.NAMES)
    assert reasons.reasons(waiting, lines, weights) == reasons.reasons(RUN, lines, weights)
    assert not [name for name in features.NAMES if "queue" in name]


def test_attempts_and_siblings_are_told_apart() -> None:
    commit = (
        Outcome(run="7", attempt=1, sha="abc", started_at=0, finished_at=1, failed=True),
        Outcome(run="7", attempt=2, sha="abc", started_at=2, finished_at=3, failed=False),
        Outcome(run="8", attempt=1, sha="abc", started_at=0, finished_at=4, failed=True),
        Outcome(run="9", attempt=1, sha="abc", started_at=0, finished_at=NOON + 5, failed=True),
    )
    found = seen(history.next_attempt(RUN, at=NOON + 60), commit=commit)
    assert found["attempt"] == 2
    assert found["previous_attempt_failed"] == 1
    assert found["earlier_attempts_failed"] == 1
    assert (found["siblings_failed"], found["siblings_passed"]) == (1, 1)


def test_a_sibling_pipeline_the_same_pipeline_and_the_commit_before_are_told_apart() -> None:
    def on_commit(run: str, pipeline: str, *, failed: bool) -> Outcome:
        return Outcome(
            run=run, attempt=1, sha="abc", started_at=0, finished_at=5, failed=failed, project="acme/shop",
            pipeline=pipeline,
        )  # fmt: skip

    commit = (on_commit("1", "lint", failed=True), on_commit("2", "ci", failed=False))
    before = (on_commit("3", "ci", failed=True), on_commit("4", "lint", failed=False))
    found = seen(RUN, commit=commit, parent=before)
    assert (found["siblings_failed"], found["siblings_passed"]) == (1, 0)
    assert (found["same_failed"], found["same_passed"]) == (0, 1)
    assert (found["parent_failed"], found["parent_siblings_failed"]) == (1, 0)
    weights = {**dict.fromkeys(features.NAMES, 0.0), "siblings_failed": 2.0, "parent_failed": 1.0}
    assert reasons.reasons(RUN, {"commit": commit, "parent": before}, list(weights.values())) == [
        "lint failed on this commit",
        "this pipeline failed on the commit before",
    ]


def test_trouble_is_what_failed_across_the_projects_within_the_hour() -> None:
    def ended(run: str, project: str, *, ago: float, failed: bool) -> Outcome:
        return Outcome(
            run=run, attempt=1, sha="", started_at=0, finished_at=NOON - ago, failed=failed, project=project
        )

    everywhere = (
        ended("1", "old", ago=3601, failed=True),
        ended("2", "a", ago=3600, failed=True),
        ended("3", "b", ago=60, failed=True),
        ended("4", "b", ago=30, failed=False),
        ended("5", "b", ago=10, failed=True),
    )
    found = seen(RUN, integration=everywhere)
    assert (found["trouble_runs"], found["trouble_rate"], found["trouble_projects"]) == (4, 0.75, 2)
    assert found["integration_rate10"] == 0.8
    weights = {**dict.fromkeys(features.NAMES, 0.0), "trouble_rate": 1.0}
    assert reasons.reasons(RUN, {"integration": everywhere}, list(weights.values())) == [
        "3 of 4 runs across the projects failed within the last hour, in 2 projects"
    ]


def test_how_long_runs_took_is_known_of_those_before_only() -> None:
    found = seen(RUN, pipeline=line("PPP"))
    assert (found["usual_minutes"], found["last_took"]) == (1, 1)
    assert features.features(RUN, {}, change=("files", "lines"))[-2:] == pytest.approx(
        [math.nan] * 2, nan_ok=True
    )
    sized = dataclasses.replace(RUN, change={"lines": 4.0})
    assert features.features(sized, {}, change=("lines",))[-1] == 4.0


def test_flaky_is_disagreement_on_a_commit() -> None:
    again = Outcome(run="r0", attempt=2, sha="s0", started_at=0, finished_at=NOON - 5, failed=False)
    found = seen(RUN, pipeline=(*line("FF"), again))
    assert found["pipeline_flaky_rate"] == 0.5
    assert found["pipeline_retry_pass_rate"] == 1.0


def test_an_outcome_that_finishes_after_the_moment_is_not_seen() -> None:
    future = Outcome(run="x", attempt=1, sha="z", started_at=0, finished_at=NOON + 0.001, failed=True)
    assert features.features(RUN, {"branch": (*line("P"), future)}) == pytest.approx(
        features.features(RUN, {"branch": line("P")}), nan_ok=True
    )


def random_rows(seed: int, *, count: int) -> list[dict[str, Any]]:
    """Overlapping runs with re-runs, unfinished ones and outcomes that are no labels."""
    dice = random.Random(seed)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(count):
        at += timedelta(seconds=dice.uniform(0, 900))
        again = dice.choice(rows) if rows and dice.random() < 0.15 else None
        shared = ("integration", "project", "pipeline", "event", "branch", "sha", "run_id")
        rows.append(
            {
                "integration": dice.choice(("github", "ghes")),
                "project": dice.choice(("a", "b")),
                "pipeline": dice.choice(("ci", "e2e")),
                "run_id": str(number),
                "attempt": 1,
                "number": number,
                "event": dice.choice(("push", "pull_request")),
                "branch": dice.choice(("main", "x", "")),
                "actor": dice.choice(("u1", "u2", None)),
                "sha": dice.choice((f"s{number}", f"s{number // 3}")),
                "outcome": dice.choices(("success", "failure", "cancel", "skip"), weights=(6, 3, 1, 1))[0],
                "queued_at": at - timedelta(seconds=dice.uniform(0, 60)),
                "started_at": at,
                "finished_at": None
                if dice.random() < 0.03
                else at + timedelta(seconds=dice.expovariate(1 / 2000) + 1),
                "failed_jobs": [],
                "jobs": 1,
                **({name: again[name] for name in shared} if again else {}),
                **({"attempt": again["attempt"] + 1} if again else {}),
            }
        )
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_training_sees_of_every_run_what_the_gateway_saw(seed: int) -> None:
    content = window.write(random_rows(seed, count=400))
    table = window.read(content, sha256=artifact.digest(content))
    offline = replay.dataset(table)

    # The gateway: events in the order of the clock, a run is scored once, a finish is stored in its lines.
    store: dict[tuple[str, str], tuple[Outcome, ...]] = defaultdict(tuple)
    rows = replay.attempts(table)
    events = [(row.run.judged_at, 1, index) for index, row in enumerate(rows)]
    events += [(row.finished_at, 0, index) for index, row in enumerate(rows) if row.finished_at is not None]
    online = []
    for _, comes, index in sorted(events):
        row = rows[index]
        keys = history.lines(row.run)
        if comes:
            if row.failed is not None:
                online.append(
                    features.features(row.run, {scope: store[scope, key] for scope, key in keys.items()})
                )
        elif row.failed is not None and row.finished_at is not None:
            done = replay.outcome_of(row.run, failed=row.failed, finished_at=row.finished_at)
            for scope, key in keys.items():
                store[scope, key] = history.insert(store[scope, key], done)

    assert len(online) == len(offline) > 200
    for mine, theirs in zip(online, offline.x.tolist(), strict=True):
        assert mine == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)


def test_reasons_state_facts_of_the_weightiest_features() -> None:
    weights = dict.fromkeys(features.NAMES, 0.0)
    weights.update(
        branch_streak=1.0, branch_rate5=0.4, pipeline_rate10=0.5, siblings_failed=0.3, project_last1=0.1
    )
    lines = {"branch": line("PFFF"), "pipeline": line("PPPPPFFFPF"), "project": line("F")}
    assert reasons.reasons(RUN, lines, list(weights.values())) == [
        "the last 3 runs on this branch failed",
        "4 of the last 10 runs of this pipeline failed",
        "no other run on this commit has finished",
    ]


def test_reasons_go_the_way_of_the_answer() -> None:
    weights = dict.fromkeys(features.NAMES, 0.0)
    weights.update(branch_streak=-2.0, pipeline_rate10=0.5)
    lines = {"branch": line("PPP"), "pipeline": line("FP")}
    assert reasons.reasons(RUN, lines, list(weights.values())) == ["the last 3 runs on this branch passed"]


@pytest.mark.parametrize("name", features.NAMES)
@pytest.mark.parametrize("results", ["", "F", "P", "PFPFF" * 9])
def test_every_feature_has_a_sentence_or_none(name: str, results: str) -> None:
    weights = [float(each == name) for each in features.NAMES]
    lines = {scope: line(results) for scope in history.SCOPES}
    found = reasons.reasons(history.next_attempt(RUN, at=NOON + 9), lines, weights)
    assert len(found) <= 1
    assert all("nan" not in sentence and sentence == sentence.strip() for sentence in found)
