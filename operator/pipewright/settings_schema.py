"""The JSON Schema of the settings: generated from their types, committed, and checked by `make lint`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipewright.settings import Settings

CHECKOUT = Path(__file__).parents[2]
PLACE = Path("charts/pipewright/files/settings.schema.json")


def text() -> str:
    """The schema as the file has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(by_alias=True),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipewright.settings_schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file differs")
    parser.add_argument("--root", type=Path, default=CHECKOUT, metavar="FOLDER", help="the checkout")
    given = parser.parse_args(arguments)
    path = given.root / PLACE
    if not given.check:
        path.write_text(text(), encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{path} is not what the settings' types say: run `make crds` and commit it\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
