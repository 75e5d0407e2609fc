"""Drift: what differs in our fields, and what does not count."""

from __future__ import annotations

from typing import Any

import pytest

from pipewright.backends import kubernetes
from pipewright.fields import (
    APPLIED,
    MANAGER,
    changed_by_others,
    differences,
    drifted,
    left_over,
    stamped,
    told,
)

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


POLICY = {"kind": "NetworkPolicy", "spec": {"podSelector": {}, "ingress": [], "egress": [{"to": [{"a": 1}]}]}}
OPENED: dict[str, dict[str, Any]] = {
    "a rule that somebody added": {"ingress": [{}]},
    "pods that somebody left out": {"podSelector": {"matchLabels": {"a": "b"}}},
    "a port range that somebody widened": {"egress": [{"to": [{"a": 1}], "ports": [{"port": 1}]}]},
    "another field": {"policyTypes": ["Ingress"]},
}


@pytest.mark.parametrize("sentence", OPENED)
def test_in_a_network_policy_what_others_add_is_drift(sentence: str) -> None:
    stored: dict[str, Any] = {"kind": "NetworkPolicy", "spec": {"egress": [{"to": [{"a": 1}]}]}}
    assert not drifted(POLICY, stored)
    assert drifted(POLICY, {**stored, "spec": {**stored["spec"], **OPENED[sentence]}})


def test_a_subject_that_somebody_added_is_drift() -> None:
    binding = {"kind": "RoleBinding", "subjects": [{"kind": "User", "name": "ada"}]}
    assert drifted(binding, {"subjects": [*binding["subjects"], {"kind": "User", "name": "eve"}]})


def owned(manager: str, fields: dict[str, Any], *, at: str = "2026-01-01T10:20:30Z", **more: Any) -> Any:
    return {"manager": manager, "time": at, "fieldsV1": fields, **more}


HARD = {"f:spec": {"f:hard": {"f:pods": {}}}}
QUOTA = stamped({"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}})


def quota(*entries: Any, pods: str = "9", annotations: Any = None) -> Any:
    metadata = {**QUOTA["metadata"], "managedFields": list(entries)}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {**QUOTA, "metadata": metadata, "spec": {"hard": {"pods": pods}}}


CHANGES: dict[str, tuple[Any, list[str]]] = {
    "nothing differs": (quota(pods="3"), []),
    "the owner of the field is told, with the minute": (
        quota(owned("pipewright", {}), owned("kubectl-edit", HARD)),
        ["spec.hard.pods was changed by kubectl-edit at 2026-01-01T10:20Z"],
    ),
    "the last of several owners is told": (
        quota(owned("a", HARD, at="2026-01-01T00:00:00Z"), owned("b", HARD, at="2026-01-02T00:00:00Z")),
        ["spec.hard.pods was changed by b at 2026-01-02T00:00Z"],
    ),
    "who owns what the field lies in as a whole owns the field": (
        quota(owned("helm", {"f:spec": {"f:hard": {}}})),
        ["spec.hard.pods was changed by helm at 2026-01-01T10:20Z"],
    ),
    "the writer of the status changed nothing of the spec": (
        quota(owned("kube-controller-manager", HARD, subresource="status"), annotations={}),
        [],
    ),
    "a field that nobody owns any more was changed by somebody": (
        quota(owned("kubectl-edit", {})),
        ["spec.hard.pods was changed"],
    ),
    "another wish of ours is nobody's doing": (
        quota(owned("pipewright", HARD), annotations={APPLIED: "x"}),
        [],
    ),
    "somebody's doing shows beside another wish of ours": (
        quota(owned("kubectl-edit", HARD), annotations={APPLIED: "x"}),
        ["spec.hard.pods was changed by kubectl-edit at 2026-01-01T10:20Z"],
    ),
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_changed_by_others(sentence: str) -> None:
    found, expected = CHANGES[sentence]
    assert [str(change) for change in changed_by_others(QUOTA, found)] == expected


def test_no_value_is_told() -> None:
    found = quota(owned("kubectl-edit", HARD), pods="4711")
    assert "4711" not in told(differences(QUOTA, found)) + str(changed_by_others(QUOTA, found))


def test_many_fields_are_told_as_a_few_and_a_number() -> None:
    wanted = {"spec": {f"f{index}": 1 for index in range(10)}}
    assert told(differences(wanted, {})).endswith("spec.f7 and 2 more")


def labels(*keys: str) -> Any:
    return {"f:metadata": {"f:labels": {".": {}, **{f"f:{key}": {} for key in keys}}}}


def test_left_over_is_what_we_alone_set_and_no_longer_want() -> None:
    there = {"wanted": "a", "dropped": "b", "shared": "c", "theirs": "d", "kubernetes.io/metadata.name": "e"}
    entries = [
        owned("pipewright", labels("wanted", "dropped", "shared", "kubernetes.io/metadata.name", "gone")),
        owned("kubectl", labels("shared", "theirs")),
    ]
    found = {"metadata": {"labels": there, "managedFields": entries}}
    wanted = {"metadata": {"labels": {"wanted": "a"}}}
    assert left_over(wanted, found, field="labels") == ("dropped",)
    assert left_over(wanted, {"metadata": {"labels": there}}, field="labels") == ()


def test_the_backend_writes_under_the_name_that_we_look_for() -> None:
    assert kubernetes.FIELD_MANAGER == MANAGER
