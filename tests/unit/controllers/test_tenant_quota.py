"""The tenant's quota among its namespaces: the parts follow the use, and their sum never exceeds it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from controllers.tenant.rules.quota import CALM, TIGHT, divide
from controllers.tenant.rules.words import SOON
from pipewright.fields import quantity


def found(hard: str, used: str = "0", *, enforced: str | None = None, resource: str = "pods") -> Any:
    """A ResourceQuota as the API server has it; `enforced` is what its controller has noticed last."""
    status = {"hard": {resource: enforced or hard}, "used": {resource: used}}
    return {"spec": {"hard": {resource: hard}}, "status": status}


DIVISIONS: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, str]]] = {
    "one namespace has it all, as it was written": ({"pods": "1k"}, {"a": None}, {"a": "1k"}),
    "new namespaces have equal parts, the remainder goes to the first": (
        {"pods": "5"},
        {"a": None, "b": None},
        {"a": "3", "b": "2"},
    ),
    "each has what it uses and half of what is left": (
        {"pods": "10"},
        {"a": found("5", "5"), "b": found("5", "1")},
        {"a": "5", "b": "3"},  # the two that b gives up are given when the server enforces it
    ),
    "what was given up is given to the other when the server enforces it": (
        {"pods": "10"},
        {"a": found("5", "5"), "b": found("3", "1")},
        {"a": "7", "b": "3"},
    ),
    "until the server enforces the less nobody gets it": (
        {"pods": "10"},
        {"a": found("5", "5"), "b": found("3", "1", enforced="5")},
        {"a": "5", "b": "3"},
    ),
    "the last one goes to the busiest": (
        {"pods": "3"},
        {"a": found("2", "2"), "b": found("0", "0")},
        {"a": "3", "b": "0"},
    ),
    "a little use moves nothing": (
        {"pods": "10"},
        {"a": found("5", "2"), "b": found("5", "1")},
        {"a": "5", "b": "5"},
    ),
    "a new namespace gets nothing before the others gave up": (
        {"pods": "10"},
        {"a": found("10", "2"), "b": None},
        {"a": "6", "b": "0"},
    ),
    "a smaller quota is enforced at once": (
        {"pods": "4"},
        {"a": found("5", "1"), "b": found("5", "1")},
        {"a": "2", "b": "2"},
    ),
    "more used than allowed: each keeps in proportion": (
        {"pods": "4"},
        {"a": found("6", "6"), "b": found("2", "2")},
        {"a": "3", "b": "1"},
    ),
    "CPUs are divided by thousandths": (
        {"requests.cpu": "1"},
        {"a": None, "b": None, "c": None},
        {"a": "334m", "b": "333m", "c": "333m"},
    ),
    "memory is divided by mebibytes": (
        {"requests.memory": "1Gi"},
        {"a": None, "b": None, "c": None},
        {"a": "342Mi", "b": "341Mi", "c": "341Mi"},
    ),
}


@pytest.mark.parametrize("sentence", DIVISIONS)
def test_divide(sentence: str) -> None:
    quota, there, expected = DIVISIONS[sentence]
    [resource] = quota
    parts = divide(quota, there).hard
    assert {name: hard[resource] for name, hard in parts.items()} == expected


def test_when_it_is_looked_at_again() -> None:
    one, quota = {"a": found("10", "9")}, {"pods": "10"}
    assert divide(quota, one).check_after is None
    assert divide({}, {"a": None, "b": None}).check_after is None
    assert divide(quota, {"a": found("5", "1"), "b": found("5")}).check_after == CALM
    assert divide(quota, {"a": found("6", "5"), "b": found("4", "2")}).check_after == TIGHT
    waiting = divide(quota, {"a": found("5", "5"), "b": found("3", "1", enforced="5")})
    assert (waiting.settled, waiting.check_after) == (False, SOON)


class Namespaces:
    """Namespaces that use what the server lets them, and a server that notices a new bound when it likes."""

    def __init__(self, chance: random.Random, count: int, total: int) -> None:
        self.chance, self.total = chance, total
        self.spec: list[int | None] = [None] * count
        self.enforced, self.used = [0] * count, [0] * count

    def there(self) -> dict[str, Any]:
        return {
            f"n{index:02d}": None
            if hard is None
            else found(str(hard), str(self.used[index]), enforced=str(self.enforced[index]))
            for index, hard in enumerate(self.spec)
        }

    def act(self, *, look: bool, apply: int) -> None:
        """Something happens; with `look` the operator divides, and dies after so many writes."""
        index = self.chance.randrange(len(self.spec))
        match self.chance.randrange(3):
            case 0 if self.used[index] < self.enforced[index]:
                self.used[index] += self.chance.randint(1, self.enforced[index] - self.used[index])
            case 1 if self.used[index]:
                self.used[index] -= self.chance.randint(1, self.used[index])
            case _:
                self.enforced[index] = self.spec[index] or 0
        if look:
            hard = list(divide({"pods": str(self.total)}, self.there()).hard.values())
            order = self.chance.sample(range(len(hard)), len(hard))
            for place in order[:apply]:
                self.spec[place] = int(hard[place]["pods"])


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_tenant_never_uses_more_than_its_quota(seed: int) -> None:
    chance = random.Random(seed)
    total, count = chance.choice([1, 3, 10, 1000]), chance.randint(2, 16)
    world = Namespaces(chance, count, total)
    for _ in range(300):
        world.act(look=chance.random() < 0.5, apply=chance.randint(0, count))
        assert sum(hard or 0 for hard in world.spec) <= total
        assert sum(world.used) <= total


def test_with_a_steady_use_the_parts_come_to_rest_and_leave_nothing_over() -> None:
    quota = {"pods": "20", "requests.cpu": "2500m", "requests.memory": "3Gi"}
    world: dict[str, Any] = dict.fromkeys("abc")
    for _ in range(6):
        hard = divide(quota, world).hard
        used = {name: {"pods": "1", "requests.cpu": "10m"} for name in world}
        world = {
            name: {"spec": {"hard": part}, "status": {"hard": part, "used": used[name]}}
            for name, part in hard.items()
        }
    assert divide(quota, world).hard == {name: it["spec"]["hard"] for name, it in world.items()}
    for resource, text in quota.items():
        assert sum(quantity(it["spec"]["hard"][resource]) or 0 for it in world.values()) == quantity(text)


def test_a_namespace_that_is_full_gets_what_others_leave() -> None:
    world = {"a": found("5", "5"), "b": found("5", "0")}
    for _ in range(4):
        parts = divide({"pods": "10"}, world).hard
        world = {name: found(parts[name]["pods"], world[name]["status"]["used"]["pods"]) for name in world}
    assert {name: it["spec"]["hard"]["pods"] for name, it in world.items()} == {"a": "8", "b": "2"}
