"""A manifest's `sync`: the lists that a provider's history is read from, as checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from connectors import paging
from connectors.code import Lister
from connectors.compiling import Compiler
from connectors.paging import Pager
from connectors.rules import Reads, RecordRule, reads
from pipewright import expressions
from pipewright.expressions import Condition, Environment, Program, Template

DEEPEST: Final = 4
"""Lists within lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What each item of a list says, and the lists that belong to it."""

    records: tuple[RecordRule, ...]
    each: tuple[Nested, ...]
    item_read: Reads | None
    parent_read: Reads | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Items):
    """One list that is asked for: how, and what in the answer are its items."""

    path: Template
    query: Mapping[str, Template]
    pager: Pager
    items: Program
    items_read: Reads | None
    capped: Condition | None
    """Whether the provider lists less than there is, so that less must be asked for."""
    capped_read: Reads | None
    newest_first: Program | None
    """An item's time, where the list begins with the newest and cannot be asked for by time."""
    newest_first_reads: Reads | None
    max_response_bytes: int | None
    optional: bool
    """Not everyone has one, or may read it: 404 says that there is none, and a refusal is only noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """A list of its own for each item of another: asked for, or a part of the item."""

    when: Condition | None
    inputs: Mapping[str, Program]
    """What is asked for; nothing for a part of the item."""
    within: tuple[str, ...]
    """The path to a part of the item; empty where the list is asked for."""
    items: Items
    """A `Listing` where it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """How the history of a project is read."""

    lookup: Mapping[str, Mapping[str, str]]
    slice: timedelta
    """The longest time that is asked for at once."""
    listing: Listing | None
    """None: the lister reads it."""
    lister: Lister | None = None


def read(data: Mapping[str, Any], compiler: Compiler, *, lister: Lister | None = None) -> Sync:
    """The manifest's `sync`, from data that the schema accepts; `lister` came with the manifest.

    Raises:
        ManifestError: an expression does not compile, lists are nested too deeply, or code is missing.
    """
    if "code" in data and lister is None:
        raise compiler.refused("sync", "code: no lister comes with the manifest")
    if "code" not in data and lister is not None:
        raise compiler.refused("sync", "a lister comes with the manifest, and sync has no code")
    return Sync(
        lookup=data.get("lookup", {}),
        slice=timedelta(hours=data["sliceHours"]),
        listing=_listing(data["list"], "sync.list", compiler, depth=1) if "list" in data else None,
        lister=lister,
    )


def _listing(data: Mapping[str, Any], at: str, compiler: Compiler, *, depth: int) -> Listing:
    items = compiler.program(data["items"], expressions.answers(), f"{at}.items")
    capped = _condition(data, "capped", expressions.answers(), at, compiler)
    newest_first = (
        compiler.program(data["newestFirst"], expressions.items(), f"{at}.newestFirst")
        if "newestFirst" in data
        else None
    )
    said = _items(data, at, compiler, depth=depth)
    return Listing(
        path=compiler.template(data["get"], f"{at}.get"),
        query={
            name: compiler.template(text, f"{at}.query.{name}")
            for name, text in data.get("query", {}).items()
        },
        pager=paging.read(data["paginate"], f"{at}.paginate", compiler),
        items=items,
        items_read=reads([items], "body"),
        capped=capped,
        capped_read=reads([capped.program], "body") if capped is not None else None,
        newest_first=newest_first,
        newest_first_reads=reads([newest_first], "item") if newest_first is not None else None,
        max_response_bytes=data.get("maxResponseBytes"),
        optional=data.get("optional", False),
        records=said.records,
        each=said.each,
        item_read=said.item_read,
        parent_read=said.parent_read,
    )


def _items(data: Mapping[str, Any], at: str, compiler: Compiler, *, depth: int) -> Items:
    if depth > DEEPEST:
        raise compiler.refused(at, f"lists are nested more than {DEEPEST} deep")
    rules = tuple(
        _rule(rule, f"{at}.records[{number}]", compiler)
        for number, rule in enumerate(data.get("records", ()))
    )
    nested = tuple(
        _nested(each, f"{at}.each[{number}]", compiler, depth=depth)
        for number, each in enumerate(data.get("each", ()))
    )
    programs = [program for rule in rules for program in rule.programs]
    for each in nested:
        programs += [*((each.when.program,) if each.when else ()), *each.inputs.values()]
    below = [each.items.parent_read for each in nested]
    return Items(
        records=rules,
        each=nested,
        item_read=_united(reads(programs, "item"), *below),
        parent_read=reads(programs, "parent"),
    )


def _condition(
    data: Mapping[str, Any], name: str, environment: Environment, at: str, compiler: Compiler
) -> Condition | None:
    return compiler.condition(data[name], environment, f"{at}.{name}") if name in data else None


def _united(*all_reads: Reads | None) -> Reads | None:
    """What is read by one or the other."""
    known = [found for found in all_reads if found is not None]
    if not known or any(not found for found in known):
        return {} if known else None
    names = dict.fromkeys(name for found in known for name in found)
    return {name: _united(*(found[name] for found in known if name in found)) or {} for name in names}


def _nested(data: Mapping[str, Any], at: str, compiler: Compiler, *, depth: int) -> Nested:
    environment = expressions.items()
    return Nested(
        when=_condition(data, "when", environment, at, compiler),
        inputs={
            name: compiler.program(source, environment, f"{at}.inputs.{name}")
            for name, source in data.get("inputs", {}).items()
        },
        within=tuple(data["within"].split(".")) if "within" in data else (),
        items=(_items if "within" in data else _listing)(data, at, compiler, depth=depth + 1),
    )


def _rule(data: Mapping[str, Any], at: str, compiler: Compiler) -> RecordRule:
    environment = expressions.items()
    return RecordRule(
        when=_condition(data, "when", environment, at, compiler),
        record=data["record"],
        fields={
            name: compiler.program(source, environment, f"{at}.map.{name}")
            for name, source in data["map"].items()
        },
    )
