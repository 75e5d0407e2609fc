"""`python -m connectors lint` and `test`: what authors check a connector with, here and in their own CI.

Exit status: 0 nothing is wrong, 1 something is, 2 there was nothing to check.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from connectors import manifest
from connectors.kit import lint, samples, subjects, trials
from connectors.kit.lint import Finding
from connectors.kit.results import Result
from connectors.kit.subjects import Subject, SubjectError
from connectors.manifest import Manifest
from connectors.mistakes import ManifestError
from connectors.webhook import Webhook


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the arguments name; return the exit status."""
    given = _parser().parse_args(arguments)
    try:
        found = [subject for path in given.path for subject in subjects.find(path)]
    except SubjectError as error:
        sys.stderr.write(f"connectors: {error}\n")
        return 2
    if given.command == "lint":
        return _lint(found, strict=given.strict, as_json=given.json)
    return asyncio.run(_test(found, as_json=given.json, verbose=given.verbose))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="connectors", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checks = commands.add_parser("lint", help="tell everything that is wrong with a manifest and its samples")
    checks.add_argument("--strict", action="store_true", help="warnings are errors, too")
    tries = commands.add_parser("test", help="run the samples against their golden results")
    tries.add_argument("-v", "--verbose", action="store_true", help="list what passed, too")
    for command in (checks, tries):
        command.add_argument("path", nargs="+", metavar="PATH", help="manifest, folder, or package's folder")
        command.add_argument("--json", action="store_true", help="one JSON document, for programs")
    return parser


def _lint(found: Sequence[Subject], *, strict: bool, as_json: bool) -> int:
    all_of_them: list[Finding] = [finding for subject in found for finding in lint.lint(subject)]
    wrong = lint.is_error(all_of_them, strict=strict)
    if as_json:
        _print(json.dumps({"ok": not wrong, "findings": [asdict(each) for each in all_of_them]}, indent=2))
    else:
        for finding in all_of_them:
            _print(finding.text())
        errors = sum(finding.severity == "error" for finding in all_of_them)
        _print(f"{len(found)} connectors: {errors} errors, {len(all_of_them) - errors} warnings")
    return int(wrong)


async def _test(found: Sequence[Subject], *, as_json: bool, verbose: bool) -> int:
    results = [result for subject in found for result in await _tried(subject)]
    failed = [result for result in results if result.outcome == "failed"]
    if as_json:
        _print(json.dumps({"ok": not failed, "results": [asdict(each) for each in results]}, indent=2))
        return int(bool(failed))
    for result in results if verbose else failed:
        message = f": {result.message}" if result.message else ""
        _print(f"{result.outcome}: {result.connector} {result.sample}: {result.trial}{message}")
    for reason, trial in sorted(
        {(each.message, each.trial) for each in results if each.outcome == "not covered"}
    ):
        _print(f"not covered: {trial}: {reason}")
    passed = sum(result.outcome == "passed" for result in results)
    _print(f"{len(found)} connectors: {passed} passed, {len(failed)} failed")
    return int(bool(failed))


async def _tried(subject: Subject) -> list[Result]:
    def failed(problem: str, sample: str = "") -> Result:
        return Result(connector=subject.name, sample=sample, trial="read", outcome="failed", message=problem)

    if subject.problem:
        return [failed(subject.problem)]
    try:
        made = manifest.parse(subject.text, where=str(subject.file), code=subject.code)
    except ManifestError as error:
        return [failed(f"{error}; `connectors lint` tells more")]
    found, wrong = samples.read(subject.samples)
    if not found and not wrong and _has_something_to_try(made):
        looked = " and ".join(str(folder) for folder in subject.samples)
        return [failed(f"there are no samples in {looked}")]
    unread = [failed(f"{each.place} {each.problem}".strip(), each.file.name) for each in wrong]
    return [*unread, *await trials.run(made, subject.code, found)]


def _has_something_to_try(made: Manifest) -> bool:
    """Whether there is more than a webhook that users describe."""
    return isinstance(made.webhook, Webhook) or made.http is not None


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
