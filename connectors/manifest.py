"""A connector's manifest: read once, checked whole, every expression compiled, then only used.

A manifest that is wrong anywhere is refused when it loads: by the JSON Schema (`schema.json`), by the types
of its expressions, or by a name that points nowhere. So a request never meets an unknown field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jsonschema
import yaml

from connectors import code as coding
from connectors import finding, http, listing, scopes, webhook
from connectors.code import Code
from connectors.compiling import Compiler
from connectors.finding import Finding
from connectors.http import Http
from connectors.listing import Sync
from connectors.mistakes import ConfigError, ManifestError
from connectors.scopes import Check
from connectors.webhook import FromConfig, Webhook
from pipewright import expressions
from pipewright.expressions import Program, Template

METHODS: Final = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialField:
    """One key of the Secret with a connector's credentials."""

    title: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a workflow step can have done at the provider."""

    name: str
    title: str
    description: str
    method: str
    """Empty: code or an operation does it."""
    path: Template
    operation: str
    """Of the OCI Distribution API (`oci.operations`); empty of anything else."""
    idempotent: bool
    max_response_bytes: int | None
    """None: as `http` says."""
    done: frozenset[int]
    """Answers other than 2xx that say that it is done."""
    find: Finding | None
    """What is asked for before."""
    query: Mapping[str, Template]
    follow: bool
    """Whether a redirect is read where it leads."""
    accept: str
    """Which type of answer is asked for; empty: as `http` says."""
    input: Mapping[str, Any]
    """JSON Schema."""
    body: Mapping[str, Template]
    output: Mapping[str, Program]
    code: coding.Action | None = None

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
    http: Http | None
    """None: the provider is never called, and needs no credentials."""
    check: Check | None
    """As `http`."""
    webhook: Webhook | FromConfig | None
    sync: Sync | None
    actions: Mapping[str, Action]

    def configure(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of an Integration, checked and with the defaults filled in.

        Raises:
            ConfigError: names each setting that is wrong, never its value.
        """
        found = _checked(self.completed(config), self.config, what=f"the config of connector {self.name}")
        self.webhook_of(found)
        return found

    def webhook_of(self, config: Mapping[str, Any]) -> Webhook | None:
        """The webhook of an Integration with this config.

        Raises:
            ConfigError: the config describes it, and wrongly.
        """
        try:
            return webhook.resolve(self.webhook, config)
        except ManifestError as error:
            raise ConfigError(str(error)) from None

    def plain(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings without a webhook that they describe: what expressions see as `config`."""
        own = self.webhook.key if isinstance(self.webhook, FromConfig) else None
        return {name: value for name, value in config.items() if name != own}

    def completed(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings with the defaults filled in, unchecked."""
        defaults = {
            name: schema["default"]
            for name, schema in self.config["properties"].items()
            if "default" in schema
        }
        return {**defaults, **config}


def parse(text: str, *, where: str, code: Code | None = None) -> Manifest:
    """A manifest from YAML; `where` names the file in messages, `code` is what stands in where it says so.

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
        *((key, act["input"]) for key, act in data.get("actions", {}).items()),
    ):
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ManifestError(f"{where}: the schema of {name}: {error.message}") from None
    return Reader(where, code).manifest(data)


class Reader(Compiler):
    """Turns data that the schema accepts into dataclasses."""

    def __init__(self, where: str, code: Code | None = None) -> None:
        super().__init__(where)
        self._code = code or Code()

    def manifest(self, data: Mapping[str, Any]) -> Manifest:
        """The manifest.

        Raises:
            ManifestError: the first thing that is wrong.
        """
        calls, credentials = data.get("http"), data.get("credentials", {})
        self._placed(data)
        return Manifest(
            **{key: data["metadata"][key] for key in ("name", "title", "category", "docs", "maturity")},
            config=data["config"],
            credentials={name: CredentialField(**field) for name, field in credentials.items()},
            http=http.read(calls, credentials=credentials, compiler=self) if calls is not None else None,
            check=scopes.read(data["check"], self) if "check" in data else None,
            webhook=self._webhook(data["webhook"], called=calls is not None) if "webhook" in data else None,
            sync=listing.read(data["sync"], self, lister=self._code.lister) if "sync" in data else None,
            actions={name: self._action(name, action) for name, action in data.get("actions", {}).items()},
        )

    def _webhook(self, data: Mapping[str, Any], *, called: bool) -> Webhook | FromConfig:
        if "config" in data:
            return FromConfig(key=data["config"])
        if "registration" in data and not called:
            raise self.refused("webhook.registration", "a connector that is never called registers nothing")
        return webhook.parse(data, self, code=self._code)

    def _placed(self, data: Mapping[str, Any]) -> None:
        """Pass code for which the manifest has a place."""
        code, hook = self._code, data.get("webhook", {"config": ""})
        if (code.verifier is not None or code.mapper is not None) and "config" in hook:
            raise self.refused("webhook", "a verifier or a mapper comes with a manifest that has no webhook")
        if code.lister is not None and "sync" not in data:
            raise self.refused("sync", "a lister comes with a manifest that has no sync")
        wanted = {name for name, action in data.get("actions", {}).items() if "code" in action}
        for name in sorted(wanted - code.actions.keys()):
            raise self.refused(f"actions.{name}", "code: no action of this name comes with the manifest")
        for name in sorted(code.actions.keys() - wanted):
            raise self.refused(
                "actions", f"{name} comes with the manifest, which has no action of it by code"
            )

    def _action(self, name: str, data: Mapping[str, Any]) -> Action:
        method = next((method for method in METHODS if method in data), "")
        at = f"actions.{name}"
        return Action(
            name=name,
            title=data["title"],
            description=data["description"],
            method=method.upper(),
            path=self.template(data.get(method, ""), f"{at}.{method}"),
            operation=data.get("oci", ""),
            idempotent=data["idempotent"],
            max_response_bytes=data.get("maxResponseBytes"),
            done=frozenset(data.get("done", ())),
            find=finding.read(data["find"], f"{at}.find", self) if "find" in data else None,
            query={
                key: self.template(text, f"{at}.query.{key}") for key, text in data.get("query", {}).items()
            },
            follow=data.get("follow", False),
            accept=data.get("accept", ""),
            input=data["input"],
            body={key: self.template(text, f"{at}.body.{key}") for key, text in data.get("body", {}).items()},
            output={
                key: self.program(source, expressions.answers(), f"{at}.output.{key}")
                for key, source in data["output"].items()
            },
            code=self._code.actions.get(name),
        )


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
    return jsonschema.Draft202012Validator(webhook.schema())
