"""Everything that is wrong with a connector, each with its place in the file and what to do about it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import jsonschema
import yaml
from yaml.nodes import Node

from connectors import catalogue, webhook
from connectors.code import Code
from connectors.kit import places, samples
from connectors.kit.places import Spot, Step
from connectors.kit.subjects import Subject
from connectors.manifest import Manifest, Reader
from connectors.mistakes import ManifestError
from connectors.webhook import Webhook
from pipewright.expressions import Condition, Environment, Program, Template, inputs

Severity = Literal["error", "warning"]
MOST: Final = 100
"""Findings of one connector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or should be looked at."""

    file: str
    line: int
    column: int
    severity: Severity
    place: str
    """The path within the file; empty: the file as a whole."""
    message: str
    advice: str = ""

    def text(self) -> str:
        """As compilers tell it."""
        place = f"{self.place}: " if self.place else ""
        advice = f"\n    {self.advice}" if self.advice else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {place}{self.message}{advice}"


def lint(subject: Subject) -> list[Finding]:
    """All findings about a connector, in the order of the file."""
    found = list(_Lint(subject).findings())[:MOST]
    return sorted(found, key=lambda finding: (finding.file, finding.line, finding.column))


class _Collecting(Reader):
    """Goes on after an expression that does not compile: authors want to know of all of them."""

    def __init__(self, where: str, code: Code) -> None:
        super().__init__(where, code)
        self.problems: list[ManifestError] = []

    def template(self, source: str, at: str, environment: Environment | None = None) -> Template:
        """The template, or an empty one."""
        try:
            return super().template(source, at, environment)
        except ManifestError as error:
            self.problems.append(error)
            return Template("", environment or inputs())

    def program(self, source: str, environment: Environment, at: str) -> Program:
        """The program, or null."""
        try:
            return super().program(source, environment, at)
        except ManifestError as error:
            self.problems.append(error)
            return environment.expression("null")

    def condition(self, source: str, environment: Environment, at: str) -> Condition:
        """The condition, or true."""
        try:
            return super().condition(source, environment, at)
        except ManifestError as error:
            self.problems.append(error)
            return environment.condition("true")


class _Lint:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._root: Node | None = None

    def findings(self) -> Iterator[Finding]:
        """All of them, unsorted."""
        subject = self._subject
        if subject.problem:
            yield self._finding((), subject.problem)
            return
        try:
            self._root = places.compose(subject.text)
            data = yaml.safe_load(subject.text)
        except yaml.YAMLError as error:
            yield self._no_yaml(error)
            return
        for spot, name in places.twice(self._root):
            yield self._at(spot, name, "this key is there twice: only this one counts", "Keep one.")
        wrong = list(self._by_schema(data))
        yield from wrong
        if wrong:
            return
        made = yield from self._compiled(data)
        yield from self._names(data)
        yield from self._weak(data)
        if made is not None:
            yield from self._samples(made)

    # --- findings ------------------------------------------------------------------------------------------

    def _finding(
        self, path: Sequence[Step], message: str, advice: str = "", *, severity: Severity = "error"
    ) -> Finding:
        name = ""
        for step in path:
            name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
        return self._at(places.spot(self._root, path), name, message, advice, severity=severity)

    def _at(
        self, spot: Spot, place: str, message: str, advice: str = "", *, severity: Severity = "error"
    ) -> Finding:
        return Finding(
            file=str(self._subject.file),
            line=spot.line,
            column=spot.column,
            severity=severity,
            place=place,
            message=message,
            advice=advice,
        )

    def _no_yaml(self, error: yaml.YAMLError) -> Finding:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        spot = Spot(mark.line + 1, mark.column + 1) if mark is not None else Spot()
        said = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
        return self._at(spot, "", f"no YAML: {said}", "Look at the quotes and the indentation before it.")

    # --- the schema ----------------------------------------------------------------------------------------

    def _by_schema(self, data: Any) -> Iterator[Finding]:
        validator = jsonschema.Draft202012Validator(webhook.schema())
        seen = set[tuple[Step, ...]]()
        for error in validator.iter_errors(data):
            worst = jsonschema.exceptions.best_match([error]) or error
            path = (*worst.absolute_path,)
            for step, message, advice in _explained(worst):
                if (*path, *step) not in seen:
                    seen.add((*path, *step))
                    yield self._finding((*path, *step), message, advice)
        if seen:
            return
        schemas: dict[tuple[Step, ...], Any] = {("config",): data["config"]}
        schemas |= {("actions", name, "input"): act["input"] for name, act in data.get("actions", {}).items()}
        for path, schema in schemas.items():
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
            except jsonschema.SchemaError as error:
                yield self._finding((*path, *error.absolute_path), f"is no JSON Schema: {error.message}")

    # --- what compiles -------------------------------------------------------------------------------------

    def _compiled(self, data: Mapping[str, Any]) -> Generator[Finding, None, Manifest | None]:
        """The findings; returns the manifest where there are none."""
        reader = _Collecting(self._subject.file.name, self._subject.code)
        made: Manifest | None = None
        try:
            made = reader.manifest(data)
        except ManifestError as error:
            reader.problems.append(error)
        for problem in reader.problems:
            yield self._finding(places.steps(problem.place), problem.problem, _advice(problem))
        return made if not reader.problems else None

    # --- beyond what a reader refuses ----------------------------------------------------------------------

    def _names(self, data: Mapping[str, Any]) -> Iterator[Finding]:
        name, wanted = data["metadata"]["name"], self._subject.name
        if name != wanted:
            yield self._finding(
                ("metadata", "name"),
                f"is {name}, but the file or the entry point is called {wanted}",
                "Give both the same name: an Integration's spec.connector names it.",
            )
        own = catalogue.folder()
        if name in catalogue.load() and self._subject.file.resolve().parent != own.resolve():
            yield self._finding(
                ("metadata", "name"),
                f"{name} is a connector of this release, which stays the one that is used",
                "Give yours another name, such as that of your team before it.",
            )

    def _weak(self, data: Mapping[str, Any]) -> Iterator[Finding]:
        proof = data.get("webhook", {}).get("verify", {})
        path = ("webhook", "verify")
        if proof.get("kind") == "none":
            yield self._finding(
                path,
                "nothing proves who sends a delivery",
                "Take another kind if the system has any; users must set spec.webhook.allowUnsigned.",
                severity="warning",
            )
        if proof.get("algorithm") == "sha1":
            yield self._finding(
                (*path, "algorithm"),
                "sha1 is weak",
                "Take sha256 if the system has it.",
                severity="warning",
            )

    def _samples(self, made: Manifest) -> Iterator[Finding]:
        found, wrong = samples.read(self._subject.samples)
        for each in wrong:
            yield Finding(
                file=str(each.file),
                line=each.line,
                column=1,
                severity="error",
                place=each.place,
                message=each.problem,
                advice="docs/connectors/authoring.md has what a sample looks like.",
            )
        if wrong:
            return
        folder = self._subject.samples[-1]
        told = {
            sample.data["event"] for sample in found if sample.kind == "delivery" and sample.data["records"]
        }
        if isinstance(made.webhook, Webhook):
            for name in made.webhook.rules.keys() - told:
                advice = f"Write {folder}/<what-happened>.json with a delivery and the records that it is."
                yield self._finding(("webhook", "events"), f"no sample gives records of {name}", advice)
        if made.sync is not None and not any(sample.kind == "history" for sample in found):
            advice = f"Write {folder}/sync/history.json with the provider's answers and the records."
            yield self._finding(("sync",), "no sample has a history", advice)
        tried = {sample.data["action"] for sample in found if sample.kind == "action"}
        for name in made.actions.keys() - tried:
            advice = f"Write {folder}/actions/{name}.json with the request and the answer."
            yield self._finding(("actions", name), "no sample has it done", advice, severity="warning")


def _explained(error: jsonschema.ValidationError) -> Iterator[tuple[tuple[Step, ...], str, str]]:
    """A schema's refusal: the steps to add to its path, what is wrong, and what to do."""
    found: Any = error.instance
    schema: Any = error.schema
    match error.validator:
        case "additionalProperties" | "unevaluatedProperties" if isinstance(found, dict):
            known = schema.get("properties", {})
            for name in sorted(str(name) for name in found if name not in known):
                said = f"Known are {', '.join(sorted(known))}." if known else ""
                yield (name,), "is not known here", said
        case "required":
            wanted: Any = error.validator_value
            for name in wanted:
                if name not in found:
                    description = schema.get("properties", {}).get(name, {}).get("description", "")
                    yield (), f"{name} is missing", f"Add it. {description}".strip()
        case _:
            yield (
                (),
                error.message[:300],
                str(schema.get("description", "") if isinstance(schema, dict) else ""),
            )


def _advice(problem: ManifestError) -> str:
    if "nothing is called" in problem.problem:
        return "docs/connectors/authoring.md has what each expression may name."
    return ""


def is_error(findings: Sequence[Finding], *, strict: bool) -> bool:
    """Whether these findings refuse the connector."""
    return any(strict or finding.severity == "error" for finding in findings)
