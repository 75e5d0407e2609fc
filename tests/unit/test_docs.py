"""The pages of the kinds name every reason that a condition can have: what a user sees can be looked up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ("operator/pipewright/errors.py", "operator/pipewright/runtime", "operator/pipewright/conditions.py")
OF_KINDS = {
    "tenant": (
        "controllers/tenant",
        "operator/pipewright/apply/provisioner.py",
        "operator/pipewright/backends/kubernetes.py",
        "operator/pipewright/backends/vault",
        "operator/pipewright/backends/postgres",
    ),
    "integration": ("controllers/integration", "operator/pipewright/apply/integrations.py"),
    "model": ("controllers/model", "operator/pipewright/apply/trainings.py"),
    "workflow": ("controllers/workflow",),
    "workflowrun": ("controllers/workflowrun",),  # what a step meets is told by its message alone
}
RAISED = {"Waiting", "Stalled", "Unknown", "Fact"}
"""Whose first argument, or `reason`, is one."""


def literals(node: ast.expr) -> Iterator[str]:
    """The words that an expression can be, as far as they stand there."""
    match node:
        case ast.Constant(value=str(word)):
            yield word
        case ast.IfExp():
            yield from literals(node.body)
            yield from literals(node.orelse)


def reasons(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "says" and len(node.args) > 2:
                yield from literals(node.args[2])
            elif name in RAISED and node.args:
                yield from literals(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "reason":
                    yield from literals(keyword.value)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "reason":
            yield from literals(node.value)


def files(*places: str) -> Iterator[Path]:
    for place in places:
        found = ROOT / place
        yield from sorted(found.rglob("*.py")) if found.is_dir() else [found]


def on(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def found(*places: str) -> set[str]:
    """The reasons; of `Reason: sentence` the first word."""
    return {word.partition(":")[0] for path in files(*places) for word in reasons(path) if word[:1].isupper()}


def test_what_all_kinds_share_is_on_the_page_of_conditions() -> None:
    shared = found(*SHARED)
    assert {"Unreachable", "TimedOut", "NotStalled"} <= shared, "the search finds nothing any more"
    assert sorted(word for word in shared if f"`{word}`" not in on("conditions.md")) == []


@pytest.mark.parametrize("kind", OF_KINDS)
def test_every_reason_is_on_the_page_of_its_kind(kind: str) -> None:
    own = found(*OF_KINDS[kind])
    assert len(own) > 4, "the search finds nothing any more"
    page = on(f"{kind}.md") + on("conditions.md")
    assert sorted(word for word in own if f"`{word}`" not in page) == []
