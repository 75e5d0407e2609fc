"""What a token may do, where the provider tells: the manifest's `check.scopes` against an answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.compiling import Compiler
from connectors.rules import Reads, part, reads
from pipewright import expressions
from pipewright.expressions import EvaluationError, Program, Template

MOST: Final = 64
"""Scopes that are told of, the first ones by name."""
_NAME: Final = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """What was compared, by name."""

    granted: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeCheck:
    """How the granted scopes are read, and which are needed."""

    granted: Program
    granted_read: Reads | None
    required: tuple[tuple[str, ...], ...]
    """Of each, one is enough; the first gives its name to what is missing."""

    def compare(self, body: Any, *, status: int, headers: Mapping[str, str]) -> Scopes | None:
        """What an answer tells; None where it tells nothing, as with tokens that have no scopes."""
        try:
            scope = expressions.bind_answer(part(body, self.granted_read), status, headers)
            found = self.granted.value(scope)
        except EvaluationError:
            return None
        if not isinstance(found, list):
            return None
        names = {name.strip() for name in found if isinstance(name, str)}
        granted = sorted(name for name in names if _NAME.fullmatch(name))
        missing = [one_of[0] for one_of in self.required if not names.intersection(one_of)]
        return Scopes(granted=tuple(granted[:MOST]), missing=tuple(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A harmless request that tells whether the credentials are accepted, and perhaps what they may do."""

    path: Template
    scopes: ScopeCheck | None


def read(data: Mapping[str, Any], compiler: Compiler) -> Check:
    """The manifest's `check`, from data that the schema accepts.

    Raises:
        ManifestError: an expression does not compile.
    """
    return Check(
        path=compiler.template(data["get"], "check.get"),
        scopes=_scopes(data["scopes"], compiler) if "scopes" in data else None,
    )


def _scopes(data: Mapping[str, Any], compiler: Compiler) -> ScopeCheck:
    granted = compiler.program(data["granted"], expressions.answers(), "check.scopes.granted")
    return ScopeCheck(
        granted=granted,
        granted_read=reads([granted], "body"),
        required=tuple((each,) if isinstance(each, str) else tuple(each) for each in data["required"]),
    )
