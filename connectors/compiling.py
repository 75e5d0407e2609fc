"""A manifest's texts made into expressions and templates; what is wrong with one is told with its place."""

from __future__ import annotations

from connectors.mistakes import ManifestError
from pipewright import expressions
from pipewright.expressions import Condition, Environment, ExpressionError, Program, Template


class Compiler:
    """Compiles the texts of one manifest, and remembers where it is for messages."""

    def __init__(self, where: str) -> None:
        self._where = where

    def refused(self, at: str, problem: object) -> ManifestError:
        """The error to raise about a place of the manifest."""
        return ManifestError(f"{self._where}: {at}: {problem}", place=at, problem=str(problem))

    def template(self, source: str, at: str, environment: Environment | None = None) -> Template:
        """A text with holes, over `input` and `config` if nothing else is said.

        Raises:
            ManifestError: a hole does not compile.
        """
        try:
            return Template(source, environment or expressions.inputs())
        except ExpressionError as error:
            raise self.refused(at, error) from None

    def program(self, source: str, environment: Environment, at: str) -> Program:
        """An expression of any type.

        Raises:
            ManifestError: it does not compile.
        """
        try:
            return environment.expression(source)
        except ExpressionError as error:
            raise self.refused(at, error) from None

    def condition(self, source: str, environment: Environment, at: str) -> Condition:
        """An expression that is certainly a bool.

        Raises:
            ManifestError: it does not compile, or is of another type.
        """
        try:
            return environment.condition(source)
        except ExpressionError as error:
            raise self.refused(at, error) from None
