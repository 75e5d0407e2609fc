"""The search for hyperparameters: what it may look at, what it may cost, and what comes of it."""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ml import artifact, contract, features, fit, search, train, tune, window
from ml.contract import Search, TrainingJob
from ml.replay import Dataset
from tests.unit.ml.test_train import plain_rows

FEW = Search(trials=3, seconds=600)


def made(rows: int, *, seed: int = 1) -> Dataset:
    """Runs whose outcome hangs on two of the features, by chance; each ends before the next one begins."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(rows, len(features.NAMES)))
    at = np.arange(rows, dtype=np.float64) * 600
    return Dataset(
        x=x,
        failed=x[:, 0] + x[:, 1] * x[:, 2] + dice.normal(size=rows) > 1,
        judged_at=at,
        started_at=at,
        finished_at=at + 60,
        red_before=np.zeros(rows, dtype=np.bool_),
        has_history=np.ones(rows, dtype=np.bool_),
        projects=["a"] * rows,
    )


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tune.ADDRESS, raising=False)


@pytest.fixture(scope="module")
def known() -> Dataset:
    return made(500)


QUICK = {"num_trees": 30, "ensemble": 1}


@pytest.fixture(scope="module")
def found(known: Dataset) -> contract.Searched:
    return search.search(known, wanted=FEW, fixed=QUICK, seed=0)


def test_the_defaults_are_one_trial_and_the_best_is_never_worse_than_they_are(
    known: Dataset, found: contract.Searched
) -> None:
    trials = search.draw(3, fixed=QUICK, seed=0)
    losses = [search.loss(known, each, seed=0) for each in trials]
    assert (found.trials, found.asked, found.by) == (3, 3, "Job")
    assert found.default_loss == losses[0]
    assert found.loss == min(losses)
    assert found.hyperparameters == trials[losses.index(min(losses))]
    defaults = {name: contract.HYPERPARAMETERS[name][0] for name in contract.SEARCHED}
    assert trials[0] == {**defaults, **QUICK}


def test_a_search_that_finds_nothing_better_keeps_the_defaults(
    known: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "loss", lambda _, settings, **__: 0.5)
    told = search.search(known, wanted=FEW, fixed={}, seed=0)
    assert told.hyperparameters == search.draw(1, fixed={}, seed=0)[0]


def test_the_loss_is_that_of_the_models_own_steps(known: Dataset) -> None:
    recipe = fit.choose(known, hyperparameters=QUICK, seed=3)
    scores = fit.prequential(known, learn=recipe)
    told = ~np.isnan(scores)
    chance = fit.platt(scores[told], known.failed[told]).probability(scores[told])
    failed = known.failed[told]
    by_hand = -(np.log(chance[failed]).sum() + np.log(1 - chance[~failed]).sum()) / told.sum()
    assert search.loss(known, QUICK, seed=3) == pytest.approx(by_hand)
    rate = failed.mean()
    assert by_hand < -rate * math.log(rate) - (1 - rate) * math.log(1 - rate), "it has learned nothing"


def test_the_same_job_finds_the_same(known: Dataset, found: contract.Searched) -> None:
    again = search.search(known, wanted=FEW, fixed=QUICK, seed=0)
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(found, seconds=0)


def test_more_trials_keep_the_first_ones_and_another_seed_draws_others() -> None:
    few, many = (search.draw(count, fixed={}, seed=0) for count in (5, 40))
    assert many[:5] == few
    assert len({tuple(each.items()) for each in many}) == 40
    assert search.draw(5, fixed={}, seed=1)[1:] != few[1:]


def test_all_that_is_drawn_is_allowed_and_reaches_far(known: Dataset) -> None:
    many = search.draw(1000, fixed={}, seed=5)
    for each in many:
        TrainingJob(
            submission_id="t", window_uri="file:///w", window_sha256="0" * 64, artifact_uri="file:///a",
            report_uri="file:///r", hyperparameters=each,
        )  # fmt: skip
    for name, least, most in [("num_leaves", 3, 60), ("learning_rate", 0.004, 0.25), ("lambda_l2", 0.7, 40)]:
        assert min(each[name] for each in many) < least
        assert max(each[name] for each in many) > most


def test_what_is_fixed_stays_and_changes_none_of_the_others() -> None:
    free, bound = (search.draw(9, fixed=fixed, seed=2) for fixed in ({}, {"num_leaves": 4, "ensemble": 1}))
    assert {each["num_leaves"] for each in bound} == {4}
    assert {each["ensemble"] for each in bound} == {1}
    assert [each["learning_rate"] for each in bound] == [each["learning_rate"] for each in free]


class Clock:
    """Time that passes by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        self.now += 1
        return self.now


def test_when_the_time_is_over_what_was_judged_counts(
    known: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "time", Clock())
    one_trial = 1 + fit.BLOCKS + 1
    told = search.search(
        known,
        wanted=Search(trials=50, seconds=2.5 * one_trial),
        fixed={"num_trees": 10, "ensemble": 1},
        seed=0,
    )
    assert (told.trials, told.asked) == (2, 50)


def test_the_defaults_are_judged_even_when_there_is_no_time(known: Dataset) -> None:
    told = search.search(
        known, wanted=Search(trials=50, seconds=1e-9), fixed={"num_trees": 10, "ensemble": 1}, seed=0
    )
    assert (told.trials, told.loss) == (1, told.default_loss)


def test_trials_see_the_newest_rows_of_a_long_history_and_no_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(700)
    monkeypatch.setattr(search, "MOST_ROWS", 300)
    kept = search.newest(data)
    assert len(kept) == 300
    assert kept.started_at[0] == data.started_at[400]
    assert list(kept.projects) == []
    assert search.MOST_ROWS * len(features.NAMES) * 8 < 40e6


def job(content: bytes, **changes: Any) -> TrainingJob:
    return TrainingJob(
        submission_id="t1", window_uri="file:///w", artifact_uri="file:///a", report_uri="file:///r",
        window_sha256=artifact.digest(content), search=Search(trials=3, seconds=600),
        hyperparameters={"num_trees": 20, "ensemble": 1}, **changes,
    )  # fmt: skip


def test_held_out_runs_have_no_say_in_what_is_chosen() -> None:
    dice = np.random.default_rng(4)
    outcomes = ["failure" if each < 0.3 else "success" for each in dice.random(600)]
    rows = plain_rows(outcomes)
    cut = 450
    turned = [
        {
            **row,
            "outcome": {"failure": "success", "success": "failure"}[row["outcome"]],
            "finished_at": row["started_at"],
            "actor": f"somebody else {number}",
            "branch": "another",
        }
        if number >= cut
        else row
        for number, row in enumerate(rows)
    ]
    told = []
    for each in (rows, turned):
        content = window.write(each)
        found = train.train(content, job(content))
        assert found.searched is not None
        told.append((dataclasses.replace(found.searched, seconds=0), found.metrics.failures))
    assert told[0][0] == told[1][0]
    assert told[0][1] + told[1][1] == 150, "the held-out part was not turned"


def test_known_runs_do_have_a_say() -> None:
    dice = np.random.default_rng(4)
    outcomes = ["failure" if each < 0.3 else "success" for each in dice.random(600)]
    losses = set()
    for each in (outcomes, [*outcomes[:400], *("success", "failure") * 25, *outcomes[450:]]):
        content = window.write(plain_rows(each))
        found = train.train(content, job(content))
        assert found.searched is not None
        losses.add(found.searched.default_loss)
    assert len(losses) == 2


def test_the_model_is_made_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    content = window.write(plain_rows(["success", "success", "failure"] * 100))
    monkeypatch.setattr(search, "loss", lambda _, settings, **__: settings["num_leaves"])
    found = train.train(content, job(content))
    fewest = min(search.draw(3, fixed={}, seed=0), key=lambda each: each["num_leaves"])
    assert found.searched is not None
    assert found.searched.hyperparameters == {**fewest, "num_trees": 20, "ensemble": 1}
    fixed = dataclasses.replace(job(content), search=None, hyperparameters=found.searched.hyperparameters)
    assert train.train(content, fixed).content == found.content


def test_ray_is_not_looked_for_where_no_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with tune.cluster() as room:
        assert room == 0


def test_a_cluster_without_ray_tune_is_told_and_trials_come_one_after_another(
    known: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(tune.ADDRESS, "127.0.0.1:1")
    monkeypatch.setattr(search, "WORTH", 0.0)
    monkeypatch.setitem(sys.modules, "ray", None)
    told = search.search(
        known, wanted=Search(trials=2, seconds=60), fixed={"num_trees": 10, "ensemble": 1}, seed=0
    )
    assert (told.trials, told.by) == (2, "Job")
    assert "no Ray Tune" in capsys.readouterr().err


def test_a_cluster_is_not_asked_for_a_search_that_ends_before_ray_tune_began(
    known: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    @contextlib.contextmanager
    def cluster() -> Iterator[int]:
        asked.append(True)
        yield 0

    monkeypatch.setattr(tune, "cluster", cluster)
    for worth in (1e9, 0.0):
        monkeypatch.setattr(search, "WORTH", worth)
        search.search(
            known, wanted=Search(trials=2, seconds=60), fixed={"num_trees": 10, "ensemble": 1}, seed=0
        )
        assert len(asked) == (0 if worth else 1)


@pytest.mark.parametrize(
    ("free", "at_once"),
    [
        ({"CPU": 3.0, "memory": 8e9}, 3),
        ({"CPU": 64.0, "memory": 64e9}, 8),
        ({"CPU": 8.0, "memory": 2.7e9}, 5),
        ({"memory": 8e9}, 0),
        ({"CPU": 0.5, "memory": 8e9}, 0),
    ],
)
def test_no_more_trials_side_by_side_than_cores_and_memory_allow(
    free: dict[str, float], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = SimpleNamespace(init=lambda **_: None, shutdown=lambda: None, available_resources=lambda: free)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", ray)
    monkeypatch.setenv(tune.ADDRESS, "127.0.0.1:1")
    with tune.cluster() as room:
        assert room == at_once


def test_trouble_in_ray_tune_leaves_the_defaults(
    known: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_parameters(*_: Any, **__: Any) -> None:
        raise RuntimeError("the head is gone")

    ray = SimpleNamespace(
        init=lambda **_: None,
        shutdown=lambda: None,
        available_resources=lambda: {"CPU": 1.0, "memory": 2e9},
        tune=SimpleNamespace(with_parameters=with_parameters),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", ray.tune)
    monkeypatch.setenv(tune.ADDRESS, "127.0.0.1:1")
    monkeypatch.setattr(search, "WORTH", 0.0)
    told = search.search(known, wanted=FEW, fixed={"num_trees": 10, "ensemble": 1}, seed=0)
    assert (told.trials, told.asked, told.by) == (1, 3, "RayTune")
    assert "the head is gone" in capsys.readouterr().err
