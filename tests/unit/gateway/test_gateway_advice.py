"""Whether to run a job again and what to mend first, from what was counted."""

from __future__ import annotations

from gateway import advice
from ml.recommend import Prices
from pipewright.store.reports import Reruns

E2E = Reruns(
    project="acme/shop", pipeline="ci", name="e2e", commits=40, disagreed=30, reruns=40, passed=30,
    machine_minutes=300.0, wait_minutes=900.0,
)  # fmt: skip
UNIT = Reruns(
    project="acme/shop", pipeline="ci", name="unit", commits=40, disagreed=0, reruns=40, passed=0,
    machine_minutes=0.0, wait_minutes=0.0,
)  # fmt: skip
ONCE = Reruns(
    project="acme/shop", pipeline="ci", name="lint", commits=1, disagreed=1, reruns=1, passed=1,
    machine_minutes=9000.0, wait_minutes=60.0,
)  # fmt: skip
PRICES = Prices(machine_minute=0.01, person_minute=1.0)


def test_rates_are_of_the_job_where_much_is_known_and_of_the_usual_where_little_is() -> None:
    e2e, unit, lint = advice.retries([E2E, UNIT, ONCE])
    assert (e2e.name, e2e.reruns, e2e.passed) == ("e2e", 40, 30)
    assert 0.5 < e2e.passes.low < e2e.passes.mean < e2e.passes.high < 0.9
    assert unit.passes.high < 0.2
    assert unit.flaky.mean < 0.1 < 0.6 < e2e.flaky.mean
    assert lint.passes.low < 0.3 < 0.5 < lint.passes.mean < 1.0
    assert lint.passes.total == 1


def test_what_surely_gives_two_answers_is_to_be_mended_by_what_that_saves() -> None:
    found = advice.recommendations([UNIT, ONCE, E2E], PRICES)
    assert found[0].name == "e2e"
    assert "unit" not in [each.name for each in found]
    assert 0 < found[0].saves < 300 * 0.01 + 900
    assert found[0].text.startswith("acme/shop / ci / e2e gives different answers on one commit")
    free = advice.recommendations([E2E], Prices(machine_minute=0.0, person_minute=0.0))
    assert [each.saves for each in free] == [0.0]
    assert advice.recommendations([], PRICES) == ()
