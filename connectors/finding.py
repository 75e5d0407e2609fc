"""A look into a list before a request, where that one needs what its inputs do not tell. Pure.

`Calls.find` asks for the list; the first item for which `when` holds gives further inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.compiling import Compiler
from connectors.rules import Reads, part, reads
from pipewright import expressions
from pipewright.expressions import Condition, EvaluationError, Program, Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where the list is, which item is looked for, and what it tells."""

    path: Template
    within: tuple[str, ...]
    """The path in the answer to the list."""
    when: Condition
    inputs: Mapping[str, Program]
    item_read: Reads | None
    max_response_bytes: int | None
    """None: as `http` says."""

    def told(self, body: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The further inputs; None where no item is the one, or it tells them not."""
        for name in self.within:
            body = body.get(name) if isinstance(body, dict) else None
        for item in body if isinstance(body, list) else ():
            try:
                scope = expressions.bind_finding(part(item, self.item_read), inputs)
                if self.when.holds(scope):
                    return {name: program.value(scope) for name, program in self.inputs.items()}
            except EvaluationError:
                continue
        return None


def read(data: Mapping[str, Any], at: str, compiler: Compiler) -> Finding:
    """A manifest's `find`, from data that the schema accepts; `at` is its place.

    Raises:
        ManifestError: an expression does not compile.
    """
    environment = expressions.findings()
    when = compiler.condition(data["when"], environment, f"{at}.when")
    inputs = {
        name: compiler.program(source, environment, f"{at}.inputs.{name}")
        for name, source in data["inputs"].items()
    }
    return Finding(
        path=compiler.template(data["get"], f"{at}.get"),
        within=tuple(data["within"].split(".")),
        when=when,
        inputs=inputs,
        item_read=reads([when.program, *inputs.values()], "item"),
        max_response_bytes=data.get("maxResponseBytes"),
    )
