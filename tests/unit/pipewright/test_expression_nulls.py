"""Nulls: the binding drops a reference to None for each that it gives, which must not add up."""

import sys
from typing import Any

import pytest

from pipewright import expressions
from pipewright.expressions import EvaluationError, Payload

ROUNDS = 500
BODY: dict[str, Any] = {"none": None, "text": "x", "list": [None, 1, [None]], "map": {"a": {"b": None}}}
SCOPE = expressions.bind_payload(Payload(body=BODY, headers={}))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("null", None),
        ("body.none", None),
        ("body.text == 'x' ? null : body.text", None),
        ("body.list", [None, 1, [None]]),
        ("body.map", {"a": {"b": None}}),
        ("[null, body.none, 'x']", [None, None, "x"]),
        ("{'a': body.none}", {"a": None}),
        ("body.list.size()", 3),
        ("body.absent", EvaluationError),
    ],
)
def test_nulls_leave_as_many_references_as_there_were(source: str, value: Any) -> None:
    program = expressions.payloads().expression(source)

    def ask() -> Any:
        try:
            return program.value(SCOPE)
        except EvaluationError:
            return EvaluationError

    assert ask() == value
    before = sys.getrefcount(None)
    for _ in range(ROUNDS):
        ask()
    # other threads and caches move it by a few; one for each round would show
    assert abs(sys.getrefcount(None) - before) < ROUNDS / 2
