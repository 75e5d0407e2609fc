"""Which questions to the API server need no kubectl."""

from __future__ import annotations

import pytest

from dev.kubectl import _Asked


@pytest.mark.parametrize(
    ("arguments", "kind", "name", "namespace", "selectors"),
    [
        (("tenant", "acme"), "tenant", "acme", "default", {}),
        (("secret", "it", "-n", "acme"), "secret", "it", "acme", {}),
        (("--namespace", "acme", "workflowruns"), "workflowruns", "", "acme", {}),
        (("secrets", "-A", "-l", "a=b"), "secrets", "", None, {"labelSelector": "a=b"}),
        (("events", "--field-selector=reason=x"), "events", "", "default", {"fieldSelector": "reason=x"}),
    ],
)
def test_a_simple_question_is_understood(
    arguments: tuple[str, ...], kind: str, name: str, namespace: str | None, selectors: dict[str, str]
) -> None:
    asked = _Asked.read(arguments)
    assert asked == _Asked(kind=kind, name=name, namespace=namespace, selectors=selectors)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenants,models", "-A"),
        ("tenants.pipewright.dev",),
        ("tenant/acme",),
        ("tenant", "acme", "globex"),
        ("tenant", "acme", "--watch"),
        ("tenant", "acme", "-l", "a=b"),
    ],
)
def test_other_questions_are_kubectls(arguments: tuple[str, ...]) -> None:
    assert _Asked.read(arguments) is None
