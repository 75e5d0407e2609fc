"""A type becomes a structural schema, or the reason is told why it cannot."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pipewright.api.meta import Base
from pipewright.api.rules import Rule, Ruled
from pipewright.api.scalars import Duration, JsonObject, Quantity, Time, parse_duration
from pipewright.api.schema import SchemaError, structural

Text = Annotated[str, Field(max_length=9)]


class Inner(Base):
    """An inner value."""

    size: Annotated[int, Field(ge=1, le=5)] = 3
    """How many."""


class Empty(Base):
    """A value that brings nothing along."""

    note: Text | None = None
    """What there is to say."""


class Outer(Base):
    """All that the dialect must rewrite."""

    optional: Text | None = None
    """A text or nothing."""
    one_value: Literal["Only"] = "Only"
    """The only one."""
    nested: Inner = Inner()
    """An inner value that brings a default along."""
    bare: Empty = Empty()
    """An inner value that brings none."""
    inners: Annotated[tuple[Inner, ...], Field(max_length=2)] = ()
    """Several of them."""
    keyed: Annotated[
        dict[Annotated[str, Field(max_length=5, pattern="^[a-z]+$")], Text], Field(max_length=2)
    ] = {}  # noqa: RUF012
    """Texts by name."""
    above: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Between nothing and all."""
    part: Annotated[float, Field(ge=0.25, le=0.5)] = 0.5
    """Between a quarter and a half."""
    wait: Duration = parse_duration("90s")
    """How long."""
    amount: Quantity | None = None
    """How much."""
    at: Time | None = None
    """When."""
    anything: JsonObject = Field({})
    """Somebody else's shape."""


FIELDS: dict[str, Any] = structural(Outer)["properties"]


def rule_of(field: str) -> str:
    return str(FIELDS[field]["x-kubernetes-validations"][0]["rule"])


def test_an_optional_field_has_the_schema_of_its_type_and_no_default() -> None:
    assert FIELDS["optional"] == {"description": "A text or nothing.", "type": "string", "maxLength": 9}


def test_a_constant_is_an_enum_of_one() -> None:
    assert FIELDS["oneValue"]["enum"] == ["Only"]
    assert "const" not in FIELDS["oneValue"]


def test_a_reference_is_replaced_by_what_it_refers_to_under_the_fields_own_sentence() -> None:
    assert FIELDS["nested"] == {
        "description": "An inner value that brings a default along.",
        "type": "object",
        "default": {},
        "properties": {
            "size": {"description": "How many.", "type": "integer", "default": 3, "minimum": 1, "maximum": 5}
        },
    }
    assert FIELDS["inners"]["items"]["properties"] == FIELDS["nested"]["properties"]


def test_a_default_that_makes_no_difference_is_left_out() -> None:
    assert "default" not in FIELDS["bare"]
    assert "default" not in FIELDS["inners"]
    assert "default" not in FIELDS["keyed"]


def test_the_keys_of_a_map_are_held_to_their_pattern_by_a_rule() -> None:
    assert FIELDS["keyed"]["additionalProperties"] == {"type": "string", "maxLength": 9}
    assert "propertyNames" not in FIELDS["keyed"]
    assert rule_of("keyed") == "self.all(key, key.size() <= 5 && key.matches(r'^[a-z]+$'))"


def test_a_bound_that_is_not_reached_is_spelled_as_in_openapi_3_0() -> None:
    above = FIELDS["above"]
    assert (above["minimum"], above["exclusiveMinimum"]) == (0, True)
    assert (above["maximum"], above["exclusiveMaximum"]) == (1, True)


def test_a_fractional_bound_is_a_rule_too_because_the_server_rounds_it_for_integers() -> None:
    assert rule_of("part") == "self >= 0.25 && self <= 0.5"


def test_a_duration_is_a_text_with_its_default_in_our_spelling() -> None:
    assert (FIELDS["wait"]["type"], FIELDS["wait"]["default"]) == ("string", "1m30s")


def test_a_quantity_is_an_integer_or_a_string() -> None:
    amount = FIELDS["amount"]
    assert amount["x-kubernetes-int-or-string"] is True
    assert amount["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert "type" not in amount


def test_an_instant_is_bounded_by_its_format() -> None:
    assert FIELDS["at"] == {"description": "When.", "type": "string", "format": "date-time"}


def test_an_object_of_unknown_shape_is_kept_as_it_is() -> None:
    assert FIELDS["anything"]["x-kubernetes-preserve-unknown-fields"] is True


def test_rules_of_a_type_and_of_a_field_add_up() -> None:
    class Own(Base):
        model_config = ConfigDict(
            json_schema_extra={"x-kubernetes-validations": [{"rule": "a", "message": "A"}]}
        )

        text: Text = "x"
        """A text."""

    class Holder(Base):
        own: Annotated[Own, Ruled(Rule(cel="b", message="B"))]
        """A value with rules."""

    Holder.model_rebuild(_types_namespace={"Own": Own})
    field = structural(Holder)["properties"]["own"]
    assert [rule["rule"] for rule in field["x-kubernetes-validations"]] == ["a", "b"]


class Node(Base):
    """A value that contains itself."""

    children: Annotated[tuple[Node, ...], Field(max_length=2)] = ()
    """More of them."""


class Bare(BaseModel):
    """A value whose fields say nothing about themselves."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str
    """A text without an end."""
    texts: tuple[Text, ...]
    """Texts without an end."""
    by_name: dict[str, Text]
    """Texts by name without an end."""
    number: Annotated[int, Field(ge=0)]
    """A number without an end."""
    silent: Text
    phrase: Text
    """no full stop"""
    whatever: Any
    """Nobody knows."""


@pytest.mark.parametrize(
    "fault",
    [
        ".text has no maxLength",
        ".texts has no maxItems",
        ".by_name has no maxProperties",
        ".number has no maximum",
        ".silent has no sentence under it",
        ".phrase has no sentence under it",
        ".whatever has no type",
    ],
)
def test_a_field_without_bound_or_sentence_makes_the_generation_fail(fault: str) -> None:
    with pytest.raises(SchemaError) as refused:
        structural(Bare)
    assert fault in str(refused.value)


def test_a_type_that_contains_itself_makes_the_generation_fail() -> None:
    with pytest.raises(SchemaError, match="Node contains itself"):
        structural(Node)
