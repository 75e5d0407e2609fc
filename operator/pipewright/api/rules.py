"""Rules of a schema that the API server checks with CEL: what types and bounds cannot say, or say badly."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

RULES = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One CEL rule of a schema.

    ``message`` names the field and says what to do. ``message_expression`` builds a better one from the
    values (the server falls back to ``message``). ``field_path`` moves the error to a field below.
    """

    cel: str
    message: str
    message_expression: str | None = None
    field_path: str | None = None

    def dump(self) -> dict[str, str]:
        """Return the rule as the CRD spells it."""
        spelled = {
            "rule": self.cel,
            "message": self.message,
            "messageExpression": self.message_expression,
            "fieldPath": self.field_path,
        }
        return {key: value for key, value in spelled.items() if value is not None}


def rules(*given: Rule) -> dict[str, Any]:
    """Return ``given`` as the ``json_schema_extra`` of a model, or as part of a schema."""
    return {RULES: [rule.dump() for rule in given]}


def add(schema: JsonSchemaValue, *given: Rule) -> JsonSchemaValue:
    """Return ``schema`` with ``given`` after the rules that it has."""
    return {**schema, RULES: [*schema.get(RULES, ()), *rules(*given)[RULES]]}


def immutable(field: str) -> Rule:
    """Return the rule that ``field``, once set, keeps its value."""
    return Rule(cel="self == oldSelf", message=f"{field} is immutable: create a new object to change it")


_SECONDS = "[{0}.endsWith('d') ? int({0}.substring(0, {0}.size() - 1)) * 86400 : duration({0}).getSeconds()]"
"""A duration of the contract in seconds, as a CEL list of one."""

OVERLAP_IS_SHORTER = Rule(
    cel="!has(self.every)"
    f" || {_SECONDS.format('self.every')}.all(every, {_SECONDS.format('self.overlap')}"
    ".all(overlap, overlap < every))",
    message="overlap must be shorter than every",
    field_path=".overlap",
)
"""The rule of a rotation with the fields ``every`` and ``overlap``."""


def shorter(one: str, other: str) -> str:
    """Return the CEL expression that the duration in the field ``one`` is shorter than that in ``other``."""
    return f"{_SECONDS.format(one)}.all(short, {_SECONDS.format(other)}.all(long, short < long))"


def matches(subject: str, pattern: str) -> str:
    """Return the CEL expression that ``subject`` matches ``pattern``."""
    return f"{subject}.matches(r'{pattern}')"


class Ruled:
    """Adds rules to the schema of an annotated type; the API server alone checks them."""

    def __init__(self, *given: Rule) -> None:
        self.rules = given

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return add(handler(schema), *self.rules)


@dataclass(frozen=True, slots=True)
class Matching:
    """Holds a string to ``pattern`` as ``Field(pattern=)`` does, but answers in words instead of a regex."""

    pattern: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return add(handler(schema), Rule(cel=matches("self", self.pattern), message=self.message))

    def check(self, text: str) -> str:
        """Return ``text`` when it matches, else raise ``ValueError``."""
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.message)
        return text
