"""A manifest's `webhook.registration`: how a project's webhook is kept at the provider, as checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors import paging
from connectors.compiling import Compiler
from connectors.paging import Pager
from connectors.rules import Reads, reads
from pipewright import expressions
from pipewright.expressions import Condition, Program, Template

METHODS: Final = ("post", "put", "patch", "delete")
DEEPEST: Final = 4
"""Objects within objects of a request."""

Body = Template | bool | int | Mapping[str, "Body"] | tuple["Body", ...]
"""What is sent: templates where the manifest has texts, all else as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A request before the others, where they need what the project's name does not tell."""

    path: Template
    inputs: Mapping[str, Program]
    reads: Reads | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookListing:
    """The webhooks that a project has."""

    path: Template
    query: Mapping[str, Template]
    pager: Pager
    items: Program
    items_read: Reads | None
    id: Program
    url: Program
    current: Condition
    """Whether one is as it should be, but for address and secret: on, and for the events that are used."""
    item_read: Reads | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRequest:
    """One change of a project's webhooks."""

    method: str
    path: Template
    body: Mapping[str, Body]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryList:
    """What was sent to a webhook, the newest first, and how to have it sent again."""

    path: Template
    pager: Pager
    items: Program
    items_read: Reads | None
    when: Condition
    """Whether an item is of an event that is used."""
    id: Program
    """Of this time that it was sent."""
    delivery: Program
    """The same however often it is sent."""
    at: Program
    arrived: Condition
    item_read: Reads | None
    again: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a project's webhook is found, made, changed and removed."""

    target: Target | None
    listing: HookListing
    create: HookRequest
    update: HookRequest
    delete: HookRequest
    deliveries: DeliveryList | None
    """None: the provider sends again by itself, or tells of no deliveries."""


def read(data: Mapping[str, Any], compiler: Compiler) -> Registration:
    """The manifest's section, from data that the schema accepts.

    Raises:
        ManifestError: an expression does not compile.
    """
    at = "webhook.registration"
    return Registration(
        target=_target(data["target"], f"{at}.target", compiler) if "target" in data else None,
        listing=_listing(data["list"], f"{at}.list", compiler),
        create=_request(data["create"], f"{at}.create", compiler),
        update=_request(data["update"], f"{at}.update", compiler),
        delete=_request(data["delete"], f"{at}.delete", compiler),
        deliveries=_deliveries(data["deliveries"], f"{at}.deliveries", compiler)
        if "deliveries" in data
        else None,
    )


def _target(data: Mapping[str, Any], at: str, compiler: Compiler) -> Target:
    inputs = {
        name: compiler.program(source, expressions.answers(), f"{at}.inputs.{name}")
        for name, source in data["inputs"].items()
    }
    return Target(
        path=compiler.template(data["get"], f"{at}.get"),
        inputs=inputs,
        reads=reads(inputs.values(), "body"),
    )


def _listing(data: Mapping[str, Any], at: str, compiler: Compiler) -> HookListing:
    items = compiler.program(data["items"], expressions.answers(), f"{at}.items")
    named = {
        name: compiler.program(data[name], expressions.items(), f"{at}.{name}") for name in ("id", "url")
    }
    current = compiler.condition(data["current"], expressions.items(), f"{at}.current")
    return HookListing(
        path=compiler.template(data["get"], f"{at}.get"),
        query={
            name: compiler.template(text, f"{at}.query.{name}")
            for name, text in data.get("query", {}).items()
        },
        pager=paging.read(data["paginate"], f"{at}.paginate", compiler),
        items=items,
        items_read=reads([items], "body"),
        current=current,
        item_read=reads([*named.values(), current.program], "item"),
        **named,
    )


def _deliveries(data: Mapping[str, Any], at: str, compiler: Compiler) -> DeliveryList:
    environment = expressions.items()
    items = compiler.program(data["items"], expressions.answers(), f"{at}.items")
    sent, delivery, when_sent = (
        compiler.program(data[name], environment, f"{at}.{name}") for name in ("id", "delivery", "at")
    )
    when, arrived = (
        compiler.condition(data[name], environment, f"{at}.{name}") for name in ("when", "arrived")
    )
    return DeliveryList(
        path=compiler.template(data["get"], f"{at}.get"),
        pager=paging.read(data["paginate"], f"{at}.paginate", compiler),
        items=items,
        items_read=reads([items], "body"),
        when=when,
        id=sent,
        delivery=delivery,
        at=when_sent,
        arrived=arrived,
        item_read=reads([sent, delivery, when_sent, when.program, arrived.program], "item"),
        again=compiler.template(data["post"], f"{at}.post"),
    )


def _request(data: Mapping[str, Any], at: str, compiler: Compiler) -> HookRequest:
    method = next(method for method in METHODS if method in data)
    body = data.get("body", {})
    return HookRequest(
        method=method.upper(),
        path=compiler.template(data[method], f"{at}.{method}"),
        body={name: _body(value, f"{at}.body.{name}", compiler, depth=1) for name, value in body.items()},
    )


def _body(data: Any, at: str, compiler: Compiler, *, depth: int) -> Body:
    if depth > DEEPEST:
        raise compiler.refused(at, f"is nested more than {DEEPEST} deep")
    match data:
        case dict():
            return {
                name: _body(value, f"{at}.{name}", compiler, depth=depth + 1) for name, value in data.items()
            }
        case list():
            return tuple(
                _body(value, f"{at}[{number}]", compiler, depth=depth + 1)
                for number, value in enumerate(data)
            )
        case str():
            return compiler.template(data, at)
        case _:
            found: bool | int = data
            return found
