"""The layout's traps: `operator/` must stay a source root, and the standard library's module must win."""

from __future__ import annotations

import operator
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "path", ["operator/__init__.py", "operator/operator.py", "tests/operator/__init__.py"]
)
def test_nothing_shadows_the_operator_module(path: str) -> None:
    assert not (ROOT / path).exists(), f"{path} breaks Python's own operator module: remove it"


def test_the_operator_module_is_the_standard_librarys() -> None:
    assert operator.add(1, 2) == 3
    answered = subprocess.run(
        [sys.executable, "-c", "import operator, collections; print(operator.add(1, 2))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answered.stdout == "3\n"


def test_no_lock_file_names_a_host() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        lines = lock.read_text().splitlines()
        assert not [line for line in lines if "://" in line or line.startswith(("-i ", "--index", "--find"))]


def test_every_controller_has_the_same_five_files() -> None:
    five = {"handlers.py", "reconcile.py", "observe.py", "plan.py", "objects.py", "__init__.py"}
    for folder in (ROOT / "controllers").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert five <= {path.name for path in folder.iterdir()}, folder.name
            assert len((folder / "reconcile.py").read_text().splitlines()) < 120, folder.name
