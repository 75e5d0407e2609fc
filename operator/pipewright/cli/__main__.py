"""Deliveries and dead letters from a shell.

    kubectl -n acme create token robot --audience pipewright > token
    python -m pipewright.cli --gateway https://… --token-file token dead-letters list acme/github

Exit status: 0 done, 1 the gateway refused or something is still not understood, 2 wrongly called.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipewright.cli.client import CallFailed, Gateway

LETTERS = "/deadletters"
COMMANDS = {
    "deliveries": {"list": ("list them", "")},
    "dead-letters": {
        "list": ("list them, with the reason", ""),
        "payload": ("print what came; needs a right of its own", "one"),
        "replay": ("take them as if they came now", "some"),
        "discard": ("throw them away; the deliveries stay listed", "some"),
    },
}
"""By what they are about: what each does, and of which it is asked."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]")
"""What a delivery named must not move the cursor of whoever reads it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit status."""
    given = _parser().parse_args(arguments)
    if "all" in given and bool(given.id) == given.all:
        sys.stderr.write("pipewright: give the id of one, or --all\n")
        return 2
    try:
        token = given.token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        sys.stderr.write(f"pipewright: cannot read {given.token_file}: {type(error).__name__}\n")
        return 2
    try:
        return asyncio.run(_run(given, token))
    except CallFailed as failed:
        sys.stderr.write(f"pipewright: {_printable(str(failed))}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipewright.cli",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gateway", required=True, metavar="URL", help="the gateway's address")
    parser.add_argument(
        "--token-file",
        required=True,
        type=Path,
        metavar="FILE",
        help="a token of the cluster for its audience",
    )
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities beside those of the system")
    parser.add_argument("--json", action="store_true", help="a JSON document on each line")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    words = {
        "deliveries": "what came, with its verdict, newest first",
        "dead-letters": "what came and was not understood, oldest first",
    }
    for kind, told in words.items():
        commands = kinds.add_parser(kind, help=told).add_subparsers(
            dest="command", required=True, metavar="COMMAND"
        )
        for name, (help_, which) in COMMANDS[kind].items():
            command = commands.add_parser(name, help=help_)
            command.add_argument("integration", metavar="NAMESPACE/NAME")
            if which == "one":
                command.add_argument("id", metavar="ID")
            if which == "some":
                command.add_argument("id", nargs="?", metavar="ID", help="one of them")
                command.add_argument("--all", action="store_true", help="all of them")
    return parser


async def _run(given: argparse.Namespace, token: str) -> int:
    async with Gateway(
        given.gateway, token=token, integration=given.integration, ca_file=given.ca_file
    ) as gateway:
        match given.kind, given.command:
            case "deliveries", _:
                await _list(gateway, "/deliveries", ("receivedAt", "outcome", "event", "id", "reason"), given)
            case _, "list":
                await _list(gateway, LETTERS, ("receivedAt", "refusals", "event", "id", "reason"), given)
            case _, "payload":
                _print(json.dumps(await gateway.ask("GET", f"{_letter(given.id)}/payload")))
            case _, "replay":
                return await _replay(gateway, given)
            case _:
                which = LETTERS if given.all else _letter(given.id)
                _print(json.dumps(await gateway.ask("DELETE", which)))
    return 0


def _letter(delivery_id: str) -> str:
    return f"{LETTERS}/{quote(delivery_id, safe='')}"


async def _list(gateway: Gateway, path: str, names: Sequence[str], given: argparse.Namespace) -> None:
    if not given.json:
        _row(names)
    async for page in gateway.pages("GET", path):
        for item in page["items"]:
            if given.json:
                _print(json.dumps(item))
            else:
                _row(item[name] for name in names)


async def _replay(gateway: Gateway, given: argparse.Namespace) -> int:
    """What became of them; 1 where some are still there."""
    outcomes: Counter[str] = Counter()
    if not given.all:
        outcomes[(await gateway.ask("POST", f"{_letter(given.id)}/replay"))["outcome"]] += 1
    else:
        async for page in gateway.pages("POST", f"{LETTERS}/replay"):
            outcomes.update(page["outcomes"])
    _print(json.dumps(dict(outcomes)))
    return int(bool(outcomes["refused"] + outcomes["failed"]))


def _row(values: Iterable[Any]) -> None:
    _print("  ".join(_printable(str(value)) for value in values))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
