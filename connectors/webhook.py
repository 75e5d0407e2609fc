"""The webhook half of a manifest: how a delivery is proved, opened, told apart and mapped.

Compiled once, with the place of whatever is wrong. The section stands in the manifest, or in an Integration's
config where a connector lets its users write it (`FromConfig`): the same words, checked by the same schema,
under tighter bounds, and compiled once for each text of it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal

import jsonschema

from connectors import registration, verify
from connectors.code import Code, Mapper
from connectors.compiling import Compiler
from connectors.mistakes import ManifestError
from connectors.registration import Registration
from connectors.rules import GIVEN, Reads, RecordRule, reads
from connectors.verify import AnyVerifier, Coded
from pipewright import expressions
from pipewright.expressions import ExpressionError, Program

Accepted = Literal["json", "cloudevent", "form", "text", "batch", "ndjson"]

SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that no expression sees and nobody keeps, whatever proves the sender."""
MAX_TENANT_COST: Final = 20_000_000
"""Units (`expressions.cost`) that all of a user's rules may take for one delivery at worst."""
MAX_ITEMS: Final = 1000
"""Elements of the list that one rule may map."""
MAX_TENANT_ITEMS: Final = 200
"""The same for a user's rule."""
MAX_EVENTS: Final = 1000
"""Events in one body."""
MAX_TENANT_EVENTS: Final = 200
"""The same where a user's rules map them."""
_COMPILED: Final = 256
"""Sections of users that are kept compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """In which shapes the document of a delivery may come."""

    accepts: tuple[Accepted, ...] = ("json",)
    field: str = ""
    """The form's field with the JSON in it."""
    inner: tuple[str, ...] = ()
    """The path of a field that holds JSON as a text, which is read in its place."""
    encoding: Literal["text", "base64"] = "text"
    """Of that text."""
    key_values: str = ""
    """The name of fields that are lists of key and value, which are read as objects."""

    @property
    def several(self) -> bool:
        """Whether one body may hold several events."""
        return "batch" in self.accepts or "ndjson" in self.accepts


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a delivery's id or its event's name is: headers or an expression; neither: nowhere."""

    header: str = ""
    headers: tuple[str, ...] = ()
    """Several that name it together."""
    expression: Program | None = None
    """Beside a header: it sees nothing else."""
    minutes: int = 0
    """Of an id that is nowhere: equal bodies count once in so many minutes by the clock; 0: for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule(RecordRule):
    """What one kind of delivery says about a run, a job or an artifact, or about each of a list of them."""

    name: str
    each: Program | None
    """Gives the list; an element is `item` in the other expressions."""
    reads: Reads | None
    """The parts of a body that `when` and `fields` may read."""

    @property
    def asks(self) -> bool:
        """Whether it has expressions at all."""
        return bool(self.fields) or self.when is not None or self.each is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """How deliveries are verified, told apart and mapped."""

    verify: AnyVerifier
    body: Body
    delivery: Source
    """Nowhere: the id is the digest of the raw body, perhaps with the time."""
    event: Source
    """Nowhere: all deliveries are of the one kind that the rules name."""
    lookup: Mapping[str, Mapping[str, str]]
    rules: Mapping[str, tuple[EventRule, ...]]
    """By the event's name."""
    reads: Mapping[str, Reads | None]
    """By the event's name: the parts of a body that rules without a list, and the lists, may read."""
    identity_reads: Reads | None
    """The parts of a body that tell deliveries apart."""
    by_user: bool = False
    """Whether an Integration's config holds it."""
    coded: frozenset[str] = frozenset()
    """The events whose records the mapper gives, beside those that rules give."""
    mapper: Mapper | None = None
    registration: Registration | None = None
    """How it is made at the provider; None: by a person."""
    hidden: frozenset[str] = field(init=False)
    """The headers that prove the sender: no expression sees them, nobody keeps them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", SECRET_HEADERS | self.verify.proofs)

    @property
    def max_items(self) -> int:
        """How many elements a rule may map of one list."""
        return MAX_TENANT_ITEMS if self.by_user else MAX_ITEMS

    @property
    def max_events(self) -> int:
        """How many events one body may hold."""
        return MAX_TENANT_EVENTS if self.by_user else MAX_EVENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class FromConfig:
    """A webhook that the Integration's config describes, under this key."""

    key: str


def parse(
    data: Mapping[str, Any], compiler: Compiler, *, by_user: bool = False, code: Code | None = None
) -> Webhook:
    """The section, after the schema accepted it; `code` is what came with the manifest.

    Raises:
        ManifestError: an expression does not compile, or the parts do not fit together.
    """
    return _Reader(compiler, by_user=by_user, code=code or Code()).webhook(data)


def resolve(found: Webhook | FromConfig | None, config: Mapping[str, Any]) -> Webhook | None:
    """The webhook of an Integration with this config.

    Raises:
        ManifestError: the config's section is wrong; the message says where.
    """
    if not isinstance(found, FromConfig):
        return found
    section = config.get(found.key)
    made = _of_config(found.key, json.dumps(section, sort_keys=True))
    if isinstance(made, str):
        raise ManifestError(made)
    return made


@functools.lru_cache(maxsize=_COMPILED)
def _of_config(key: str, text: str) -> Webhook | str:
    """The section compiled, or what is wrong with it: kept too, as it is asked before a proof is."""
    try:
        return _compiled(key, json.loads(text))
    except ManifestError as error:
        return str(error)


def _compiled(key: str, data: Any) -> Webhook:
    problem = jsonschema.exceptions.best_match(_user_schema().iter_errors(data))
    if problem is not None:
        place = problem.json_path.removeprefix("$")
        raise ManifestError(f"{key}{place}: {_without_values(problem)}")
    return parse(data, _UserCompiler(key), by_user=True)


class _UserCompiler(Compiler):
    """Places of a config are told as paths of it, on one line."""

    def refused(self, at: str, problem: object) -> ManifestError:
        """The error to raise about a place of the section."""
        if isinstance(problem, ExpressionError):
            problem = f"line {problem.line}, column {problem.column}: {problem.message}"
        return ManifestError(f"{at.replace('webhook', self._where, 1)}: {problem}")


class _Reader:
    def __init__(self, compiler: Compiler, *, by_user: bool, code: Code) -> None:
        self._compiler = compiler
        self._by_user = by_user
        self._code = code
        self._environment = expressions.payloads(of_user=by_user)

    def webhook(self, data: Mapping[str, Any]) -> Webhook:
        proof = self._verify(data["verify"])
        rules: dict[str, tuple[EventRule, ...]] = {}
        coded: set[str] = set()
        for at, rule in enumerate(data["events"]):
            name, place = rule["name"], f"webhook.events[{at}]"
            if "code" in rule:
                if self._code.mapper is None:
                    raise self._compiler.refused(place, "code: no mapper comes with the manifest")
                coded.add(name)
            rules[name] = (*rules.get(name, ()), *(() if "code" in rule else (self._rule(rule, place),)))
        if self._code.mapper is not None and not coded:
            raise self._compiler.refused(
                "webhook.events", "a mapper comes with the manifest, and no event is code"
            )
        delivery = self._source(data["delivery"], "webhook.delivery")
        event = self._source(data.get("event", {}), "webhook.event")
        made = Webhook(
            verify=proof,
            body=_body(data.get("body", {})),
            delivery=delivery,
            event=event,
            lookup=data.get("lookup", {}),
            rules=rules,
            reads={name: reads(_shared(found), "body") for name, found in rules.items()},
            identity_reads=reads(
                [at.expression for at in (delivery, event) if at.expression and not at.header], "body"
            ),
            by_user=self._by_user,
            coded=frozenset(coded),
            mapper=self._code.mapper,
            registration=registration.read(data["registration"], self._compiler)
            if "registration" in data
            else None,
        )
        self._check(made)
        return made

    def _check(self, made: Webhook) -> None:
        for name, source in (("delivery", made.delivery), ("event", made.event)):
            if secret := made.hidden & {source.header, *source.headers}:
                raise self._compiler.refused(
                    f"webhook.{name}.header", f"{', '.join(secret)} proves the sender and is not kept"
                )
        of_all = [name for name in (made.delivery.header, *made.delivery.headers) if name]
        if made.body.several and not all(name.startswith("ce-") for name in of_all):
            raise self._compiler.refused(
                "webhook.delivery.header", "is one of a whole body, and this one may hold several events"
            )
        if "batch" in made.body.accepts and "cloudevent" not in made.body.accepts:
            raise self._compiler.refused("webhook.body.accepts", "with batch there must be cloudevent")
        if made.event == Source() and len(made.rules) > 1:
            raise self._compiler.refused("webhook.events", "without webhook.event all must have one name")
        if bool(made.body.field) != ("form" in made.body.accepts):
            raise self._compiler.refused("webhook.body.field", "a form needs it, and nothing else has it")
        worst = sum(self._worst(rule) for rules in made.rules.values() for rule in rules)
        if self._by_user and worst > MAX_TENANT_COST:
            raise self._compiler.refused(
                "webhook.events", f"may take {worst} steps together, at most {MAX_TENANT_COST} are allowed"
            )

    @staticmethod
    def _worst(rule: EventRule) -> int:
        once = sum(program.cost for program in rule.programs)
        return once if rule.each is None else rule.each.cost + MAX_TENANT_ITEMS * once

    def _source(self, data: Mapping[str, Any], at: str) -> Source:
        found = None
        if "expression" in data:
            found = self._compiler.program(data["expression"], self._environment, f"{at}.expression")
        return Source(
            header=data.get("header", "").lower(),
            headers=tuple(name.lower() for name in data.get("headers", ())),
            expression=found,
            minutes=data.get("digestWithinMinutes", 0),
        )

    def _verify(self, data: Mapping[str, Any]) -> AnyVerifier:
        at = "webhook.verify"
        coded = data["kind"] == "code"
        if coded and self._code.verifier is None:
            raise self._compiler.refused(at, "code: no verifier comes with the manifest")
        if coded:
            return Coded(inner=self._code.verifier)
        if self._code.verifier is not None:
            raise self._compiler.refused(at, "a verifier comes with the manifest, and the kind is not code")
        try:
            return verify.KINDS[data["kind"]](data, lambda source: self._compiler.template(source, at))
        except ManifestError:
            raise
        except ValueError as error:
            raise self._compiler.refused(at, error) from None

    def _rule(self, data: Mapping[str, Any], at: str) -> EventRule:
        each = (
            self._compiler.program(data["each"], self._environment, f"{at}.each") if "each" in data else None
        )
        environment = expressions.payloads(of_user=self._by_user, item=each is not None)
        when = self._compiler.condition(data["when"], environment, f"{at}.when")
        always = when.program.source.strip() == "true"
        given = data["record"] == GIVEN
        if given == ("map" in data) or (given and each is not None):
            raise self._compiler.refused(
                at, f"a record that is {GIVEN} has no map and no each, any other a map"
            )
        fields = {
            name: self._compiler.program(source, environment, f"{at}.map.{name}")
            for name, source in data.get("map", {}).items()
        }
        return EventRule(
            name=data["name"],
            each=each,
            when=None if always else when,
            record=data["record"],
            fields=fields,
            bundle=environment.bundle(list(fields.values()), when=None if always else when)
            if fields
            else None,
            reads=reads([when.program, *fields.values()], "body"),
        )


def _body(data: Mapping[str, Any]) -> Body:
    inner = data.get("inner", {})
    return Body(
        accepts=tuple(data.get("accepts", ("json",))),
        field=data.get("field", ""),
        inner=tuple(inner["field"].split(".")) if inner else (),
        encoding=inner.get("encoding", "text"),
        key_values=data.get("keyValues", ""),
    )


def _shared(rules: Iterable[EventRule]) -> list[Program]:
    """What is asked once for each delivery."""
    return [program for rule in rules for program in (rule.programs if rule.each is None else (rule.each,))]


def _without_values(problem: jsonschema.ValidationError) -> str:
    """A schema's refusal without the value that it refused."""
    wanted: Any = problem.validator_value
    match problem.validator:
        case "required" | "additionalProperties":
            return problem.message[:200]
        case "type":
            return f"must be of type {wanted}"
        case rule:
            return f"breaks {rule} {str(wanted)[:200]}"


@functools.cache
def schema() -> Mapping[str, Any]:
    """The JSON Schema of manifests."""
    text = resources.files("connectors").joinpath("schema.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


@functools.cache
def _user_schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": "#/$defs/userWebhook", "$defs": schema()["$defs"]})
