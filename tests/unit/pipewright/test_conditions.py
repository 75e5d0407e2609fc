"""Conditions: what a plan said and what came of it, as a table of sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipewright import conditions, errors
from pipewright.api.meta import Condition
from pipewright.plan import Chain, Failure, Plan, Results, merge, says

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=1)
TYPES = ("AReady", "BReady")
ALL_WELL: Plan[Any] = merge(says("AReady", True, "A", "a is there"), says("BReady", True, "B", "b is there"))


def told(
    plan: Plan[Any] = ALL_WELL, results: Results | None = None, previous: tuple[Condition, ...] = ()
) -> dict[str, tuple[str, str]]:
    made = conditions.project(
        previous, types=TYPES, plan=plan, results=results or Results(), generation=3, now=NOW
    )
    return {condition.type: (condition.status, condition.reason) for condition in made}


def failing(error: Exception) -> tuple[Plan[Any], Results]:
    plan = merge(Plan(chains=(Chain(serves="AReady", actions=("do a",)),)), says("BReady", True, "B", ""))
    return plan, Results(failures=(Failure(serves="AReady", action="do a", error=error),))


CASES: dict[str, tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]] = {
    "everything true makes Ready True": (
        told(),
        {
            "Ready": ("True", "Ready"),
            "AReady": ("True", "A"),
            "Reconciling": ("False", "Idle"),
            "Stalled": ("False", "NotStalled"),
        },
    ),
    "what is being done is not ready yet": (
        told(merge(Plan(chains=(Chain(serves="BReady", actions=("do b",)),)), ALL_WELL)),
        {
            "Ready": ("False", "Progressing"),
            "BReady": ("False", "Progressing"),
            "AReady": ("True", "A"),
            "Reconciling": ("True", "Progressing"),
        },
    ),
    "waiting is Reconciling, not Stalled": (
        told(*failing(errors.Waiting("Soon", "comes"))),
        {"Ready": ("False", "Soon"), "Reconciling": ("True", "Soon"), "Stalled": ("False", "NotStalled")},
    ),
    "a stalled chain is Stalled, not Reconciling": (
        told(*failing(errors.Stalled("Refused", "change it"))),
        {"Ready": ("False", "Refused"), "Reconciling": ("False", "Idle"), "Stalled": ("True", "Refused")},
    ),
    "a foreign exception is named Internal": (
        told(*failing(RuntimeError("password=hunter2"))),
        {"Ready": ("False", "Internal"), "Reconciling": ("True", "Internal")},
    ),
    "an aspect that nobody spoke about yet is Unknown and Ready is False": (
        told(says("AReady", True, "A", "")),
        {"Ready": ("False", "NotYetChecked"), "BReady": ("Unknown", "NotYetChecked")},
    ),
    "what is False explains Ready before what is Unknown": (
        told(says("BReady", False, "Broken", "fix it")),
        {"Ready": ("False", "Broken"), "AReady": ("Unknown", "NotYetChecked")},
    ),
    "a stalled fact is Stalled": (
        told(merge(says("AReady", False, "Owned", "", stalled=True), says("BReady", True, "B", ""))),
        {"Stalled": ("True", "Owned"), "Ready": ("False", "Owned")},
    ),
    "a false fact beats a true one about the same aspect": (
        told(merge(ALL_WELL, says("AReady", False, "Gone", ""))),
        {"AReady": ("False", "Gone")},
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_project(sentence: str) -> None:
    found, expected = CASES[sentence]
    assert {key: found[key] for key in expected} == expected


def test_a_transition_time_changes_with_the_status_only() -> None:
    first = conditions.project((), types=TYPES, plan=ALL_WELL, results=Results(), generation=1, now=BEFORE)
    again = conditions.project(first, types=TYPES, plan=ALL_WELL, results=Results(), generation=1, now=NOW)
    assert again == first
    broken = merge(ALL_WELL, says("AReady", False, "Gone", ""))
    changed = conditions.project(again, types=TYPES, plan=broken, results=Results(), generation=2, now=NOW)
    times = {condition.type: condition.last_transition_time for condition in changed}
    assert times["AReady"] == NOW
    assert times["BReady"] == BEFORE


def test_no_text_of_a_foreign_exception_reaches_a_condition() -> None:
    plan, results = failing(RuntimeError("password=hunter2"))
    made = conditions.project((), types=TYPES, plan=plan, results=results, generation=1, now=NOW)
    assert not any("hunter2" in condition.message for condition in made)


def test_an_error_of_the_reconcile_itself_keeps_the_aspects() -> None:
    first = conditions.project((), types=TYPES, plan=ALL_WELL, results=Results(), generation=1, now=BEFORE)
    after = conditions.failed(first, errors.Unreachable("no answer"), generation=2, now=NOW)
    found = {condition.type: (condition.status, condition.reason) for condition in after}
    assert found["AReady"] == ("True", "A")
    assert found["Ready"] == ("False", "Unreachable")
    assert found["Reconciling"] == ("True", "Unreachable")
    assert found["Stalled"][0] == "False"


ENDS: dict[str, tuple[str | None, Exception, tuple[str, str, str]]] = {
    "trouble before the end leaves the end open": (
        None,
        errors.Unreachable("no answer"),
        ("Unknown", "Unreachable", "no answer"),
    ),
    "a surprise is no end": ("Unknown", RuntimeError("x"), ("Unknown", "Internal", "an unexpected")),
    "what needs a person is no end": (
        "Unknown",
        errors.Stalled("OwnedByOther", "not ours"),
        ("Unknown", "OwnedByOther", "not ours"),
    ),
    "a spec that cannot be read is the end": (
        "Unknown",
        errors.Stalled("InvalidSpec", "spec.event"),
        ("False", "InvalidSpec", "spec.event"),
    ),
    "a success stays": ("True", errors.Unreachable("no answer"), ("True", "Ended", "as it ended")),
    "a failure stays": ("False", errors.Unreachable("no answer"), ("False", "Ended", "as it ended")),
    "an end stays although the spec cannot be read any more": (
        "True",
        errors.Stalled("InvalidSpec", "spec.event"),
        ("True", "Ended", "as it ended"),
    ),
}


@pytest.mark.parametrize("sentence", ENDS)
def test_the_summary_of_a_bounded_kind(sentence: str) -> None:
    status, error, expected = ENDS[sentence]
    said = {"type": "Succeeded", "status": status, "reason": "Ended", "message": "as it ended"}
    previous = (Condition(**said, last_transition_time=BEFORE),) if status else ()
    told = conditions.failed(previous, error, generation=1, now=NOW, summary="Succeeded", bounded=True)
    found = conditions.find(told, "Succeeded")
    assert found is not None
    assert (found.status, found.reason) == expected[:2]
    assert found.message.startswith(expected[2])


def test_find_and_is_true() -> None:
    made = conditions.project((), types=TYPES, plan=ALL_WELL, results=Results(), generation=1, now=NOW)
    assert conditions.is_true(made, "AReady")
    assert not conditions.is_true(made, "Stalled")
    assert conditions.find(made, "Nothing") is None


def test_an_aspect_that_stands_apart_says_nothing_of_the_summary() -> None:
    for status in (False, None):
        plan: Plan[Any] = merge(ALL_WELL, says("Apart", status, "Hole", "a door is open"))
        made = conditions.project(
            (), types=(*TYPES, "Apart"), plan=plan, results=Results(), generation=1, now=NOW, apart=("Apart",)
        )
        assert conditions.is_true(made, "Ready")
        found = conditions.find(made, "Apart")
        assert found is not None
        assert found.reason == "Hole"


@pytest.mark.parametrize("error", [errors.Unreachable("no answer"), errors.Stalled("Refused", "change it")])
def test_a_quiet_failure_says_nothing_of_any_condition(error: Exception) -> None:
    results = Results(failures=(Failure(serves="AReady", action="sweep", error=error, quiet=True),))
    assert told(ALL_WELL, results) == told(ALL_WELL)
