"""Feed whatever bytes to a connector's document, identity and mapping, from the catalogue's fixtures on.

    python -m tests.fuzz [CONNECTOR] [-runs=N] [-max_total_time=SECONDS] [CORPUS …]

What a body says is records, `Ignored` or `MappingError`; any other exception ends the run, and its input lies
in `crash-…`. The first byte of an input chooses the connector's fixture whose headers and config go with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["connectors", "pipewright.records", "pipewright.expressions"]):
    from connectors import batches, catalogue, mapping
    from connectors.mapping import Ignored, MappingError
    from connectors.webhook import Webhook
    from pipewright import records

FIXTURES = Path(catalogue.__file__).with_name("catalogue") / "fixtures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A fixture of the catalogue."""

    webhook: Webhook
    config: dict[str, Any]
    headers: dict[str, str]
    event: str
    body: bytes


def seeds(connector: str) -> list[Seed]:
    """The fixtures of a connector, or one of each event of all of them."""
    found: dict[tuple[str, str], list[Seed]] = {}
    for name, manifest in catalogue.load().items():
        for path in sorted((FIXTURES / name).glob("*.json")):
            sample = json.loads(path.read_text())
            config = dict(manifest.completed(sample.get("config", {})))
            webhook = manifest.webhook_of(config)
            if webhook is None or connector not in ("", name):
                continue
            kind = (
                "application/json" if "json" in webhook.body.accepts else "application/x-www-form-urlencoded"
            )
            made = Seed(
                webhook=webhook, config=dict(manifest.plain(config)), event=sample["event"],
                headers={"content-type": kind, **sample.get("headers", {})},
                body=json.dumps(sample["body"], separators=(",", ":")).encode(),
            )  # fmt: skip
            found.setdefault((name, sample["event"]), []).append(made)
    return [each for some in found.values() for each in (some if connector else some[:1])][:256]


def take(seed: Seed, body: bytes) -> None:
    """What the gateway does with a verified body."""
    try:
        parts = batches.split(seed.webhook, headers=seed.headers, raw=body)
        some = (
            [(seed.headers, body, None)]
            if parts is None
            else [(it.headers, it.raw, it.document) for it in parts]
        )
        for headers, raw, parsed in some:
            opened = mapping.open_delivery(seed.webhook, headers=headers, raw=raw, parsed=parsed)
            mapping.map_delivery(seed.webhook, opened, event=seed.event, config=seed.config)
            identity = mapping.identify(seed.webhook, opened, seed.config)
            said = mapping.map_delivery(seed.webhook, opened, event=identity.event, config=seed.config)
            if not isinstance(said, Ignored):
                for _, record in said:
                    assert records.parse_record(records.record_json(record), partial=True) == record
    except MappingError:
        pass  # the sender's fault: a 4xx, or a dead letter


def main(arguments: Sequence[str]) -> None:
    """Fuzz until told otherwise."""
    connector = next((each for each in arguments[1:2] if not each.startswith("-")), "")
    some = seeds(connector)
    if not some:
        raise SystemExit(f"{connector} is no connector with fixtures")
    given = list(arguments[2 if connector else 1 :])
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(some):
            (Path(folder) / f"seed-{number}").write_bytes(bytes([number]) + seed.body)
        atheris.Setup(
            [arguments[0], *given, folder], lambda data: take(some[(data or b"\0")[0] % len(some)], data[1:])
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
