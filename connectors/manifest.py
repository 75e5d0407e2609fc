"""A connector's manifest: read once, checked whole, every expression compiled, then only used.

A manifest that is wrong anywhere is refused when it loads: by the JSON Schema (`schema.json`), by the types
of its expressions, or by a name that points nowhere. So a request never meets an unknown field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import jsonschema
import yaml

from connectors import http, listing, scopes, verify
from connectors.compiling import Compiler
from connectors.http import Http
from connectors.listing import Sync
from connectors.mistakes import ConfigError, ManifestError
from connectors.scopes import Check
from connectors.verify import AnyVerifier
from pipewright import expressions
from pipewright.expressions import Condition, Program, Template

Reads = Mapping[str, "Reads"]
"""Field names to what is read below; nothing below means all of it."""

METHODS: Final = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialField:
    """One key of the Secret with a connector's credentials."""

    title: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """What one kind of delivery says about a run or a job."""

    name: str
    when: Condition
    record: str
    fields: Mapping[str, Program]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """How deliveries are verified, told apart and mapped."""

    verify: AnyVerifier
    delivery_header: str
    event_header: str
    lookup: Mapping[str, Mapping[str, str]]
    rules: Mapping[str, tuple[EventRule, ...]]
    """By the event's name."""
    reads: Mapping[str, Reads]
    """By the event's name: the parts of a body that its rules may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a workflow step can have done at the provider."""

    name: str
    title: str
    description: str
    method: str
    path: Template
    idempotent: bool
    input: Mapping[str, Any]
    """JSON Schema."""
    body: Mapping[str, Template]
    output: Mapping[str, Program]

    def problems(self, names: Iterable[str]) -> tuple[str, ...]:
        """What is wrong with a step's `with` as far as its keys tell; empty when nothing is."""
        given, known = set(names), set(self.input["properties"])
        missing = [f"{name} is required" for name in self.input.get("required", ()) if name not in given]
        return (*missing, *(f"{name} is not an input of {self.name}" for name in sorted(given - known)))

    def parse(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs with their declared types; texts such as a rendered template gives are converted.

        Raises:
            ConfigError: names each input that is wrong, never its value.
        """
        kinds = self.input["properties"]
        typed = {name: _converted(value, kinds.get(name, {})) for name, value in inputs.items()}
        return _checked(typed, self.input, what=f"the inputs of {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One connector."""

    name: str
    title: str
    category: str
    docs: str
    maturity: str
    config: Mapping[str, Any]
    """JSON Schema."""
    credentials: Mapping[str, CredentialField]
    http: Http
    check: Check
    webhook: Webhook | None
    sync: Sync | None
    actions: Mapping[str, Action]

    def configure(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of an Integration, checked and with the defaults filled in.

        Raises:
            ConfigError: names each setting that is wrong, never its value.
        """
        return _checked(self.completed(config), self.config, what=f"the config of connector {self.name}")

    def completed(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings with the defaults filled in, unchecked."""
        defaults = {
            name: schema["default"]
            for name, schema in self.config["properties"].items()
            if "default" in schema
        }
        return {**defaults, **config}


def parse(text: str, *, where: str) -> Manifest:
    """A manifest from YAML; `where` names the file in messages.

    Raises:
        ManifestError: the first thing that is wrong.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ManifestError(f"{where}: not YAML: {error}") from None
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(data))
    if problem is not None:
        raise ManifestError(f"{where}: {problem.json_path}: {problem.message}")
    for name, schema in (
        ("config", data["config"]),
        *((key, act["input"]) for key, act in data["actions"].items()),
    ):
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ManifestError(f"{where}: the schema of {name}: {error.message}") from None
    return _Reader(where).manifest(data)


class _Reader(Compiler):
    """Turns checked data into dataclasses."""

    def manifest(self, data: Mapping[str, Any]) -> Manifest:
        return Manifest(
            **{key: data["metadata"][key] for key in ("name", "title", "category", "docs", "maturity")},
            config=data["config"],
            credentials={name: CredentialField(**field) for name, field in data["credentials"].items()},
            http=http.read(data["http"], credentials=data["credentials"], compiler=self),
            check=scopes.read(data["check"], self),
            webhook=self._webhook(data["webhook"]) if "webhook" in data else None,
            sync=listing.read(data["sync"], self) if "sync" in data else None,
            actions={name: self._action(name, action) for name, action in data["actions"].items()},
        )

    def _webhook(self, data: Mapping[str, Any]) -> Webhook:
        rules: dict[str, tuple[EventRule, ...]] = {}
        for at, event in enumerate(data["events"]):
            rules[event["name"]] = (*rules.get(event["name"], ()), self._rule(event, f"webhook.events[{at}]"))
        return Webhook(
            verify=self._verify(data["verify"]),
            delivery_header=data["deliveryHeader"].lower(),
            event_header=data["eventHeader"].lower(),
            lookup=data.get("lookup", {}),
            rules=rules,
            reads={name: _reads(found) for name, found in rules.items()},
        )

    def _verify(self, data: Mapping[str, Any]) -> AnyVerifier:
        try:
            return verify.KINDS[data["kind"]](data, lambda source: self.template(source, "webhook.verify"))
        except ManifestError:
            raise
        except ValueError as error:
            raise self.refused("webhook.verify", error) from None

    def _rule(self, data: Mapping[str, Any], at: str) -> EventRule:
        environment = expressions.payloads()
        return EventRule(
            name=data["name"],
            when=self.condition(data["when"], environment, f"{at}.when"),
            record=data["record"],
            fields={
                name: self.program(source, environment, f"{at}.map.{name}")
                for name, source in data["map"].items()
            },
        )

    def _action(self, name: str, data: Mapping[str, Any]) -> Action:
        method = next(method for method in METHODS if method in data)
        at = f"actions.{name}"
        return Action(
            name=name,
            title=data["title"],
            description=data["description"],
            method=method.upper(),
            path=self.template(data[method], f"{at}.{method}"),
            idempotent=data["idempotent"],
            input=data["input"],
            body={key: self.template(text, f"{at}.body.{key}") for key, text in data.get("body", {}).items()},
            output={
                key: self.program(source, expressions.answers(), f"{at}.output.{key}")
                for key, source in data["output"].items()
            },
        )


def _reads(rules: Iterable[EventRule]) -> Reads:
    """Bodies are large and rules read little of them: only that is handed to the expressions."""
    programs = [program for rule in rules for program in (rule.when.program, *rule.fields.values())]
    found: dict[str, Any] = {}
    for path in sorted(
        {path for program in programs for path in program.reads("body")}, key=len, reverse=True
    ):
        at = found
        for part in path[:-1]:
            at = at.setdefault(part, {})
        if not path:
            return {}
        at[path[-1]] = {}  # the shortest path comes last: reading a whole part outweighs reading within it
    return found


def _checked(values: Mapping[str, Any], schema: Mapping[str, Any], *, what: str) -> Mapping[str, Any]:
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(dict(values)), key=lambda e: e.json_path
    )
    if errors:
        raise ConfigError(f"{what}: " + "; ".join(_problem(error) for error in errors[:3]))
    return values


def _problem(error: jsonschema.ValidationError) -> str:
    """A schema's refusal in words, without the value that it refused."""
    field = ".".join(str(part) for part in error.absolute_path)
    found: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in wanted if name not in found]
            return f"{', '.join(missing)} is required"
        case "additionalProperties":
            schema: Any = error.schema
            known = schema["properties"]
            unknown = sorted(str(name)[:40] for name in found if name not in known)
            return f"{', '.join(unknown[:3])} is not known; known are {', '.join(known)}"
        case "type":
            return f"{field} must be of type {wanted}"
        case "pattern":
            return f"{field} must match {wanted}"
        case rule:
            return f"{field} breaks {rule} {wanted}"


def _converted(value: Any, schema: Mapping[str, Any]) -> Any:
    """A rendered text as the type that the schema wants, where it reads as one."""
    if not isinstance(value, str):
        return value
    match schema.get("type"):
        case "integer" if _INTEGER.fullmatch(value):
            return int(value)
        case "number" if _NUMBER.fullmatch(value):
            return float(value)
        case "boolean" if value in ("true", "false"):
            return value == "true"
        case _:
            return value


_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(resources.files("connectors").joinpath("schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)
