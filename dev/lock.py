"""`make lock`: resolve the requirements and write the lock files, with hashes and without any address.

Versions that are locked already stay unless pyproject.toml excludes them; the runtime's lock binds the
others, so that one version of a package is used everywhere.
"""

import subprocess

from dev import places, uv
from dev.problem import Problem
from dev.progress import Progress

_OPTIONS = (
    "--quiet",
    "--python-version=3.11",
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-header",
)
_RUNTIME = "requirements/runtime.txt"
_KAFKA = "requirements/kafka.txt"
_RAY = "requirements/ray.txt"
_LOCKS = {
    _RUNTIME: ("pyproject.toml",),
    _KAFKA: ("--group", "kafka", "--constraint", _RUNTIME),
    "requirements/dev.txt": (
        "pyproject.toml", "--group", "dev", "--constraint", _RUNTIME, "--constraint", _KAFKA,
    ),
    "requirements/mlflow.txt": ("--group", "mlflow", "--constraint", _RUNTIME),
    _RAY: ("--group", "ray", "--constraint", _RUNTIME),
    "requirements/ray-serve.txt": ("--group", "ray-serve", "--constraint", _RUNTIME, "--constraint", _RAY),
}  # fmt: skip


def write(progress: Progress) -> None:
    """Write every lock file; raises Problem with the resolver's words."""
    compiler = [str(uv.executable(progress)), "pip", "compile", *_OPTIONS]
    for target, sources in _LOCKS.items():
        with progress.step(target):
            done = subprocess.run(
                [*compiler, *sources, "--output-file", target],
                cwd=places.ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise Problem(f"{target} could not be resolved:\n{done.stderr.strip()}")
