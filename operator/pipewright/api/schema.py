"""Types → structural schema: what pydantic knows of a kind, in the dialect that a CRD allows.

A structural schema is OpenAPI 3.0 without references, unions or free keys. Whatever this dialect cannot say
(``X | None``, keys of a map, ``Quantity``) is rewritten here; whatever a user or the API server would miss, a
sentence under a field or a bound, makes the generation fail.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pipewright.api.rules import RULES, Rule, add, matches
from pipewright.api.scalars import format_duration

Schema = dict[str, Any]

_OPEN = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_DROPPED = ("title", "examples", "discriminator", "uniqueItems", "additionalProperties")
_COMPARED = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_ORDER = ("description", "type", "enum", "default", RULES, "required", "properties", "items", *_DROPPED)


class SchemaError(ValueError):
    """A type that cannot become a CRD: it says where, and what to add."""


class _Dialect(GenerateJsonSchema):
    """pydantic's own generator, with the words that differ in a structural schema."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return ``X`` for ``X | None``: an absent field is how a manifest says None."""
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Return a map; what is known of its keys becomes a CEL rule, for the dialect has no key schema."""
        generated: Schema = {
            "type": "object",
            "additionalProperties": self.generate_inner(schema["values_schema"]),
        }
        if rule := _keys_rule(self.generate_inner(schema["keys_schema"])):
            generated = add(generated, rule)
        if "max_length" in schema:
            generated["maxProperties"] = schema["max_length"]
        return generated

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Return a number; fractional bounds also as CEL: the server rounds them for an integer like 0."""
        generated = super().float_schema(schema)
        bounds = {word: generated[bound] for bound, word in _COMPARED.items() if bound in generated}
        if all(float(bound).is_integer() for bound in bounds.values()):
            return generated
        cel = " && ".join(f"self {word} {float(bound)}" for word, bound in bounds.items())
        asked = " and ".join(f"{word} {bound}" for word, bound in bounds.items())
        return add(generated, Rule(cel=cel, message=f"must be {asked}"))

    def encode_default(self, dft: Any) -> Any:
        """Return a default as the wire spells it; a nested object's is empty, for its own fields fill it."""
        if isinstance(dft, dt.timedelta):
            return format_duration(dft)
        return {} if isinstance(dft, BaseModel) else super().encode_default(dft)


def _keys_rule(keys: Schema) -> Rule | None:
    """Return the rule that a map's keys match the schema ``keys``; None where it says nothing of them."""
    clauses, asked = [], []
    if "maxLength" in keys:
        clauses.append(f"key.size() <= {keys['maxLength']}")
        asked.append(f"be at most {keys['maxLength']} characters long")
    if "pattern" in keys:
        clauses.append(matches("key", keys["pattern"]))
        asked.append(f"match {keys['pattern']}")
    if not clauses:
        return None
    return Rule(cel=f"self.all(key, {' && '.join(clauses)})", message=f"keys must {' and '.join(asked)}")


def structural(model: type[BaseModel]) -> Schema:
    """Return the structural schema of ``model``.

    Raises:
        SchemaError: the type is recursive, or a field has no sentence or no bound.
    """
    generated = model.model_json_schema(schema_generator=_Dialect)
    schema = _inline(generated, generated.get("$defs", {}), above=())
    faults = sorted({*_undocumented(schema, ""), *_unbounded(schema, "")})
    if faults:
        raise SchemaError(f"{model.__name__}: " + "; ".join(faults))
    return schema


# -- Rewriting -----------------------------------------------------------------------------------------------


def _inline(
    schema: Mapping[str, Any], definitions: Mapping[str, Schema], *, above: tuple[str, ...]
) -> Schema:
    """Return ``schema`` without references; what stands beside a reference wins over what it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name in above:
            raise SchemaError(f"{name} contains itself: a CRD cannot be recursive, flatten it")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        inner = _inline(definitions[name], definitions, above=(*above, name))
        both = [*inner.get(RULES, []), *beside.get(RULES, [])]
        return _tidy(inner | beside | ({RULES: both} if both else {}))
    result = {key: value for key, value in schema.items() if key not in ("$defs", "properties", "items")}
    if "properties" in schema:
        result["properties"] = {
            name: _inline(below, definitions, above=above) for name, below in schema["properties"].items()
        }
    if "items" in schema:
        result["items"] = _inline(schema["items"], definitions, above=above)
    if isinstance(schema.get("additionalProperties"), Mapping):
        result["additionalProperties"] = _inline(schema["additionalProperties"], definitions, above=above)
    return _tidy(result)


def _tidy(schema: Schema) -> Schema:
    """Return ``schema`` in the words of OpenAPI 3.0, without what says nothing."""
    result = dict(schema)
    values = result.get("additionalProperties")
    for key in _DROPPED:
        result.pop(key, None)
    if isinstance(values, Mapping):
        result["additionalProperties"] = values
    if "const" in result:
        result["enum"] = [result.pop("const")]
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(result.get(bound), int | float) and not isinstance(result[bound], bool):
            result[limit], result[bound] = result[bound], True
    if "default" in result and not _fills(result):
        del result["default"]
    return dict(sorted(result.items(), key=lambda item: (_place(item[0]), item[0])))


def _place(word: str) -> int:
    """Return where ``word`` stands, so that a schema reads from what it is to what is below it."""
    return _ORDER.index(word) if word in _ORDER else _ORDER.index(RULES)


def _fills(schema: Schema) -> bool:
    """Return whether the schema's default makes a difference: an empty one only if it brings nested ones."""
    if schema["default"] in (None, "", []):
        return False
    return schema["default"] != {} or any(
        "default" in below for below in schema.get("properties", {}).values()
    )


# -- Refusing ------------------------------------------------------------------------------------------------


def _undocumented(schema: Schema, path: str) -> Iterator[str]:
    """Yield each field without a sentence."""
    for name, below in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if not str(below.get("description", "")).endswith("."):
            yield f"{here} has no sentence under it"
        yield from _undocumented(below, here)
    for part, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if part in schema:
            yield from _undocumented(schema[part], path + suffix)


def _unbounded(schema: Schema, path: str) -> Iterator[str]:
    """Yield each string, list, map and number without a bound (the API server's CEL estimate needs them)."""
    for missing in _missing_bounds(schema):
        yield f"{path or '.'} has no {missing}"
    for name, below in schema.get("properties", {}).items():
        yield from _unbounded(below, f"{path}.{name}")
    for part, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if part in schema:
            yield from _unbounded(schema[part], path + suffix)


def _missing_bounds(schema: Schema) -> list[str]:
    return [bound for bound in _needed_bounds(schema) if bound not in schema]


def _needed_bounds(schema: Schema) -> tuple[str, ...]:
    if schema.get(_INT_OR_STRING):
        return ("minimum", "maximum", "maxLength")
    if "enum" in schema or schema.get("format") == "date-time":
        return ()
    match schema.get("type"):
        case "integer" | "number":
            return ("minimum", "maximum")
        case "string":
            return ("maxLength",)
        case "array":
            return ("maxItems",)
        case "object":
            return ("maxProperties",) if "additionalProperties" in schema or schema.get(_OPEN) else ()
        case "boolean":
            return ()
        case _:
            return ("type",)
