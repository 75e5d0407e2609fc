"""Drift: what differs in our fields, and what does not count."""

from __future__ import annotations

from typing import Any

import pytest

from pipewright.fields import APPLIED, drifted, stamped

CASES: dict[str, tuple[Any, Any, bool]] = {
    "the same is no drift": ({"spec": {"a": 1}}, {"spec": {"a": 1}}, False),
    "what the server adds is no drift": ({"spec": {"a": 1}}, {"spec": {"a": 1, "b": 2}, "status": {}}, False),
    "a changed value is drift": ({"spec": {"a": 1}}, {"spec": {"a": 2}}, True),
    "a missing value is drift": ({"spec": {"a": 1}}, {"spec": {}}, True),
    "a missing parent is drift": ({"spec": {"a": 1}}, {}, True),
    "an empty map that the server dropped is no drift": ({"spec": {}}, {}, False),
    "an empty list that the server dropped is no drift": ({"rules": []}, {"rules": None}, False),
    "a longer list is drift": ({"l": [1]}, {"l": [1, 2]}, True),
    "items of a list are compared by our fields": ({"l": [{"a": 1}]}, {"l": [{"a": 1, "b": 2}]}, False),
    "1000m is 1": ({"cpu": "1000m"}, {"cpu": "1"}, False),
    "1024Mi is 1Gi": ({"memory": "1024Mi"}, {"memory": "1Gi"}, False),
    "1k is 1000": ({"pods": "1k"}, {"pods": "1000"}, False),
    "500m is not 5": ({"cpu": "500m"}, {"cpu": "5"}, True),
    "texts that are no quantities are compared as texts": ({"a": "x"}, {"a": "y"}, True),
    "false is not absent": ({"automount": False}, {}, True),
}


@pytest.mark.parametrize("sentence", CASES)
def test_drifted(sentence: str) -> None:
    wanted, found, expected = CASES[sentence]
    assert drifted(wanted, found) is expected


def test_a_field_that_is_no_longer_wanted_is_drift() -> None:
    before = stamped({"metadata": {"name": "a"}, "spec": {"hard": {"pods": "1", "services": "1"}}})
    after = stamped({"metadata": {"name": "a"}, "spec": {"hard": {"pods": "1"}}})
    assert drifted(after, before)


def test_a_stamp_depends_on_the_content_only() -> None:
    one = stamped({"metadata": {"name": "a"}, "spec": {"b": 1, "a": 2}})
    other = stamped({"spec": {"a": 2, "b": 1}, "metadata": {"name": "a"}})
    assert one["metadata"]["annotations"][APPLIED] == other["metadata"]["annotations"][APPLIED]
    assert not drifted(one, other)
