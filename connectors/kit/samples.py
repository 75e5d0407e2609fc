"""Samples of a connector: files of JSON with what comes in, and golden results. Read and checked here."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import jsonschema

Kind = Literal["delivery", "history", "action"]
FOLDERS: Final[Mapping[str, Kind]] = {"": "delivery", "sync": "history", "actions": "action"}
"""Below a connector's folder of samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One file that is what it must be."""

    kind: Kind
    file: Path
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One file that is not."""

    file: Path
    line: int
    place: str
    problem: str


def read(folders: Iterable[Path]) -> tuple[list[Sample], list[Wrong]]:
    """All samples in these folders, in order of their names."""
    found: list[Sample] = []
    wrong: list[Wrong] = []
    for folder in folders:
        for name, kind in FOLDERS.items():
            for file in sorted((folder / name).glob("*.json")):
                one = _read(file, kind)
                if isinstance(one, Sample):
                    found.append(one)
                else:
                    wrong.append(one)
    return found, wrong


def _read(file: Path, kind: Kind) -> Sample | Wrong:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return Wrong(file=file, line=error.lineno, place="", problem=f"no JSON: {error.msg}")
    except (OSError, ValueError) as error:
        return Wrong(file=file, line=1, place="", problem=f"cannot be read: {type(error).__name__}")
    problem = jsonschema.exceptions.best_match(_validator(kind).iter_errors(data))
    if problem is not None:
        return Wrong(file=file, line=1, place=problem.json_path, problem=problem.message[:500])
    return Sample(kind=kind, file=file, data=data)


@functools.cache
def _validator(kind: Kind) -> jsonschema.Draft202012Validator:
    text = resources.files("connectors.kit").joinpath("samples.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": json.loads(text)["$defs"]})
