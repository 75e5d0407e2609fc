"""Log templates: what is masked, joined and bounded, and that the state is the whole state."""

import random

import pytest

from ml import templates
from ml.templates import Drain, Settings

LOG = [
    "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m",
    "ERROR: Job failed: exit code 137",
    "Pulling image registry.example/app:3f2a9c1 from https://registry.example/v2/app ...",
    "Pulling image registry.example/app:77ab01f from https://other.example/v2/app ...",
    "2026-03-02T09:15:00Z connect to 10.0.0.7:5432 failed after 31.5s",
    "2026-03-02T10:00:01Z connect to 10.0.0.8:5432 failed after 2s",
    "section_start:1656924658:cleanup_file_variables",
    "",
]


def test_what_varies_is_masked_and_lines_of_one_kind_are_one_template() -> None:
    drain = Drain()
    numbers = [drain.learn(line) for line in LOG]
    assert numbers == [0, 0, 1, 1, 2, 2, None, None]
    assert [template.text for template in drain.templates.values()] == [
        "ERROR: Job failed: exit code <*>",
        "Pulling image registry.example/app:<*> from <*> ...",
        "<*> connect to <*> failed after <*>",
    ]
    assert [template.count for template in drain.templates.values()] == [2, 2, 2]
    assert drain.match("ERROR: Job failed: exit code 255") == 0
    assert drain.match("something else entirely") is None


def lines(count: int) -> list[str]:
    chance = random.Random(5)
    verbs = ["fetch", "build", "push", "test", "lint"]
    return [
        f"{chance.choice(verbs)} {chance.choice('abcdefgh')}-{chance.choice('xyz')} "
        + " ".join(chance.choice(["ok", "slow", "retry", "done"]) for _ in range(chance.randrange(1, 6)))
        for _ in range(count)
    ]


def test_the_state_goes_through_json_and_goes_on_where_it_stood() -> None:
    """Also while templates are dropped and nodes are full: the order of what goes first is kept."""
    settings = Settings(children=3, leaf=4, templates=20)
    whole, first = Drain(settings), Drain(settings)
    stream = lines(400)
    told = [whole.learn(line) for line in stream]
    assert [first.learn(line) for line in stream[:200]] == told[:200]
    second = Drain.from_json(first.to_json())
    assert [second.learn(line) for line in stream[200:]] == told[200:]
    assert second.to_json() == whole.to_json()
    assert len(whole.templates) == 20
    assert max(number for number in told if number is not None) > 20


def test_memory_is_bounded_whatever_comes() -> None:
    drain = Drain(Settings(children=5, leaf=3, templates=30))
    chance = random.Random(1)
    for _ in range(600):
        drain.learn(" ".join("".join(chance.choices("ghijkl", k=4)) for _ in range(chance.randrange(1, 90))))
    assert len(drain.templates) <= 30
    assert sum(len(leaf) for leaf in drain._leaves.values()) == len(drain.templates)
    assert all(len(leaf) <= 3 for leaf in drain._leaves.values())
    assert len(drain._children) <= 30 * len(next(iter(drain._leaves)))
    assert len(templates.tokens("a " * 5000)) == templates.MAX_TOKENS


def test_another_text_is_refused() -> None:
    for text in ("{}", "[]", '{"format": "other/1"}', "no json"):
        with pytest.raises(ValueError, match="not log templates"):
            Drain.from_json(text)
