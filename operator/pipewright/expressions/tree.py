"""The checked syntax tree of a CEL expression, as the CEL specification numbers it.

The binding hands it out only as bytes (`Expression.serialize`). These are the parts of cel/expr/syntax.proto
and checked.proto that `cost` reads, declared here because no Python package of them is among our
dependencies; unknown fields are skipped, as protobuf does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

STRING: Final = 5
"""Of Type.PrimitiveType."""
BYTES: Final = 6
"""Of Type.PrimitiveType."""

_Field = descriptor_pb2.FieldDescriptorProto
_TREE: Final[Mapping[str, tuple[tuple[str, int, str], ...]]] = {
    "Constant": (
        ("kind.bool_value", 2, "bool"),
        ("kind.int64_value", 3, "int64"),
        ("kind.uint64_value", 4, "uint64"),
        ("kind.double_value", 5, "double"),
        ("kind.string_value", 6, "string"),
        ("kind.bytes_value", 7, "bytes"),
    ),
    "Ident": (("name", 1, "string"),),
    "Select": (("operand", 1, "Expr"), ("field", 2, "string"), ("test_only", 3, "bool")),
    "Call": (("target", 1, "Expr"), ("function", 2, "string"), ("args", 3, "*Expr")),
    "List": (("elements", 1, "*Expr"),),
    "Entry": (("map_key", 3, "Expr"), ("value", 4, "Expr")),
    "Struct": (("message_name", 1, "string"), ("entries", 2, "*Entry")),
    "Loop": (
        ("iter_var", 1, "string"),
        ("iter_range", 2, "Expr"),
        ("accu_var", 3, "string"),
        ("accu_init", 4, "Expr"),
        ("loop_condition", 5, "Expr"),
        ("loop_step", 6, "Expr"),
        ("result", 7, "Expr"),
    ),
    "Expr": (
        ("id", 2, "int64"),
        ("kind.const_expr", 3, "Constant"),
        ("kind.ident_expr", 4, "Ident"),
        ("kind.select_expr", 5, "Select"),
        ("kind.call_expr", 6, "Call"),
        ("kind.list_expr", 7, "List"),
        ("kind.struct_expr", 8, "Struct"),
        ("kind.comprehension_expr", 9, "Loop"),
    ),
    "ListType": (("elem_type", 1, "Type"),),
    "MapType": (("key_type", 1, "Type"), ("value_type", 2, "Type")),
    "Type": (
        ("kind.null", 2, "int64"),
        ("kind.primitive", 3, "int64"),
        ("kind.wrapper", 4, "int64"),
        ("kind.well_known", 5, "int64"),
        ("kind.list_type", 6, "ListType"),
        ("kind.map_type", 7, "MapType"),
        ("kind.message_type", 9, "string"),
        ("kind.type", 11, "Type"),
    ),
    "TypeEntry": (("key", 1, "int64"), ("value", 2, "Type")),
    "PositionEntry": (("key", 1, "int64"), ("value", 2, "int64")),
    "SourceInfo": (("positions", 4, "*PositionEntry"),),
    "CheckedExpr": (("type_map", 3, "*TypeEntry"), ("expr", 4, "Expr"), ("source_info", 5, "SourceInfo")),
}


def _tree_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="pipewright/tree.proto", package="tree", syntax="proto3")
    for name, fields in _TREE.items():
        message = file.message_type.add(name=name)
        for path, number, kind in fields:
            oneof, _, field_name = path.rpartition(".")
            label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
            made = message.field.add(name=field_name, number=number, label=label)
            if kind.lstrip("*") in _TREE:
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".tree.{kind.lstrip('*')}"
            else:
                made.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
            if oneof:
                if not message.oneof_decl:
                    message.oneof_decl.add(name=oneof)
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tree.CheckedExpr"))


_CHECKED: Final = _tree_class()


def parse(serialized: bytes) -> Any:
    """The CheckedExpr in what the binding's `serialize` gives (an Any)."""
    return _CHECKED.FromString(any_pb2.Any.FromString(serialized).value)


def reads(serialized: bytes, variable: str) -> frozenset[tuple[str, ...]]:
    """The paths below a variable that an expression may read: `body.run.id` is ("run", "id").

    A path ends where something else than a field's name follows, such as an index; () is the whole value.
    """
    return frozenset(_reads(parse(serialized).expr, variable))


def _reads(node: Any, variable: str) -> Iterator[tuple[str, ...]]:
    path: list[str] = []
    base = node
    while base.WhichOneof("kind") == "select_expr":
        path.append(base.select_expr.field)
        base = base.select_expr.operand
    if base.WhichOneof("kind") == "ident_expr":
        if base.ident_expr.name == variable:
            yield tuple(reversed(path))
        return
    for child in _children(base):
        yield from _reads(child, variable)


def _children(node: Any) -> Iterator[Any]:
    match node.WhichOneof("kind"):
        case "call_expr":
            if node.call_expr.HasField("target"):
                yield node.call_expr.target
            yield from node.call_expr.args
        case "list_expr":
            yield from node.list_expr.elements
        case "struct_expr":
            for entry in node.struct_expr.entries:
                yield from (entry.map_key, entry.value)
        case "comprehension_expr":
            loop = node.comprehension_expr
            yield from (loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result)
        case _:
            return
