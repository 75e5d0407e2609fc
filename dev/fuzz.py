"""`make fuzz`: coverage-guided fuzzing of the mappings, with atheris in an environment of its own."""

import os
import platform
import subprocess
import sys

from dev import files, places, uv
from dev.problem import Problem
from dev.progress import Progress

PINNED = "3.0.0"
"""Version of the PyPI package `atheris` (Apache-2.0), which no test and no image needs."""


def main() -> None:
    """Run the fuzzer; its arguments are ours."""
    progress = Progress()
    folder = places.cache() / f"atheris-{PINNED}-python{platform.python_version()}"
    with files.lock(folder.with_suffix(".lock")):
        if not any(folder.glob("lib/python3*/site-packages/atheris")):
            with progress.step(f"atheris {PINNED} into {folder}", announce=True):
                uv.create(folder, packages=[f"atheris=={PINNED}"], progress=progress)
    packages = next(folder.glob("lib/python3*/site-packages"))
    path = f"{places.ROOT / 'operator'}:{places.ROOT}:{packages}"
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
    sys.exit(
        subprocess.run(
            command, cwd=places.ROOT, env={**os.environ, "PYTHONPATH": path}, check=False
        ).returncode
    )


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(str(problem))
