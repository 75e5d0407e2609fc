"""Expressions: the Common Expression Language wherever a user or a connector writes a condition or a value.

An environment says what an expression may name. Compile once, bind the values once for any number of
expressions, ask:

    conditions = expressions.conditions("pipelinerun.finished")
    condition = conditions.condition("event.outcome == 'failure' && prediction.retry.probability > 0.7")
    condition.holds(expressions.bind_event(conditions, event, prediction))

Everything that can be known without the values is an `ExpressionError` with line and column at compile time:
syntax, undeclared names, unknown fields, wrong types, too high a cost. What is known only with them is an
`EvaluationError`. Nothing else comes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pipewright import events
from pipewright.expressions import cost, types
from pipewright.expressions.engine import (
    MAX_EXPRESSION,
    Bundle,
    Condition,
    Environment,
    EvaluationError,
    ExpressionError,
    Program,
    Scope,
    untyped,
)
from pipewright.expressions.templates import Template, text_of
from pipewright.expressions.types import StepResult

__all__ = [
    "MAX_EXPRESSION",
    "Bundle",
    "Condition",
    "Environment",
    "EvaluationError",
    "ExpressionError",
    "Payload",
    "Program",
    "Scope",
    "StepResult",
    "Template",
    "answers",
    "bind_answer",
    "bind_event",
    "bind_input",
    "bind_item",
    "bind_items",
    "bind_payload",
    "bind_result",
    "bind_step",
    "conditions",
    "findings",
    "inputs",
    "items",
    "outputs",
    "payloads",
    "steps",
    "text_of",
]

_PAYLOAD: Final = cost.Bounds(dyn_size=1024 * 1024, dyn_items=10_000, made=32 * 1024 * 1024, cost=50_000_000)
"""Whole request bodies, seen only by the manifests that the platform ships."""
_USER_PAYLOAD: Final = cost.Bounds(dyn_size=256 * 1024, dyn_items=1000, made=4 * 1024 * 1024, cost=2_000_000)
"""What rules that a user wrote may read of them."""
_USER_ITEM: Final = cost.Bounds(dyn_size=16 * 1024, dyn_items=200, made=1024 * 1024, cost=200_000)
"""What they may read for each element of a list: asked hundreds of times."""
_ITEM: Final = cost.Bounds(dyn_size=32 * 1024, dyn_items=500, made=32 * 1024 * 1024, cost=50_000_000)
"""What they read of one item of a list: small, so that its own lists may be searched."""
_INPUT: Final = cost.Bounds(made=8 * 1024 * 1024, cost=10_000_000)
"""Inputs and settings, seen only by those manifests too."""


@cache
def conditions(event_type: events.EventType) -> Environment:
    """For a trigger's `if`: `event` (typed for this type of event) and `prediction`."""
    return Environment({"event": event_type, "prediction": "Prediction"})


def bind_event(environment: Environment, event: events.Event, prediction: events.Prediction | None) -> Scope:
    """The scope of `conditions(event.type)`. Without a prediction all of its fields are null."""
    return environment.bind(event=types.event_message(event), prediction=types.prediction_message(prediction))


@cache
def steps(event_type: events.EventType) -> Environment:
    """For a step's `if` and `with`: as `conditions`, and `steps`, the results of earlier steps by name."""
    return Environment({"event": event_type, "prediction": "Prediction", "steps": "map(string, Step)"})


def bind_step(
    environment: Environment,
    event: events.Event,
    prediction: events.Prediction | None,
    results: Mapping[str, StepResult],
) -> Scope:
    """The scope of `steps(event.type)`.

    Raises:
        EvaluationError: an output is longer than expressions may handle.
    """
    limits = environment.bounds
    for name, result in results.items():
        if len(result.outputs) > limits.items or any(
            len(text.encode()) > limits.text for text in result.outputs.values()
        ):
            raise EvaluationError(f"the outputs of step {name} are too big for expressions")
    return environment.bind(
        event=types.event_message(event),
        prediction=types.prediction_message(prediction),
        steps={name: types.step_message(result) for name, result in results.items()},
    )


@cache
def outputs() -> Environment:
    """For a step's `outputs`: `result`, untyped, what the action gave."""
    return Environment({"result": "dyn"})


def bind_result(result: Any) -> Scope:
    """The scope of `outputs()`.

    Raises:
        EvaluationError: the result is too big or no JSON.
    """
    environment = outputs()
    return environment.bind(result=_bounded(result, environment))


@cache
def inputs() -> Environment:
    """For a connector's requests: `input` (an action's inputs) and `config` (the integration's)."""
    return Environment({"input": "map(string, dyn)", "config": "map(string, dyn)"}, bounds=_INPUT)


def bind_input(values: Mapping[str, Any], config: Mapping[str, Any]) -> Scope:
    """The scope of `inputs()`.

    Raises:
        EvaluationError: a value is too big or no JSON.
    """
    environment = inputs()
    return environment.bind(
        input=_bounded(dict(values), environment), config=_bounded(dict(config), environment)
    )


def _bounded(value: Any, environment: Environment) -> Any:
    clean = untyped(value, max_items=environment.bounds.dyn_items)
    if len(json.dumps(clean, ensure_ascii=False).encode()) > environment.bounds.dyn_size:
        raise EvaluationError(f"a value has more than {environment.bounds.dyn_size // 1024} KiB")
    return clean


@cache
def answers() -> Environment:
    """For what a provider answers: `body` (JSON), `status`, `headers` (lower-case names), a text's `tail`."""
    return Environment(
        {"body": "dyn", "status": "int", "headers": "map(string, string)", "tail": "string"},
        bounds=_PAYLOAD,
    )


def bind_answer(body: Any, status: int, headers: Mapping[str, str], *, tail: str = "") -> Scope:
    """The scope of `answers()`; `tail` is no longer than a text may be.

    Raises:
        EvaluationError: the body is nested too deeply or has too many entries.
    """
    return answers().bind(
        body=untyped(body, max_items=_PAYLOAD.dyn_items),
        status=status,
        headers=untyped(dict(headers), max_items=_PAYLOAD.dyn_items),
        tail=untyped(tail, max_items=0),
    )


@cache
def findings() -> Environment:
    """For what is looked for in a provider's list: `item`, and `input` (an action's inputs)."""
    return Environment({"item": "dyn", "input": "map(string, dyn)"}, bounds=_ITEM)


def bind_finding(item: Any, values: Mapping[str, Any]) -> Scope:
    """The scope of `findings()`.

    Raises:
        EvaluationError: what is read of the item is nested too deeply or too big, or an input is.
    """
    environment = findings()
    return environment.bind(item=_bounded(item, environment), input=_bounded(dict(values), environment))


@cache
def items() -> Environment:
    """For what a list of a provider's history says: `item`, `parent` (of a list within another), `lookup`.

    And `input`: what the list was asked for with, which the items further out have told.
    """
    return Environment(
        {
            "item": "dyn",
            "parent": "dyn",
            "project": "string",
            "lookup": "dyn",
            "input": "map(string, string)",
        },
        bounds=_ITEM,
    )


def bind_item(
    item: Any,
    *,
    parent: Any,
    project: str,
    lookup: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
) -> Scope:
    """The scope of `items()`; `lookup` is the manifest's own and clean.

    Raises:
        EvaluationError: what is read of the item is nested too deeply or too big.
    """
    environment = items()
    return environment.bind(
        item=_bounded(item, environment),
        parent=_bounded(parent, environment),
        project=untyped(project, max_items=0),
        lookup=dict(lookup),
        input=untyped(dict(inputs or {}), max_items=_ITEM.dyn_items),
    )


def payloads(*, of_user: bool = False, item: bool = False) -> Environment:
    """For a mapping: `body` (JSON), `headers` (lower-case names), `lookup` (its tables), `config`.

    With `item` there is `item` too, an element of the list that is mapped. A user's is bound tighter.
    """
    return _payloads(of_user, item)


@cache
def _payloads(of_user: bool, item: bool) -> Environment:
    variables = {"body": "dyn", "headers": "map(string, string)", "lookup": "dyn", "config": "dyn"}
    return Environment(
        variables | ({"item": "dyn"} if item else {}),
        bounds=(_USER_ITEM if item else _USER_PAYLOAD) if of_user else _PAYLOAD,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What is bound for a mapping; `lookup` and `config` are clean."""

    body: Any
    headers: Mapping[str, str]
    lookup: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def bind_payload(payload: Payload, *, of_user: bool = False) -> Scope:
    """The scope of `payloads()`.

    Raises:
        EvaluationError: the body is nested too deeply, has too many entries or is too big.
    """
    return next(bind_items(payload, None, of_user=of_user))


def bind_items(payload: Payload, items: list[Any] | None, *, of_user: bool = False) -> Iterator[Scope]:
    """A scope of `payloads(item=True)` for each of the items; for None one of `payloads()`.

    Raises:
        EvaluationError: as `bind_payload`, of the body or of an item.
    """
    environment = payloads(of_user=of_user, item=items is not None)

    def clean(value: Any) -> Any:
        if of_user:
            return _bounded(value, environment)
        return untyped(value, max_items=environment.bounds.dyn_items)

    shared = {
        "body": clean(payload.body),
        "headers": untyped(dict(payload.headers), max_items=_PAYLOAD.dyn_items),
        "lookup": dict(payload.lookup),
        "config": dict(payload.config),
    }
    if items is None:
        yield environment.bind(**shared)
        return
    for item in items:
        yield environment.bind(**shared, item=clean(item))
