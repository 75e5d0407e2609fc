"""The first minute on a fresh machine: prerequisites, then `.venv` with the locked packages.

`make init` runs this with the system's Python and nothing installed, so it and what it imports need the
standard library only. A second run costs one start of Python. Everything newer than Python 3.7 is imported
after the check of the version, so that an old Python shows the message and not a syntax error.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Make the environment ready; what a person must do first becomes a message and exit code 1."""
    if sys.version_info < OLDEST:
        print(f"Pipewright needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")
        print("Install one and name it: make init PYTHON=python3.12")
        return 1
    from dev.problem import Problem

    try:
        _init()
    except Problem as problem:
        print(f"\n{problem}")
        return 1
    return 0


def _init() -> None:
    from dev import uv
    from dev.problem import Problem
    from dev.progress import Progress

    missing = [tool for tool in ("git", "make") if shutil.which(tool) is None]
    if missing:
        raise Problem(f"Missing on PATH: {', '.join(missing)}. Debian: apt-get install {' '.join(missing)}")
    environment = ROOT / ".venv"
    uv.environment(environment, lock_file=ROOT / "requirements" / "dev.txt", progress=Progress())
    _sources(environment)
    _libraries()


def _sources(environment: Path) -> None:
    """Make the checkout importable in its environment, as an editable install by hatch would."""
    from dev import files

    wanted = f"{ROOT / 'operator'}\n{ROOT}\n"
    for packages in environment.glob("lib/python3*/site-packages"):
        path = packages / "pipewright.pth"
        if not path.exists() or path.read_text() != wanted:
            files.write(path, wanted, mode=0o644)


def _libraries() -> None:
    """LightGBM's wheel is the one that needs a system library: OpenMP's."""
    import ctypes
    import subprocess

    from dev.problem import Problem

    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing the Debian package libgomp1, which LightGBM needs …")
        done = subprocess.run(["apt-get", "install", "--yes", "--quiet", "libgomp1"], check=False)
        if done.returncode == 0:
            return
    raise Problem("LightGBM needs the system library libgomp.so.1. Debian: apt-get install libgomp1")


if __name__ == "__main__":
    sys.exit(main())
