"""What an author's PATH means: a manifest, a folder of them, or a package that brings one by entry point."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connectors import sdk
from connectors.code import Code

PROJECT: Final = "pyproject.toml"


class SubjectError(Exception):
    """PATH leads to nothing that could be checked. The message says what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One connector to be checked, as far as it could be read."""

    name: str
    """What it must be called: by its file, or by its entry point."""
    file: Path
    """Where its manifest is."""
    text: str
    code: Code
    samples: tuple[Path, ...]
    """Folders with samples of it; they need not be there."""
    problem: str = ""
    """Why there is no manifest to be read."""


def find(given: str) -> list[Subject]:
    """The connectors that `given` means.

    Raises:
        SubjectError: there are none.
    """
    path = Path(given)
    if path.is_file() and path.suffix == ".yaml":
        return [_of_file(path)]
    if path.is_dir() and (path / PROJECT).is_file():
        return list(_of_project(path))
    if path.is_dir():
        found = [_of_file(file) for file in sorted(path.glob("*.yaml"))]
        if found:
            return found
        raise SubjectError(f"{given}: there is no manifest (*.yaml) and no {PROJECT} in this folder")
    raise SubjectError(
        f"{given}: give a manifest (*.yaml), a folder of them, or the folder of a package with a {PROJECT}"
    )


def _of_file(file: Path) -> Subject:
    problem, text = "", ""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is no text in UTF-8"
    return Subject(
        name=file.stem,
        file=file,
        text=text,
        code=Code(),
        samples=(file.parent / "fixtures" / file.stem,),
        problem=problem,
    )


def _of_project(folder: Path) -> Iterator[Subject]:
    """The connectors of a package's sources: its code is run, as it is when it is installed."""
    file = folder / PROJECT
    try:
        project: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError) as error:
        raise SubjectError(f"{file}: {error}") from None
    points = project.get("entry-points", {}).get(sdk.GROUP, {})
    if not points:
        raise SubjectError(f'{file}: there is no [project.entry-points."{sdk.GROUP}"]')
    source = str((folder / "src" if (folder / "src").is_dir() else folder).resolve())
    if source not in sys.path:
        sys.path.insert(0, source)
    for name, value in points.items():
        yield _of_point(folder, file, name, str(value))


def _of_point(folder: Path, file: Path, name: str, value: str) -> Subject:
    module, _, attribute = value.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - whatever the author wrote; here its text helps, and nobody else sees it
        problem = f"the entry point {name} = {value} cannot be loaded: {type(error).__name__}: {error}"
        return _nothing(name, file, problem)
    if not isinstance(made, sdk.Connector):
        return _nothing(name, file, f"the entry point {name} = {value} is no connectors.sdk.Connector")
    beside = (made.file.parent / "fixtures" / name,) if made.file is not None else ()
    return Subject(
        name=name,
        file=made.file or Path(made.where),
        text=made.text,
        code=made.code,
        samples=(*beside, folder / "fixtures" / name),
    )


def _nothing(name: str, file: Path, problem: str) -> Subject:
    return Subject(name=name, file=file, text="", code=Code(), samples=(), problem=problem)
