"""Flaky lines, retry advice, durations, anomalies, recommendations and intervals: pure tables."""

import random

import numpy as np
import pytest

from ml import anomaly, durations, flaky, intervals, recommend
from ml.flaky import Attempt, Counts, Prior


def attempts(line: str, *commits: str) -> list[Attempt]:
    """Each commit as its results in order: FP is failed, then passed."""
    return [
        Attempt(line=line, commit=f"{line}{number}", finished_at=100.0 * number + place, failed=result == "F")
        for number, results in enumerate(commits)
        for place, result in enumerate(results)
    ]


def test_flaky_is_what_disagrees_on_one_commit_in_whatever_order_it_comes() -> None:
    seen = attempts("ui", "FP", "P", "PP", "FFP", "FF") + attempts("unit", "F", "P")
    random.Random(3).shuffle(seen)
    counts = flaky.count(seen)
    assert counts == {"ui": Counts(4, 2, 4, 2), "unit": Counts(0, 0, 0, 0)}
    rates = flaky.flaky_rates(counts)
    assert rates["ui"].low < rates["ui"].mean < rates["ui"].high
    assert rates["unit"].total == 0
    assert rates["unit"].high - rates["unit"].low > rates["ui"].high - rates["ui"].low


def test_the_posterior_is_betas() -> None:
    found = Prior(mean=0.5, weight=2).rate(0, 0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))  # uniform
    assert Prior(mean=0.5, weight=2).rate(3, 4).mean == pytest.approx(4 / 6)
    assert Prior(mean=0.1, weight=4).rate(900, 1000).mean == pytest.approx(0.9, abs=0.005)


def test_a_retry_is_judged_by_the_line_and_before_that_by_the_tenant() -> None:
    counts = flaky.count(attempts("ui", *["FP"] * 30) + attempts("unit", *["FF"] * 30))
    ui, unit, new = (flaky.retry(counts, line) for line in ("ui", "unit", "new"))
    assert ui.mean > 0.9 > new.mean > 0.1 > unit.mean
    assert new.high - new.low > 0.5
    assert flaky.advice(ui, machine_cost=1, wait_cost=20).startswith("run it again")
    assert flaky.advice(unit, machine_cost=5, wait_cost=20).startswith("do not run it again")
    assert "worth a try" in flaky.advice(new, machine_cost=5, wait_cost=20)
    told = flaky.Rate(mean=0.95, low=0.9, high=0.99, total=0)
    assert flaky.retry(counts, "new", usual=told).mean == pytest.approx(0.95)


def test_a_forecast_rests_on_the_line_then_the_project_then_all() -> None:
    recent = durations.Recent()
    assert recent.forecast("p", "a") is None
    for seconds in range(1, 11):
        recent.add("p", "a", 60.0 * seconds)
    for _ in range(durations.FEW - 1):
        recent.add("p", "b", 10.0)
    own, shared, other = recent.forecast("p", "a"), recent.forecast("p", "b"), recent.forecast("q", "c")
    assert own is not None
    assert shared is not None
    assert other is not None
    assert (own.basis, shared.basis, other.basis) == ("of this line", "of this project", "of all projects")
    assert own.quantiles[0.5] == pytest.approx(330.0)
    assert own.text == "about 6 min, in nine of ten cases under 9 min (10 runs of this line)"


def test_the_quantile_model_learns_what_the_last_run_tells() -> None:
    chance = np.random.default_rng(1)
    features = np.zeros((1200, len(durations.FEATURES)))
    features[:, 0] = chance.choice([-1.0, 1.0], 1200)
    scaled = features[:, 0] + chance.normal(0, 0.1, 1200)
    model = durations.DurationModel.fit(features[:900], scaled[:900], rounds=60)
    said = model.quantiles(features[900:], np.full(300, 60.0))
    actual = 60 * np.exp(scaled[900:])
    assert (np.diff(said, axis=1) >= 0).all()
    assert 0.82 < durations.covered(actual, said[:, 1]) < 0.97
    flat = np.full(300, np.quantile(60 * np.exp(scaled[:900]), 0.9))
    assert durations.pinball(actual, said[:, 1], 0.9) < 0.3 * durations.pinball(actual, flat, 0.9)
    assert durations.pinball(np.array([10.0]), np.array([4.0]), 0.9) == pytest.approx(5.4)
    assert durations.pinball(np.array([4.0]), np.array([10.0]), 0.9) == pytest.approx(0.6)


def test_one_slow_run_is_an_outlier_and_a_lasting_rise_a_shift() -> None:
    usual = [60.0, 62, 58, 61, 59, 60, 63, 57, 60, 61]
    assert anomaly.robust_z(usual[:3], 500) is None
    slow, same = anomaly.robust_z(usual, 300), anomaly.robust_z(usual, 61)
    assert slow is not None
    assert same is not None
    assert slow > anomaly.OUTLIER > abs(same)
    once, state = anomaly.Cusum().step(50.0), anomaly.Cusum()
    assert not once.shifted
    for _ in range(6):
        state = state.step(2.0)
    assert state.shifted == 1
    chance, quiet, alarms = random.Random(2), anomaly.Cusum(), 0
    for _ in range(3000):
        quiet = quiet.step(chance.gauss(0, 1))
        alarms += bool(quiet.shifted)
    assert alarms == 0


def test_an_incident_is_told_after_a_few_failures_and_not_without() -> None:
    chance, state, alarms = random.Random(4), anomaly.FailureCusum(), 0
    for _ in range(500):
        state = state.step(failed=chance.random() < 0.1, usual=0.1)
        alarms += state.risen
    assert alarms == 0
    state, steps = anomaly.FailureCusum(), 0
    while not state.risen:
        state, steps = state.step(failed=True, usual=0.1), steps + 1
    assert steps == state.since == 8


def test_hosts_are_those_of_the_lines_with_trouble() -> None:
    log = "Downloading https://fine.example/a\nfatal: unable to access 'https://Git.Example.org/x': "
    log += "Empty reply from server"
    assert anomaly.hosts(log) == {"git.example.org"}
    assert anomaly.hosts(
        "error: dial tcp: lookup registry.example.com on 10.0.0.1:53: server misbehaving"
    ) == {"registry.example.com"}


def test_recommendations_come_by_what_they_save() -> None:
    prices = recommend.Prices(machine_minute=0.01, person_minute=1.0)
    often = recommend.Loss(count=300, machine_minutes=900, person_minutes=10)
    rarely = recommend.Loss(count=3, machine_minutes=10, person_minutes=400)
    ranked = recommend.categories({"docker_pull_limit_reached": often, "git_transient_error": rarely}, prices)
    assert [(each.category, each.subject, each.saves) for each in ranked] == [
        ("git_transient_error", "service", pytest.approx(400.1)),
        ("docker_pull_limit_reached", "platform", pytest.approx(19.0)),
    ]
    rates = {"ui": Prior().rate(30, 60), "new": Prior().rate(1, 1)}
    steps = recommend.flaky({"ui": rarely, "new": rarely, "other": often}, rates, prices, least=0.2)
    assert [each.subject for each in steps] == ["ui"]
    assert 100 < steps[0].saves < 400.1 * 0.5


def test_the_interval_holds_the_statistic_and_widens_when_rows_stand_in_blocks() -> None:
    values = np.array([0.0] * 50 + [1.0] * 50)
    rows = intervals.bootstrap(lambda at: float(values[at].mean()), range(100), draws=400)
    blocks = intervals.bootstrap(
        lambda at: float(values[at].mean()), [row // 25 for row in range(100)], draws=400
    )
    assert rows[0] < 0.5 < rows[1]
    assert rows[1] - rows[0] == pytest.approx(0.2, abs=0.06)
    assert blocks[1] - blocks[0] > 2 * (rows[1] - rows[0])
    assert rows == intervals.bootstrap(lambda at: float(values[at].mean()), range(100), draws=400)
