"""Errors as the driver sorts them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipewright import errors
from pipewright.api.v1alpha1 import Tenant
from pipewright.runtime import verdict

SOON, NEVER = errors.Waiting("Soon", "x"), errors.Stalled("Never", "x")
DOWN, BUG = errors.Unreachable("x"), ValueError("x")

PRINCIPALS = {
    "an error alone": (DOWN, DOWN),
    "what needs a person before what waits": (ExceptionGroup("g", [SOON, NEVER]), NEVER),
    "a surprise before both": (ExceptionGroup("g", [SOON, ExceptionGroup("h", [NEVER, BUG])]), BUG),
    "the first of equals": (ExceptionGroup("g", [DOWN, BUG]), DOWN),
}


@pytest.mark.parametrize("case", PRINCIPALS)
def test_a_condition_tells(case: str) -> None:
    error, told = PRINCIPALS[case]
    assert verdict.principal(error) is told


def test_the_leaves_of_nested_groups_keep_their_order() -> None:
    error = ExceptionGroup("g", [SOON, ExceptionGroup("h", [NEVER]), BUG])
    assert verdict.leaves(error) == (SOON, NEVER, BUG)


def test_an_invalid_spec_names_path_and_rule_but_no_value_and_no_validators_text() -> None:
    manifest = {
        "metadata": {"name": "t"},
        "spec": {"namespaces": [{"name": "UPPER-canary"}], "podSecurity": "canary"},
    }
    with pytest.raises(ValidationError) as refused:
        Tenant.parse(manifest)
    message = verdict.invalid_spec(Tenant, refused.value)
    assert "spec.namespaces[0].name: " in message
    assert "spec.podSecurity: Input should be 'restricted', 'baseline' or 'privileged'" in message
    assert "canary" not in message


def test_a_manifest_of_another_kind_does_not_quote_it() -> None:
    with pytest.raises(ValidationError) as refused:
        Tenant.parse({"kind": "canary", "metadata": {}})
    assert verdict.invalid_spec(Tenant, refused.value).startswith("the object: is not valid")
